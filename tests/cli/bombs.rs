//! Layers that are small on the way and endless when unpacked: no process gets large, the disk does not
//! fill, and time goes with the bytes.
use std::io::Write;
use std::time::Duration;
use std::time::Instant;

use crate::support::Rbox;
use crate::support::archive::Entry;
use crate::support::archive::Tar;
use crate::support::hostile;
use crate::support::hostile::Image;
use crate::support::processes;
use crate::support::random;

const MIB: usize = 1 << 20;
/// In KiB; the test programs carry their symbols.
const MEMORY_MAX: u64 = 64 << 10;

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zstd(bytes: &[u8], window_log: u32) -> Vec<u8> {
    let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
    encoder.window_log(window_log).unwrap();
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// A layer whose entry promises so many zeros, which come in pieces that are packed one by one.
fn zeros(gibibytes: usize, pack: &dyn Fn(&[u8]) -> Vec<u8>) -> Vec<u8> {
    let mut tar = Tar::default();
    tar.entry(&Entry {
        path: b"zeros",
        pax: &[("size", format!("{}", gibibytes << 30).as_bytes())],
        ..Entry::default()
    });
    let mut head = tar.finish();
    head.truncate(head.len() - 1024);
    let piece = pack(&vec![0; 64 * MIB]);
    let mut layer = pack(&head);
    for _ in 0..gibibytes * 16 {
        layer.extend_from_slice(&piece);
    }
    layer.extend(pack(&[0; 1024]));
    layer
}

/// Loads an image of this layer, whose files' digest nobody has computed, and returns what is said and
/// the largest memory of any process, in KiB.
fn load(rbox: &Rbox, layer: Vec<u8>) -> (String, u64) {
    let mut image = Image::of(vec![layer]);
    image.diff_ids = Some(vec![hostile::digest(b"nobody knows")]);
    let path = image.save(rbox);
    let running = rbox
        .args(["load", "-q", "-i"])
        .arg(path)
        .stderr_any()
        .status(125)
        .limit(Duration::from_mins(5))
        .spawn();
    let pid = running.pid();
    let mut largest = 0;
    let is_there = || {
        std::fs::read_to_string(format!("/proc/{pid}/stat"))
            .is_ok_and(|stat| !stat.contains(") Z "))
    };
    while is_there() {
        for process in processes::of(rbox.dir()) {
            let status = std::fs::read_to_string(format!("/proc/{}/status", process.pid));
            let peak = status.ok().and_then(|status| {
                let line = status
                    .lines()
                    .find_map(|line| line.strip_prefix("VmHWM:"))?;
                line.trim().strip_suffix(" kB")?.parse().ok()
            });
            largest = largest.max(peak.unwrap_or(0));
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    (running.wait().stderr, largest)
}

/// With RBOX_TEST_BOMB=10: ten gibibytes.
#[test]
fn endless_zeros_cost_neither_memory_nor_disk() {
    let gibibytes = random::count("RBOX_TEST_BOMB", 1) as usize;
    for (name, layer) in [
        ("gzip", zeros(gibibytes, &gzip)),
        (
            "zstd, large window",
            zeros(gibibytes, &|bytes| zstd(bytes, 25)),
        ),
    ] {
        let rbox = Rbox::new();
        let (said, memory) = load(&rbox, layer);
        assert!(said.contains("its files have the digest"), "{name}: {said}");
        assert!((1000..MEMORY_MAX).contains(&memory), "{name}: {memory} KiB");
        random::tell(&format!("{name}: {memory} KiB"));
    }
}

#[test]
fn a_window_that_would_need_much_memory_is_refused() {
    let rbox = Rbox::new();
    let (said, memory) = load(&rbox, zeros(1, &|bytes| zstd(bytes, 27)));
    assert!(said.contains("memory"), "{said}");
    assert!(memory < MEMORY_MAX, "{memory} KiB");
}

/// CVE-2026-95838, and what grows with the number of entries.
#[test]
fn many_entries_cost_time_in_line_and_no_memory() {
    let packed = |head: &[u8], piece: &[u8], times: usize| {
        [gzip(head), gzip(piece).repeat(times), gzip(&[0; 1024])].concat()
    };
    let cut = |tar: &mut Tar| {
        let mut bytes = tar.finish();
        bytes.truncate(bytes.len() - 1024);
        bytes
    };
    let mut head = Tar::default();
    let mut opaque = Tar::default();
    let mut directories = Tar::default();
    for number in 0..10_000 {
        if number < 1000 {
            head.file(&format!("d/{number}"), 0o644, b"");
        }
        opaque.file("d/.wh..wh..opq", 0, b"");
        directories.dir(&format!("{}/{number}", "long-name".repeat(9)), 0o755);
    }
    let head = cut(&mut head);
    for (name, layer) in [
        ("opaque", packed(&head, &cut(&mut opaque), 100)),
        ("directories", packed(&head, &cut(&mut directories), 20)),
    ] {
        let rbox = Rbox::new();
        let start = Instant::now();
        let (said, memory) = load(&rbox, layer);
        let taken = start.elapsed();
        assert!(said.contains("its files have the digest"), "{name}: {said}");
        assert!(memory < MEMORY_MAX, "{name}: {memory} KiB");
        assert!(taken < Duration::from_mins(2), "{name}: {taken:?}");
        random::tell(&format!("{name}: {memory} KiB, {taken:?}"));
    }
}

#[test]
fn names_and_trees_without_end_are_refused() {
    for (path, word) in [
        ("a/".repeat(50_000), "File name too long"),
        ("a".repeat(100_000), "File name too long"),
        ("a".repeat(2 << 20), "1048576 are allowed"),
    ] {
        let rbox = Rbox::new();
        let mut tar = Tar::default();
        tar.file(&path, 0o644, b"x");
        let (said, memory) = load(&rbox, tar.finish());
        assert!(said.contains(word) && said.len() < 1000, "{said}");
        assert!(memory < MEMORY_MAX, "{memory} KiB");
    }
}

/// A chain of links makes a tree deeper than any path may be long; all that walks it gets through.
#[test]
fn a_tree_deeper_than_paths_may_be_is_used_and_removed() {
    let rbox = Rbox::new();
    let mut tar = Tar::default();
    let part = "d/".repeat(1500);
    let mut link = String::new();
    for number in 0..2 {
        tar.dir(&format!("{link}{part}"), 0o755);
        let next = format!("l{number}");
        // Each link leads on from the end of the one before.
        tar.symlink(&next, &format!("{link}{part}"));
        link = format!("{next}/");
    }
    tar.file(&format!("{link}file"), 0o644, b"deep");
    Image::busybox().layer(&mut tar).load(&rbox);
    rbox.args(["run", "--rm", "odd", "cat", "l1/file"])
        .stdout("deep")
        .run();
    rbox.args(["system", "df"]).stdout_any().run();
    rbox.args(["rmi", "odd"]).stdout_any().run();
}
