//! The log written and read back, with all that may happen in between.

use std::path::Path;
use std::path::PathBuf;

use rustix::process::Pid;

use super::*;
use crate::container::config::log::Rotation;
use crate::container::log::reader::Reader;
use crate::store::temp::TempDir;
use crate::store::temp::tests::scratch;
use crate::sys::process;
use crate::sys::process::Fork;

struct Place {
    _base: TempDir,
    log: PathBuf,
}

fn place(name: &str) -> Place {
    let base = scratch(name);
    Place {
        log: base.path().join("ctr.log"),
        _base: base,
    }
}

fn writer(log: &Path, driver: Driver, rotation: Option<Rotation>) -> Writer {
    let mut file = LogFile::open(log, rotation).unwrap();
    let mut encoder = Encoder::new(driver, None);
    close_lines(&mut file, &mut encoder);
    Writer {
        target: Target::File(Box::new((file, encoder))),
        partial: [vec![], vec![]],
    }
}

fn entries(mut reader: Reader) -> Vec<(Stream, bool, String)> {
    let mut found = Vec::new();
    while let Some(entry) = reader.read().unwrap() {
        let text = String::from_utf8_lossy(&entry.text).into_owned();
        found.push((entry.stream, entry.whole, text));
        reader.taken();
    }
    found
}

fn all(log: &Path, driver: Driver) -> Vec<(Stream, bool, String)> {
    entries(Reader::new(log, driver))
}

fn texts(reader: Reader) -> Vec<String> {
    entries(reader)
        .into_iter()
        .map(|(_, _, text)| text)
        .collect()
}

const DRIVERS: [Driver; 2] = [Driver::K8sFile, Driver::JsonFile];

#[test]
fn lines_are_joined_from_pieces_and_streams_are_kept_apart() {
    for driver in DRIVERS {
        let place = place("log-lines");
        let mut writer = writer(&place.log, driver, None);
        writer.write(Stream::Stdout, b"one\ntw");
        writer.write(Stream::Stderr, b"err \"quoted\" \x1b\n");
        writer.write(Stream::Stdout, b"o\n\nend");
        writer.finish();
        let expected = [
            (Stream::Stdout, true, "one"),
            (Stream::Stderr, true, "err \"quoted\" \x1b"),
            (Stream::Stdout, true, "two"),
            (Stream::Stdout, true, ""),
            (Stream::Stdout, false, "end"),
        ];
        assert_eq!(
            all(&place.log, driver),
            expected.map(|(a, b, c)| (a, b, c.to_owned()))
        );
    }
}

#[test]
fn a_long_line_is_written_in_parts() {
    for driver in DRIVERS {
        let place = place("log-long");
        let mut writer = writer(&place.log, driver, None);
        writer.write(Stream::Stdout, &vec![b'x'; 40_000]);
        writer.write(Stream::Stdout, b"\n");
        let lengths: Vec<(bool, usize)> = all(&place.log, driver)
            .iter()
            .map(|(_, whole, text)| (*whole, text.len()))
            .collect();
        let rest = 40_000 - 2 * PART;
        assert_eq!(lengths, [(false, PART), (false, PART), (true, rest)]);
    }
}

#[test]
fn a_line_left_open_ends_before_the_next_run() {
    for driver in DRIVERS {
        let place = place("log-open-line");
        let mut first = writer(&place.log, driver, None);
        first.write(Stream::Stdout, b"no end");
        first.finish();
        let mut second = writer(&place.log, driver, None);
        second.write(Stream::Stdout, b"next\n");
        let expected = [(false, "no end"), (true, ""), (true, "next")];
        assert_eq!(
            all(&place.log, driver),
            expected.map(|(whole, text)| (Stream::Stdout, whole, text.to_owned()))
        );
    }
}

#[test]
fn what_a_crash_has_cut_off_is_no_record_and_takes_none_along() {
    for (driver, torn) in [
        (Driver::K8sFile, "2026-01-01T00:00:00.000000000+00:00 std"),
        (Driver::JsonFile, "{\"log\":\"half"),
    ] {
        let place = place("log-torn");
        writer(&place.log, driver, None).write(Stream::Stdout, b"one\n");
        let mut file = std::fs::File::options()
            .append(true)
            .open(&place.log)
            .unwrap();
        std::io::Write::write_all(&mut file, torn.as_bytes()).unwrap();
        assert_eq!(texts(Reader::new(&place.log, driver)), ["one"]);
        writer(&place.log, driver, None).write(Stream::Stdout, b"two\n");
        assert_eq!(texts(Reader::new(&place.log, driver)), ["one", "two"]);
    }
}

fn rotation(size: u64, files: u32, compress: bool) -> Rotation {
    Rotation {
        size,
        files,
        compress,
    }
}

/// Waits for the process that compresses, until nothing is left to do.
fn settle(writer: &mut Writer) {
    while let Some(helper) = writer.helper() {
        crate::sys::poll::readable([Some(helper)], None).unwrap();
        writer.reap();
    }
}

#[test]
fn as_many_files_stay_as_are_wanted() {
    for files in [1, 2, 5] {
        let place = place("log-files");
        let mut writer = writer(
            &place.log,
            Driver::K8sFile,
            Some(rotation(1000, files, false)),
        );
        for number in 0..1000 {
            writer.write(Stream::Stdout, format!("{number}\n").as_bytes());
        }
        let names = std::fs::read_dir(place.log.parent().unwrap()).unwrap();
        let sizes: Vec<u64> = names
            .map(|name| name.unwrap().metadata().unwrap().len())
            .collect();
        assert_eq!(sizes.len(), files as usize);
        assert!(sizes.iter().all(|size| *size <= 1000), "{sizes:?}");
        let texts = texts(Reader::new(&place.log, Driver::K8sFile));
        let first: usize = texts[0].parse().unwrap();
        let expected: Vec<String> = (first..1000).map(|number| number.to_string()).collect();
        assert_eq!(texts, expected);
    }
}

#[test]
fn the_last_lines_are_found_in_files_of_all_kinds() {
    let place = place("log-tail");
    // In a process of one thread, as the supervisor is.
    in_child(|| {
        let mut writer = writer(&place.log, Driver::K8sFile, Some(rotation(1000, 100, true)));
        for number in 0..300 {
            writer.write(Stream::Stdout, format!("{number}\n").as_bytes());
        }
        settle(&mut writer);
        for number in 300..350 {
            writer.write(Stream::Stdout, format!("{number}\n").as_bytes());
        }
        writer.close();
    });
    let full = segments::list(&place.log).unwrap();
    assert!(full.iter().any(|file| file.packed) && full.iter().any(|file| file.plain));
    for count in [0, 1, 5, 40, 200, 349, 350, 1000] {
        let reader = Reader::last_lines(&place.log, Driver::K8sFile, count).unwrap();
        let first = 350_usize.saturating_sub(count);
        let expected: Vec<String> = (first..350).map(|number| number.to_string()).collect();
        assert_eq!(texts(reader), expected, "{count}");
    }
}

#[test]
fn the_last_lines_of_a_large_file_are_found_and_an_open_line_is_one() {
    let place = place("log-tail-large");
    let mut writer = writer(&place.log, Driver::K8sFile, None);
    for number in 0..10_000 {
        writer.write(Stream::Stdout, format!("{number}\n").as_bytes());
    }
    writer.write(Stream::Stdout, b"open");
    writer.finish();
    for count in [1, 2, 3000, 9_999] {
        let found = texts(Reader::last_lines(&place.log, Driver::K8sFile, count).unwrap());
        assert_eq!(found.len(), count);
        assert_eq!(found[count - 1], "open");
    }
}

/// Runs a part of a test in a process of its own, which has one thread.
fn in_child(work: impl FnOnce()) {
    ended(spawn(work));
}

fn ended(child: Pid) {
    assert_eq!(wait(child).exit_status(), Some(0));
}

fn wait(child: Pid) -> rustix::process::WaitStatus {
    let waited = rustix::process::waitpid(Some(child), rustix::process::WaitOptions::empty());
    waited.unwrap().unwrap().1
}

fn spawn(work: impl FnOnce()) -> Pid {
    match process::plain_fork().unwrap() {
        Fork::Parent(child) => child,
        Fork::Child => {
            let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
            process::exit_now(i32::from(done.is_err()))
        }
    }
}

#[test]
fn a_follower_reads_each_line_once_while_files_are_put_aside_and_compressed() {
    const LINES: u64 = 100_000;
    for (driver, compress) in [(Driver::K8sFile, true), (Driver::JsonFile, false)] {
        let place = place("log-follow");
        let log = &place.log;
        writer(log, driver, None);
        let child = spawn(|| {
            let mut writer = writer(log, driver, Some(rotation(50_000, 1000, compress)));
            for number in 0..LINES {
                writer.write(Stream::Stdout, format!("{number}\n").as_bytes());
                if let Some(helper) = writer.helper()
                    && crate::sys::poll::readable([Some(helper)], Some(std::time::Duration::ZERO))
                        .is_ok_and(|[ready]| ready)
                {
                    writer.reap();
                }
            }
            writer.close();
        });
        let mut reader = Reader::new(log, driver);
        let mut expected = 0;
        while expected < LINES {
            match reader.read().unwrap() {
                Some(entry) => {
                    assert_eq!(entry.text, expected.to_string().as_bytes());
                    expected += 1;
                    reader.taken();
                }
                None => std::thread::sleep(std::time::Duration::from_millis(1)),
            }
        }
        ended(child);
        assert_eq!(all(log, driver).len() as u64, LINES);
        assert!(segments::list(log).unwrap().len() > 10);
    }
}

/// At any moment: what was written before is read back, each line once, and the next writer goes on.
#[test]
fn a_writer_that_is_killed_while_it_rotates_loses_nothing() {
    let place = place("log-killed");
    let log = &place.log;
    let mut next = 0;
    for round in 0..40_u64 {
        let (read, write) = rustix::pipe::pipe().unwrap();
        let child = spawn(|| {
            let mut writer = writer(log, Driver::K8sFile, Some(rotation(1000, 100_000, true)));
            for number in next.. {
                writer.write(Stream::Stdout, format!("{number}\n").as_bytes());
                rustix::io::write(&write, b".").unwrap();
                if let Some(helper) = writer.helper()
                    && crate::sys::poll::readable([Some(helper)], Some(std::time::Duration::ZERO))
                        .is_ok_and(|[ready]| ready)
                {
                    writer.reap();
                }
            }
        });
        drop(write);
        rustix::io::read(&read, &mut [0]).unwrap();
        std::thread::sleep(std::time::Duration::from_micros(round * 97 % 3000));
        rustix::process::kill_process(child, rustix::process::Signal::KILL).unwrap();
        wait(child);
        let texts = texts(Reader::new(log, Driver::K8sFile));
        let expected: Vec<String> = (0..texts.len()).map(|number| number.to_string()).collect();
        assert_eq!(texts, expected);
        // Told before it was killed, plus the first.
        let mut told = 1;
        let mut buffer = [0; 4096];
        while let Ok(count @ 1..) = rustix::io::read(&read, &mut buffer) {
            told += count;
        }
        assert!(texts.len() >= next + told, "{} {next} {told}", texts.len());
        next = texts.len();
    }
}

#[test]
fn what_a_full_disk_does_not_take_is_told_later() {
    let place = place("log-full");
    let log = &place.log;
    in_child(|| {
        // Linux: a file larger than RLIMIT_FSIZE is refused with EFBIG, where SIGXFSZ is ignored.
        crate::sys::signal::block_all().unwrap();
        let mut writer = writer(log, Driver::K8sFile, None);
        writer.write(Stream::Stdout, b"one\n");
        let length = log.metadata().unwrap().len();
        crate::sys::limits::set("RLIMIT_FSIZE", length + 10, length + 100_000).unwrap();
        writer.write(Stream::Stdout, b"two\nthree\n");
        assert_eq!(log.metadata().unwrap().len(), length);
        writer.write(Stream::Stdout, b"four\n");
        crate::sys::limits::set("RLIMIT_FSIZE", length + 100_000, length + 100_000).unwrap();
        writer.write(Stream::Stdout, b"five\n");
    });
    assert_eq!(
        texts(Reader::new(log, Driver::K8sFile)),
        [
            "one",
            "rbox: 3 records of this log were lost: File too large (os error 27)",
            "five"
        ]
    );
}
