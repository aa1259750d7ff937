//! Calls of a container that are answered by the process beside it: the listener of a filter goes from the process
//! that installs the filter to the one that made it (`report`), which serves it from that moment on.
//!
//! * A kernel takes one such filter for a process and all that come from it (EBUSY for a second one), so that one
//!   handler answers for all purposes of a container.
//! * Answering is bounded: one call at a time, and whoever waits for calls waits for everything else beside them.

use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::os::fd::IntoRawFd;
use std::os::fd::OwnedFd;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicI32;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use anyhow::Context;
use anyhow::bail;
use rustix::event::PollFlags;
use rustix::io::Errno;

use crate::runtime::report;
use crate::runtime::seccomp::Filter;
use crate::runtime::seccomp::Notify;
use crate::sys::fd;
use crate::sys::notify::Answer;
use crate::sys::notify::Listener;
use crate::sys::notify::Notification;
use crate::sys::poll;

/// Decides what notified calls get. Runs in the supervisor, for as long as its container does.
pub trait Handler {
    /// Must not block: until it returns, nothing else of the container is served.
    fn answer(&mut self, call: &Notification, listener: Listener<'_>) -> Answer;

    /// The container has ended, and makes no more calls.
    fn end(&mut self) -> anyhow::Result<()> {
        Ok(())
    }
}

/// Serves one call of a listener that poll(2) has reported; `false` when no process is left that could make one.
pub fn serve(listener: &OwnedFd, events: PollFlags, handler: &mut dyn Handler) -> bool {
    let listener = Listener::new(listener.as_fd());
    if !events.contains(PollFlags::IN) {
        return !events.intersects(PollFlags::HUP | PollFlags::ERR | PollFlags::NVAL);
    }
    match listener.receive() {
        Ok(Some(call)) => {
            let answer = handler.answer(&call, listener);
            listener.answer(call.id, answer).is_ok()
        }
        Ok(None) => true,
        Err(_) => false,
    }
}

/// Serves a listener, if there is one yet, until `socket` has something to read.
pub fn serve_until(
    socket: &OwnedFd,
    listener: Option<&OwnedFd>,
    handler: &mut dyn Handler,
) -> anyhow::Result<()> {
    let mut listener = listener;
    while let Some(fd) = listener {
        let set = [
            Some((socket.as_fd(), PollFlags::IN)),
            Some((fd.as_fd(), PollFlags::IN)),
        ];
        let [told, called] = poll::events(set, None)?;
        if !called.is_empty() && !serve(fd, called, handler) {
            listener = None;
        }
        if !told.is_empty() {
            return Ok(());
        }
    }
    Ok(())
}

/// Installs filters for this process and what it executes, and hands the listener over.
pub fn install(filters: &[Filter], report: BorrowedFd<'_>) -> anyhow::Result<()> {
    for filter in filters {
        match filter.notify {
            Notify::Nothing => filter.install()?,
            Notify::Harmless => match filter.install_with_listener() {
                Ok(listener) => report::send_listener(report, listener.as_fd())?,
                // We are in a container whose calls somebody answers already.
                Err(err) if err.errno == Errno::BUSY => {}
                Err(err) => return Err(err.into()),
            },
            Notify::Anything => install_and_be_helped(filter, report)?,
        }
    }
    Ok(())
}

/// From the moment in which the filter is in place, this thread may wait for an answer in whatever call it makes, that
/// which would send the listener among them. Another thread, which the filter does not hold for, sends it.
fn install_and_be_helped(filter: &Filter, report: BorrowedFd<'_>) -> anyhow::Result<()> {
    const NOT_YET: i32 = -1;
    let number = AtomicI32::new(NOT_YET);
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let helper = thread::Builder::new().stack_size(64 * 1024);
        let helper = helper.spawn_scoped(scope, || {
            // A wake-up is a call too: the thread has to look by itself.
            while number.load(Ordering::Acquire) == NOT_YET {
                if over.load(Ordering::Acquire) {
                    return Ok(());
                }
                thread::sleep(Duration::from_micros(20));
            }
            let listener = fd::inherited(number.load(Ordering::Acquire))
                .context("the listener has a number of its own")?;
            report::send_listener(report, listener.as_fd())
        });
        let helper = helper.context("cannot make a thread")?;
        let installed = filter.install_with_listener();
        match installed {
            Ok(listener) => {
                number.store(listener.into_raw_fd(), Ordering::Release);
            }
            Err(err) => {
                over.store(true, Ordering::Release);
                return Err(err.into());
            }
        }
        helper
            .join()
            .unwrap_or_else(|_| bail!("the thread that hands over the listener panicked"))
    })
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;
    use crate::runtime::report::Received;
    use crate::sys::seccomp::probe;
    use crate::sys::socket;

    /// Refuses getppid(2), lets everything else by, and counts.
    #[derive(Default)]
    struct Refuse(usize);

    impl Handler for Refuse {
        fn answer(&mut self, call: &Notification, _: Listener<'_>) -> Answer {
            self.0 += 1;
            if i64::from(call.number) == libc::SYS_getppid {
                return Answer::Errno(Errno::XDEV);
            }
            Answer::Continue
        }
    }

    /// With the listener sent by the thread that the filter holds for, this would wait for ever.
    #[test]
    fn a_filter_that_asks_about_every_call_comes_into_place() {
        let (ours, theirs) = socket::pair().unwrap();
        let (tell, told) = mpsc::channel();
        thread::spawn(move || {
            rustix::thread::set_no_new_privs(true).unwrap();
            install(&[Filter::asking()], theirs.as_fd()).unwrap();
            tell.send(probe(libc::SYS_getppid, [0; 3])).unwrap();
            report::send_ready(theirs.as_fd()).unwrap();
        });
        let Ok(Received::Listener(listener)) = report::receive(&ours) else {
            panic!("the listener comes first");
        };
        let mut handler = Refuse::default();
        serve_until(&ours, Some(&listener), &mut handler).unwrap();
        assert!(matches!(report::receive(&ours), Ok(Received::Ready)));
        assert_eq!(told.recv().unwrap(), libc::EXDEV);
        assert!(handler.0 > 1);
        // The thread ends, which asks too, and then nobody is left to ask.
        let mut events = PollFlags::empty();
        while !events.contains(PollFlags::HUP) {
            let set = [Some((listener.as_fd(), PollFlags::IN))];
            [events] = poll::events(set, Some(Duration::from_secs(10))).unwrap();
            assert!(!events.is_empty(), "neither a call nor the end");
            assert_eq!(
                serve(&listener, events, &mut handler),
                events.contains(PollFlags::IN)
            );
        }
    }
}
