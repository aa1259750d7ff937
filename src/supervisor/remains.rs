//! What is left of a container when its first process has ended, where no process namespace of its own
//! takes the rest along: with `--pid host` or another container's.
//!
//! Every process of a container, also one that `exec` started, is in its mount namespace, which is
//! always its own; one that left that is still a child of ours, since we are the reaper of what our
//! children leave behind. Both kinds are killed until none is found.

use std::fs;
use std::os::fd::AsFd;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;
use std::time::Instant;

use rustix::process::Pid;
use rustix::process::PidfdFlags;
use rustix::process::WaitOptions;

use crate::sys::signal;

/// A container that makes processes faster than they are killed is left alone after this time.
const LIMIT: Duration = Duration::from_secs(10);

pub struct Remains {
    /// What the links to the mount namespace say; the descriptor keeps its number from being given again.
    mounts: PathBuf,
    _kept: OwnedFd,
}

impl Remains {
    /// Of the container with this mount namespace.
    pub fn of(mounts: OwnedFd) -> anyhow::Result<Remains> {
        // Linux: the link of a namespace names the inode (namespaces(7)).
        let inode = rustix::fs::fstat(&mounts)?.st_ino;
        Ok(Remains {
            mounts: format!("mnt:[{inode}]").into(),
            _kept: mounts,
        })
    }

    /// Kills and reaps all of them, but for a child that is none of the container's.
    pub fn end(&self, spared: Option<Pid>) {
        let deadline = Instant::now() + LIMIT;
        loop {
            let killed = self.kill_all(spared);
            while let Ok(Some(_)) = rustix::process::wait(WaitOptions::NOHANG) {}
            if killed == 0 || Instant::now() >= deadline {
                return;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// How many were found alive.
    fn kill_all(&self, spared: Option<Pid>) -> usize {
        let Ok(list) = fs::read_dir("/proc") else {
            return 0;
        };
        let ours = rustix::process::getpid();
        list.flatten()
            .filter_map(|entry| Pid::from_raw(entry.file_name().to_str()?.parse().ok()?))
            .filter(|pid| *pid != ours && Some(*pid) != spared && self.kill(*pid, ours).is_some())
            .count()
    }

    fn kill(&self, pid: Pid, ours: Pid) -> Option<()> {
        // Opened before the look: what is killed is what was looked at.
        let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::empty()).ok()?;
        let dir = PathBuf::from(format!("/proc/{}", pid.as_raw_pid()));
        let stat = fs::read_to_string(dir.join("stat")).ok()?;
        // proc(5): after the name in parentheses the state, then the parent.
        let mut fields = stat.rsplit_once(") ")?.1.split(' ');
        let (state, parent) = (fields.next()?, fields.next()?);
        let is_child = parent == ours.as_raw_pid().to_string();
        let is_dead = state == "Z" || state == "X";
        if is_dead || !(is_child || self.holds(&dir)) {
            return None;
        }
        signal::send(pidfd.as_fd(), libc::SIGKILL).ok()
    }

    fn holds(&self, dir: &Path) -> bool {
        fs::read_link(dir.join("ns/mnt")).is_ok_and(|link| link == self.mounts)
    }
}
