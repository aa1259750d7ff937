//! Finds every process that belongs to one test, by traces of the test's directory:
//! environment, arguments, current and root directory, executable, open files, and the
//! mounts of its namespace; and the children of such processes.
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::path::PathBuf;

pub struct Process {
    pub pid: i32,
    parent: i32,
    state: char,
}

/// The processes of the test in `dir`, without zombies: those are their parents' matter.
pub fn of(dir: &Path) -> Vec<Process> {
    // The end of the name belongs to it: there may be rb.1.1 and rb.1.11.
    let mark = format!("{}/", dir.display());
    let mark = mark.as_bytes();
    let own_mounts = fs::read_link("/proc/self/ns/mnt").unwrap();
    let own = i32::try_from(std::process::id()).unwrap();
    let all: Vec<Process> = all().into_iter().filter(|p| p.pid != own).collect();
    let mut found: BTreeSet<i32> = all
        .iter()
        .filter(|process| is_marked(process.pid, mark, &own_mounts))
        .map(|process| process.pid)
        .collect();
    loop {
        let before = found.len();
        for process in &all {
            if found.contains(&process.parent) {
                found.insert(process.pid);
            }
        }
        if found.len() == before {
            break;
        }
    }
    all.into_iter()
        .filter(|process| found.contains(&process.pid) && process.state != 'Z')
        .collect()
}

fn all() -> Vec<Process> {
    fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| read(entry.ok()?.file_name().to_str()?.parse().ok()?))
        .collect()
}

fn read(pid: i32) -> Option<Process> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = stat.rsplit_once(") ")?;
    let mut fields = rest.split(' ');
    Some(Process {
        pid,
        state: fields.next()?.chars().next()?,
        parent: fields.next()?.parse().ok()?,
    })
}

/// A store that a test mounts for itself (`DIR/data`) is seen for a moment in every namespace that is made
/// meanwhile, and marks nobody.
fn is_marked(pid: i32, mark: &[u8], own_mounts: &Path) -> bool {
    let store = [mark, b"data"].concat();
    let base = PathBuf::from(format!("/proc/{pid}"));
    let in_file = |name| fs::read(base.join(name)).is_ok_and(|bytes| contains(&bytes, mark));
    let in_link = |path: PathBuf| {
        fs::read_link(path)
            .is_ok_and(|target| contains(target.as_os_str().as_encoded_bytes(), mark))
    };
    let elsewhere = fs::read_link(base.join("ns/mnt")).is_ok_and(|ns| ns != own_mounts);
    in_file("environ")
        || in_file("cmdline")
        || ["cwd", "root", "exe"]
            .iter()
            .any(|name| in_link(base.join(name)))
        || (elsewhere
            && fs::read(base.join("mountinfo")).is_ok_and(|bytes| {
                bytes.split(|byte| *byte == b'\n').any(|line| {
                    let place = line.split(|byte| *byte == b' ').nth(4);
                    contains(line, mark) && !place.is_some_and(|place| place.ends_with(&store))
                })
            }))
        || fs::read_dir(base.join("fd")).is_ok_and(|fds| fds.flatten().any(|fd| in_link(fd.path())))
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack
        .windows(needle.len())
        .any(|window| window == needle)
}

pub fn kill_all(dir: &Path) {
    for _ in 0..20 {
        let left = of(dir);
        if left.is_empty() {
            return;
        }
        for process in left {
            if let Some(pid) = rustix::process::Pid::from_raw(process.pid) {
                // It may have ended since it was listed.
                rustix::process::kill_process(pid, rustix::process::Signal::KILL).ok();
            }
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
}

/// Those of a test that call themselves so: "rbox: " are supervisors, "rbox-net: " their network processes.
pub fn called(dir: &Path, beginning: &str) -> Vec<Process> {
    let mut found = of(dir);
    found.retain(|process| {
        let name = fs::read_to_string(format!("/proc/{}/comm", process.pid));
        name.is_ok_and(|name| name.starts_with(beginning))
    });
    found
}

/// What a person needs to see of processes that hang or were left behind.
pub fn describe(processes: &[Process]) -> String {
    let mut out = String::new();
    for process in processes {
        let base = PathBuf::from(format!("/proc/{}", process.pid));
        let read = |name: &str| fs::read_to_string(base.join(name)).unwrap_or_default();
        writeln!(
            out,
            "  pid {} parent {} state {} [{}] {}",
            process.pid,
            process.parent,
            process.state,
            read("comm").trim(),
            read("cmdline").replace('\0', " "),
        )
        .unwrap();
        // A process that hangs waits in one of its threads for something, and in the others for that one.
        for thread in fs::read_dir(base.join("task"))
            .into_iter()
            .flatten()
            .flatten()
        {
            describe_thread(&mut out, &thread.path());
        }
    }
    out
}

/// System calls that wait for what their first argument says.
const ON_DESCRIPTORS: [i64; 6] = [
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_recvfrom,
    libc::SYS_sendto,
    libc::SYS_flock,
    libc::SYS_fcntl,
];

fn describe_thread(out: &mut String, task: &Path) {
    let read = |name: &str| fs::read_to_string(task.join(name)).unwrap_or_default();
    let (place, syscall) = (read("wchan"), read("syscall"));
    writeln!(
        out,
        "    thread {} in {place} syscall {}",
        task.file_name().unwrap().display(),
        syscall.trim()
    )
    .unwrap();
    let mut words = syscall.split(' ');
    let number = words.next().and_then(|number| number.parse().ok());
    let argument = words.next().unwrap_or_default().trim_start_matches("0x");
    if number.is_some_and(|number| ON_DESCRIPTORS.contains(&number))
        && let Ok(descriptor) = u64::from_str_radix(argument, 16)
        && let Ok(file) = fs::read_link(task.join(format!("fd/{descriptor}")))
    {
        writeln!(out, "      on {}", file.display()).unwrap();
    }
    for line in read("stack").lines().take(6) {
        writeln!(out, "      {line}").unwrap();
    }
}
