//! The processes that one has started, and those have: found in /proc, and killed.

use std::collections::HashSet;
use std::fs;
use std::os::fd::AsFd;

use rustix::process::Pid;
use rustix::process::PidfdFlags;

use crate::sys::signal;

/// One that makes processes faster than they are killed is left after so many looks.
const ROUNDS: usize = 20;

struct Process {
    pid: i32,
    parent: i32,
    session: i32,
}

/// Kills a process, its children and theirs, and what is in its session. What has left the session and whose
/// parent has ended cannot be told from others.
///
/// Must: be called while the process is there, if only as a zombie: its pid is its own then.
pub fn kill(leader: Pid) {
    let leader = leader.as_raw_pid();
    for _ in 0..ROUNDS {
        let all = all();
        let mut doomed = HashSet::from([leader]);
        loop {
            let more: Vec<i32> = all
                .iter()
                .filter(|one| doomed.contains(&one.parent) || one.session == leader)
                .map(|one| one.pid)
                .filter(|pid| !doomed.contains(pid))
                .collect();
            if more.is_empty() {
                break;
            }
            doomed.extend(more);
        }
        let killed = all
            .iter()
            .filter(|one| doomed.contains(&one.pid) && end(one).is_some())
            .count();
        if killed == 0 {
            return;
        }
    }
}

/// Those that live.
fn all() -> Vec<Process> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return vec![];
    };
    let pids = entries.flatten();
    let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter_map(look).collect()
}

fn look(pid: i32) -> Option<Process> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // proc(5): after the name in parentheses the state, the parent, the process group and the session.
    let mut fields = stat.rsplit_once(") ")?.1.split(' ');
    let state = fields.next()?;
    let parent = fields.next()?.parse().ok()?;
    let session = fields.nth(1)?.parse().ok()?;
    (state != "Z" && state != "X").then_some(Process {
        pid,
        parent,
        session,
    })
}

fn end(known: &Process) -> Option<()> {
    let pid = Pid::from_raw(known.pid)?;
    let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::empty()).ok()?;
    // What is killed is what was looked at.
    let now = look(known.pid)?;
    if (now.parent, now.session) != (known.parent, known.session) {
        return Some(());
    }
    signal::send(pidfd.as_fd(), libc::SIGKILL).ok()
}
