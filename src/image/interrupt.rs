//! A pull or load that is told to end (Ctrl-C) ends by itself: its threads stop and remove what is of no use,
//! what the next one can go on with stays, and then the program ends by the signal, as if it had never
//! been caught.

use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::Context;
use anyhow::Result;
use rustix::pipe::PipeFlags;
use rustix::process::Signal;

use crate::sys::poll;
use crate::sys::signal;

const SIGNALS: [i32; 3] = [libc::SIGHUP, libc::SIGINT, libc::SIGTERM];
/// A thread that waits for a server stops with the next byte; nobody waits longer than this for that.
const PATIENCE: Duration = Duration::from_millis(500);

/// Does the work, and sets `stopped` when the program is told to end. Does not return then. `clean` removes what
/// threads have that do not stop.
pub fn watched<T>(
    stopped: &AtomicBool,
    clean: &(dyn Fn() + Sync),
    work: impl FnOnce() -> T,
) -> Result<T> {
    // Who ignores a signal (nohup) is not to be ended by it.
    let mut signals = SIGNALS.to_vec();
    signals.retain(|signal| !signal::is_ignored(*signal));
    let (ended, end) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC).context("cannot make a pipe")?;
    // Blocked here, and in every thread and helper that is started until it is over.
    let told = signal::signal_fd(&signals)?;
    let (result, signal) = std::thread::scope(|scope| {
        let watcher = scope.spawn(|| watch(&told, &ended, &signals, stopped, clean));
        let result = work();
        drop(end);
        (result, watcher.join().expect("a panic ends the program"))
    });
    signal::unblock(&signals)?;
    if let Some(signal) = signal {
        drop(result);
        end_by(signal);
        anyhow::bail!("it was told to end by signal {signal}");
    }
    Ok(result)
}

/// Waits for the end of the work, or for a signal and then for the end of the work. Returns the signal.
fn watch(
    told: &OwnedFd,
    ended: &OwnedFd,
    signals: &[i32],
    stopped: &AtomicBool,
    clean: &dyn Fn(),
) -> Option<i32> {
    let signal = loop {
        let [signal, end] = wait(told.as_fd(), ended.as_fd(), None);
        if signal && let Ok(Some(signal)) = signal::read_signal(told.as_fd()) {
            break signal;
        }
        if end {
            return None;
        }
    };
    stopped.store(true, Ordering::Relaxed);
    let [_, end] = wait(told.as_fd(), ended.as_fd(), Some(PATIENCE));
    if !end {
        clean();
        signal::unblock(signals).ok();
        end_by(signal);
    }
    Some(signal)
}

fn wait(told: BorrowedFd<'_>, ended: BorrowedFd<'_>, limit: Option<Duration>) -> [bool; 2] {
    // An error ends the watch, not the work.
    poll::readable([Some(told), Some(ended)], limit).unwrap_or([false, true])
}

fn end_by(signal: i32) {
    if let Some(signal) = Signal::from_named_raw(signal) {
        rustix::process::kill_process(rustix::process::getpid(), signal).ok();
    }
}
