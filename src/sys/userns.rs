//! Work inside a user namespace of its own: a forked child that is root there and may
//! touch the files of the sub-ids.

use std::fs::File;
use std::io::Read;
use std::io::Write;
use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;

use anyhow::Context;
use anyhow::anyhow;
use anyhow::bail;

use crate::sys::idmap;
use crate::sys::idmap::IdMaps;
use crate::sys::idmap::IdRange;
use crate::sys::idmap::Root;
use crate::sys::process;
use crate::sys::process::Side;

/// Runs `work` as root of a new user namespace with these ids, in a child process, and returns
/// what it returned. `namespaces` adds others (`CLONE_NEWNS`…).
///
/// Must: be called by a single-threaded process.
pub fn run(
    maps: &IdMaps,
    namespaces: i32,
    work: impl FnOnce() -> anyhow::Result<Vec<u8>>,
) -> anyhow::Result<Vec<u8>> {
    let (mapped_rx, mapped_tx) = pipe()?;
    let (result_rx, result_tx) = pipe()?;
    match process::clone(libc::CLONE_NEWUSER | namespaces)? {
        Side::Child => {
            drop(mapped_tx);
            drop(result_rx);
            child(mapped_rx, result_tx, maps.root(), work)
        }
        Side::Parent(child) => {
            drop(result_tx);
            drop(mapped_rx);
            let mapped = maps.write(child.pid.as_raw_pid().cast_unsigned());
            if mapped.is_ok() {
                // A child that is gone shows in its result below.
                File::from(mapped_tx).write_all(&[1]).ok();
            } else {
                drop(mapped_tx);
            }
            let mut answer = Vec::new();
            File::from(result_rx)
                .read_to_end(&mut answer)
                .context("cannot read from the child in its user namespace")?;
            process::wait(child.pidfd.as_fd())?;
            mapped?;
            match answer.split_first() {
                Some((b'+', data)) => Ok(data.to_vec()),
                Some((_, text)) => Err(anyhow!("{}", String::from_utf8_lossy(text))),
                None => bail!("the child in its user namespace died"),
            }
        }
    }
}

fn child(
    mapped: OwnedFd,
    result: OwnedFd,
    root: Root,
    work: impl FnOnce() -> anyhow::Result<Vec<u8>>,
) -> ! {
    let answer = wait_for_map(mapped)
        .and_then(|()| become_root(root))
        .and_then(|()| work());
    let bytes = match answer {
        Ok(data) => [b"+", data.as_slice()].concat(),
        Err(err) => [b"-", crate::error::message(&err).as_bytes()].concat(),
    };
    let status = File::from(result).write_all(&bytes).map_or(1, |()| 0);
    process::exit_now(status)
}

/// Whether this process is in the user namespace that every other one comes from. Linux: its map is the identity of
/// all ids, which no other can be given (user_namespaces(7)).
pub fn is_initial() -> bool {
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    let all = IdRange {
        inside: 0,
        outside: 0,
        count: u32::MAX,
    };
    // Without procfs nobody can tell, and what is no namespace is the rule.
    map.is_empty() || idmap::parse(&map) == [all]
}

/// The maps of a namespace, as seen from our own.
///
/// Must: be called by a single-threaded process.
pub fn maps_of(userns: BorrowedFd<'_>) -> anyhow::Result<(Vec<IdRange>, Vec<IdRange>)> {
    let (joined_rx, joined_tx) = pipe()?;
    let (done_rx, done_tx) = pipe()?;
    match process::fork()? {
        Side::Child => {
            drop((joined_rx, done_tx));
            if process::setns(userns, libc::CLONE_NEWUSER).is_ok() {
                File::from(joined_tx).write_all(&[1]).ok();
            } else {
                drop(joined_tx);
            }
            // Until the parent has read.
            File::from(done_rx).read_exact(&mut [0]).ok();
            process::exit_now(0)
        }
        Side::Parent(child) => {
            drop((joined_tx, done_rx));
            let joined = File::from(joined_rx).read_exact(&mut [0]);
            let pid = child.pid.as_raw_pid();
            // Linux: the second column is of the user namespace of who opens the file.
            let read = |file: &str| std::fs::read_to_string(format!("/proc/{pid}/{file}"));
            let maps = (read("uid_map"), read("gid_map"));
            drop(done_tx);
            process::wait(child.pidfd.as_fd())?;
            joined.map_err(|_| anyhow!("it is no user namespace in which you may do anything"))?;
            Ok((idmap::parse(&maps.0?), idmap::parse(&maps.1?)))
        }
    }
}

/// Blocks until the parent has written the maps; an end of file says that it could not.
pub fn wait_for_map(mapped: OwnedFd) -> anyhow::Result<()> {
    let mut byte = [0];
    File::from(mapped)
        .read_exact(&mut byte)
        .context("no id map was written")
}

/// Takes an identity of the namespace. Where setgroups(2) is denied, as with a single id, the
/// supplementary groups of the user stay (unmapped, as the overflow gid).
pub fn become_root(root: Root) -> anyhow::Result<()> {
    let denied = root.keeps_groups || setgroups_is_denied();
    process::set_ids(root.uid, root.gid, if denied { None } else { Some(&[]) })?;
    Ok(())
}

/// Takes the supplementary groups away, and tells whether that was denied.
///
/// Linux: "deny" is inherited by every namespace below, whatever it maps (user_namespaces(7)). It shows in
/// /proc/self/setgroups too, but what is mounted at /proc is the container's to say once it is joined.
pub fn setgroups_is_denied() -> bool {
    use rustix::thread::CapabilitySet;
    let may = || {
        rustix::thread::capabilities(None)
            .is_ok_and(|sets| sets.effective.contains(CapabilitySet::SETGID))
    };
    match process::set_groups(&[]) {
        Ok(()) => false,
        Err(err) => err.errno == rustix::io::Errno::PERM && may(),
    }
}

/// A pipe whose ends are closed on exec: where it is read, and where it is written.
pub fn pipe() -> anyhow::Result<(OwnedFd, OwnedFd)> {
    rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).context("cannot make a pipe")
}
