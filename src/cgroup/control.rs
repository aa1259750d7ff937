//! What is done to all processes of a group at once: freezing, thawing, killing, listing.

use std::os::fd::AsFd;
use std::os::fd::OwnedFd;
use std::time::Duration;
use std::time::Instant;

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use rustix::event::PollFlags;
use rustix::io::Errno;
use rustix::process::Pid;
use rustix::process::Signal;

use crate::cgroup::Group;
use crate::sys::poll;

/// For how long a group may take to stand still: a process in uninterruptible sleep holds it up.
const FREEZE_LIMIT: Duration = Duration::from_secs(10);

/// For how long killed processes may take to go.
const KILL_LIMIT: Duration = Duration::from_secs(10);

impl Group {
    /// Stops all processes of the group and of those in it, and waits until they stand still. If that takes too
    /// long they are thawed again.
    pub fn freeze(&self) -> Result<()> {
        let context = || format!("cannot freeze control group {:?}", self.path());
        self.write("cgroup.freeze", "1").with_context(context)?;
        if self
            .wait_for("frozen 1", FREEZE_LIMIT)
            .with_context(context)?
        {
            return Ok(());
        }
        let _ = self.write("cgroup.freeze", "0");
        bail!(
            "{}: its processes do not stand still after {} seconds",
            context(),
            FREEZE_LIMIT.as_secs()
        )
    }

    /// Lets the processes go on.
    pub fn thaw(&self) -> Result<()> {
        let context = || format!("cannot thaw control group {:?}", self.path());
        match self.write("cgroup.freeze", "0") {
            // They have ended, and it with them.
            Err(Errno::NOENT | Errno::NODEV) => return Ok(()),
            written => written.with_context(context)?,
        }
        if self
            .wait_for("frozen 0", FREEZE_LIMIT)
            .with_context(context)?
        {
            return Ok(());
        }
        bail!("{}: a group above it is frozen", context())
    }

    /// Whether all processes of the group stand still.
    pub fn is_frozen(&self) -> Result<bool> {
        let frozen = self
            .open_file("cgroup.events")
            .and_then(|events| has_line(&events, "frozen 1"));
        match frozen {
            // Removed, or the file is of Linux 5.2.
            Err(Errno::NOENT | Errno::NODEV) => Ok(false),
            frozen => {
                frozen.with_context(|| format!("cannot read control group {:?}", self.path()))
            }
        }
    }

    /// Kills all processes of the group and of those in it, and waits until they are gone.
    pub fn kill(&self) -> Result<()> {
        let context = || format!("cannot kill control group {:?}", self.path());
        match self.write("cgroup.kill", "1") {
            // Linux: the file came with 5.14.
            Err(Errno::NOENT) => self.kill_one_by_one().with_context(context)?,
            written => written.with_context(context)?,
        }
        match self.wait_for("populated 0", KILL_LIMIT) {
            Ok(true) | Err(Errno::NOENT | Errno::NODEV) => Ok(()),
            Ok(false) => bail!("{}: processes remain in it", context()),
            Err(errno) => Err(errno).with_context(context),
        }
    }

    /// Until a look finds nobody: what forks meanwhile is found by the next.
    pub(super) fn kill_one_by_one(&self) -> Result<()> {
        let limit = Instant::now() + KILL_LIMIT;
        loop {
            let pids = self.processes()?;
            if pids.is_empty() {
                return Ok(());
            }
            for pid in pids {
                match rustix::process::kill_process(pid, Signal::KILL) {
                    Ok(()) | Err(Errno::SRCH) => {}
                    Err(errno) => bail!("cannot kill process {}: {errno}", pid.as_raw_nonzero()),
                }
            }
            if Instant::now() > limit {
                bail!("processes remain in it");
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// The processes of the group and of those in it.
    pub fn processes(&self) -> Result<Vec<Pid>> {
        let mut pids = Vec::new();
        self.collect(&mut pids).with_context(|| {
            format!(
                "cannot list the processes of control group {:?}",
                self.path()
            )
        })?;
        pids.sort_unstable();
        pids.dedup();
        Ok(pids.into_iter().filter_map(Pid::from_raw).collect())
    }

    fn collect(&self, pids: &mut Vec<i32>) -> rustix::io::Result<()> {
        match self.members("cgroup.procs") {
            Ok(members) => pids.extend(members),
            // Linux: in a threaded group; its threads are listed, and the processes in the group above it.
            Err(Errno::OPNOTSUPP) => {}
            Err(Errno::NOENT | Errno::NODEV) => return Ok(()),
            Err(errno) => return Err(errno),
        }
        self.children()?
            .iter()
            .try_for_each(|child| child.collect(pids))
    }

    /// Waits for a line of `cgroup.events`; false when the time is up.
    fn wait_for(&self, line: &str, limit: Duration) -> rustix::io::Result<bool> {
        let deadline = Instant::now() + limit;
        let events = self.open_file("cgroup.events")?;
        loop {
            if has_line(&events, line)? {
                return Ok(true);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(false);
            }
            // Linux: POLLPRI when the file has changed since it was last read by this descriptor.
            let _ = poll::events([Some((events.as_fd(), PollFlags::PRI))], Some(left));
        }
    }
}

/// Whether the file of a few short lines has this one now.
fn has_line(file: &OwnedFd, line: &str) -> rustix::io::Result<bool> {
    let mut buffer = [0; 512];
    let length = rustix::io::pread(file, &mut buffer, 0)?;
    let text = String::from_utf8_lossy(&buffer[..length]);
    Ok(text.lines().any(|found| found == line))
}
