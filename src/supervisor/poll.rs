//! The poll loop: what a supervisor waits for while its container runs.

use std::os::fd::AsFd;
use std::time::Duration;
use std::time::Instant;

use anyhow::Context;
use rustix::event::PollFd;
use rustix::event::PollFlags;
use rustix::event::Timespec;

use crate::container::events;
use crate::container::log::Stream;
use crate::network::Network;
use crate::supervisor::Supervisor;
use crate::supervisor::checks::Checks;
use crate::supervisor::client::Client;
use crate::supervisor::group::Watched;
use crate::supervisor::protocol::PACKET;
use crate::supervisor::protocol::Reply;
use crate::supervisor::sdnotify::Notifier;
use crate::supervisor::streams::Output;
use crate::sys::process;
use crate::sys::process::Exit;
use crate::sys::signal;

/// How many messages to a service manager are passed on after the end of the container.
const LAST_NOTICES: usize = 64;

/// What a descriptor of the poll set is.
#[derive(Clone, Copy)]
enum Source {
    Signals,
    Listener,
    Init,
    Output(Output),
    Input,
    Client(usize),
    Calls(usize),
    Memory,
    Network,
    /// A program of the container speaks to a service manager.
    Notify,
    /// A process that works for the log has ended.
    Log,
    /// A health check has ended.
    Check,
}

impl Supervisor<'_> {
    /// Serves until the container's init has ended.
    pub fn run(&mut self) -> anyhow::Result<Exit> {
        let mut buffer = vec![0u8; PACKET];
        // Ascending, as the poll set is.
        let mut unused = vec![];
        loop {
            self.keep_deadline();
            self.keep_checks();
            for (source, events) in self.wait()? {
                match source {
                    Source::Signals => self.forward_signal(),
                    Source::Listener => self.accept(),
                    Source::Init => {
                        let exit = process::wait(self.running.init.pidfd.as_fd())?;
                        if let Some(remains) = &self.remains {
                            if let Some(group) = &self.group {
                                group.end();
                            }
                            remains.end();
                        }
                        self.end_checks();
                        self.drain(&mut buffer);
                        self.pass_last_notices();
                        return Ok(exit);
                    }
                    Source::Output(output) => {
                        self.read(output, &mut buffer);
                    }
                    Source::Log => self.log.reap(),
                    Source::Check => self.end_check(&mut buffer),
                    Source::Input => self.streams.write_pending(),
                    Source::Client(index) => self.serve(index, events, &mut buffer),
                    Source::Network => {
                        if let Some(network) = &mut self.network {
                            network.serve();
                        }
                    }
                    Source::Memory => self.tell_kills(),
                    Source::Notify => {
                        self.pass_notice();
                    }
                    Source::Calls(index) => {
                        if !self.answer(index, events) {
                            unused.push(index);
                        }
                    }
                }
            }
            while let Some(index) = unused.pop() {
                self.calls.remove(index);
            }
            self.grant_input();
            self.clients.iter_mut().for_each(Client::keep_patience);
            self.clients
                .retain(|client| !client.gone && !client.is_done());
        }
    }

    /// Kills the container when its time is over.
    fn keep_deadline(&mut self) {
        if self.deadline.is_some_and(|at| at <= Instant::now()) {
            self.deadline = None;
            signal::send(self.running.init.pidfd.as_fd(), libc::SIGKILL).ok();
        }
    }

    /// Processes of the container were killed for want of memory, or memory is short.
    pub fn tell_kills(&mut self) {
        let new = self.group.as_mut().map_or(0, Watched::new_kills);
        if new > 0 {
            events::add(self.dirs, self.container, "oom");
        }
    }

    /// Whether there was something to tell a service manager.
    fn pass_notice(&self) -> bool {
        self.sdnotify.as_ref().is_some_and(Notifier::pass_on)
    }

    /// Not for ever: processes may be left that go on.
    fn pass_last_notices(&self) {
        for _ in 0..LAST_NOTICES {
            if !self.pass_notice() {
                break;
            }
        }
    }

    /// Waits for something to do.
    fn wait(&self) -> anyhow::Result<Vec<(Source, PollFlags)>> {
        let mut sources = vec![Source::Signals, Source::Listener, Source::Init];
        let mut fds = vec![
            PollFd::new(&self.signals, PollFlags::IN),
            PollFd::new(&self.listener, PollFlags::IN),
            PollFd::new(&self.running.init.pidfd, PollFlags::IN),
        ];
        if !self.clients.iter().any(Client::is_full) {
            for output in [Output::Stdout, Output::Stderr] {
                if let Some(fd) = self.streams.output(output) {
                    sources.push(Source::Output(output));
                    fds.push(PollFd::new(fd, PollFlags::IN));
                }
            }
        }
        if let Some(fd) = self.streams.input_to_write() {
            sources.push(Source::Input);
            fds.push(PollFd::new(fd, PollFlags::OUT));
        }
        for (index, client) in self.clients.iter().enumerate() {
            let mut events = PollFlags::IN;
            events.set(PollFlags::OUT, client.has_queue());
            sources.push(Source::Client(index));
            fds.push(PollFd::new(&client.socket, events));
        }
        for (index, listener) in self.calls.iter().enumerate() {
            sources.push(Source::Calls(index));
            fds.push(PollFd::new(listener, PollFlags::IN));
        }
        if let Some(helper) = self.log.helper() {
            sources.push(Source::Log);
            fds.push(PollFd::from_borrowed_fd(helper, PollFlags::IN));
        }
        if let Some(checker) = self.checks.as_deref().and_then(Checks::checker) {
            sources.push(Source::Check);
            fds.push(PollFd::new(checker, PollFlags::IN));
        }
        if let Some(events) = self.group.as_ref().and_then(Watched::events) {
            sources.push(Source::Memory);
            fds.push(PollFd::from_borrowed_fd(events, PollFlags::PRI));
        }
        if let Some(inside) = self.sdnotify.as_ref().and_then(Notifier::inside) {
            sources.push(Source::Notify);
            fds.push(PollFd::from_borrowed_fd(inside, PollFlags::IN));
        }
        let busy = self.network.as_ref().is_some_and(Network::has_more);
        if let Some(network) = &self.network {
            sources.push(Source::Network);
            fds.push(PollFd::new(network, PollFlags::IN));
        }
        let left = if busy {
            Some(Duration::ZERO)
        } else {
            let patience = self.clients.iter().filter_map(Client::patience_ends);
            let check = self.checks.as_deref().and_then(Checks::moment);
            let next = patience.chain(self.deadline).chain(check).min();
            next.map(|at| at.saturating_duration_since(Instant::now()))
        };
        let left = left.and_then(|left| Timespec::try_from(left).ok());
        process::retry(|| rustix::event::poll(&mut fds, left.as_ref())).context("poll")?;
        let ready = sources.into_iter().zip(fds.iter().map(PollFd::revents));
        let is_ready = |source: &Source, events: &PollFlags| {
            !events.is_empty() || (busy && matches!(source, Source::Network))
        };
        Ok(ready
            .filter(|(source, events)| is_ready(source, events))
            .collect())
    }

    fn forward_signal(&self) {
        if let Ok(Some(number @ (libc::SIGTERM | libc::SIGINT))) =
            signal::read_signal(self.signals.as_fd())
        {
            // It may have ended just now; its exit is in the poll set.
            signal::send(self.running.init.pidfd.as_fd(), number).ok();
        }
    }

    /// Reads from the container once; whether there was something.
    fn read(&mut self, output: Output, buffer: &mut [u8]) -> bool {
        let Some((stream, bytes)) = self.streams.read(output, buffer) else {
            return false;
        };
        self.log.write(stream, bytes);
        let reply = match stream {
            Stream::Stdout => Reply::Stdout(bytes),
            Stream::Stderr => Reply::Stderr(bytes),
        };
        for client in &mut self.clients {
            client.tell(&reply);
        }
        for client in &mut self.clients {
            client.flush();
        }
        true
    }

    /// Takes what the streams still hold. All processes of the container are dead: with its
    /// init the kernel has killed its pid namespace, or we what was left, so that this ends.
    fn drain(&mut self, buffer: &mut [u8]) {
        for output in [Output::Stdout, Output::Stderr] {
            while self.read(output, buffer) {}
        }
        self.log.finish();
    }
}
