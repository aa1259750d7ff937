//! The processes that one has started, and those have: found in /proc, and killed.

use std::collections::HashSet;
use std::fs;
use std::os::fd::AsFd;

use rustix::process::Pid;

use crate::sys::process;
use crate::sys::signal;

/// One that makes processes faster than they are killed is left after so many looks.
const ROUNDS: usize = 20;

struct Process {
    pid: i32,
    parent: i32,
    session: i32,
    start: u64,
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
    // proc(5): after the name in parentheses field 3, the state; 4 the parent, 6 the session, 22 the start.
    let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect();
    let number = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
    let id = |field| i32::try_from(number(field)?).ok();
    let is_dead = fields[0] == "Z" || fields[0] == "X";
    (!is_dead).then_some(Process {
        pid,
        parent: id(4)?,
        session: id(6)?,
        start: number(22)?,
    })
}

/// By its start, which with the pid names one process for ever: its parent may have been killed just now.
fn end(known: &Process) -> Option<()> {
    let pidfd = process::open_started(known.pid, known.start)?;
    signal::send(pidfd.as_fd(), libc::SIGKILL).ok()
}
