//! The init of `--init`: pid 1 of the container, a child of whose is the command. It reaps whatever dies
//! in the container, passes signals on to the command, and ends as that ends.
//!
//! It is the trampoline that stays: it runs from the read-only clone of our executable, is not dumpable,
//! and has the user, the capabilities and the filter of the command, and none of our descriptors.

use std::ffi::CString;
use std::os::fd::OwnedFd;

use rustix::process::Pid;
use rustix::process::Signal;
use rustix::process::WaitOptions;
use rustix::process::WaitStatus;

use crate::sys::process;
use crate::sys::process::Fork;
use crate::sys::signal;

/// Returns in the child, which is to execute the command; the parent stays.
pub fn fork(report: OwnedFd, argv: &[CString]) -> OwnedFd {
    // Where the container has no process namespace of its own.
    process::set_child_subreaper().ok();
    // Before the child is there, so that none of its ends is missed.
    let Ok(()) = signal::block_all() else {
        process::exit_now(125);
    };
    match process::plain_fork() {
        Ok(Fork::Child) => {
            take_terminal();
            signal::reset_all();
            report
        }
        Ok(Fork::Parent(child)) => {
            // The command's end of this socket says whether it runs.
            drop(report);
            process::close_range(0, u32::MAX).ok();
            let words: Vec<_> = argv.iter().map(|word| word.to_string_lossy()).collect();
            process::set_title(&format!("rbox-init -- {}", words.join(" ")));
            serve(child)
        }
        Err(_) => process::exit_now(125),
    }
}

/// A group of its own, in the foreground: what is typed there is not for init.
fn take_terminal() {
    let stdin = rustix::stdio::stdin();
    rustix::process::setpgid(None, None).ok();
    // Without a terminal there is nothing to take.
    rustix::termios::tcsetpgrp(stdin, rustix::process::getpid()).ok();
}

fn serve(child: Pid) -> ! {
    loop {
        match signal::wait_any() {
            Ok(libc::SIGCHLD) => reap(child),
            // Kept for init by the kernel alone.
            Ok(number) => {
                if let Some(number) = Signal::from_named_raw(number) {
                    rustix::process::kill_process(child, number).ok();
                }
            }
            Err(_) => {}
        }
    }
}

/// Takes all that have ended; ends itself when the command is among them.
fn reap(child: Pid) {
    while let Ok(Some((pid, status))) = rustix::process::wait(WaitOptions::NOHANG) {
        if pid == child {
            process::exit_now(exit_status(status));
        }
    }
}

fn exit_status(status: WaitStatus) -> i32 {
    let signal = status.terminating_signal().map(|number| 128 + number);
    status.exit_status().or(signal).unwrap_or(255)
}
