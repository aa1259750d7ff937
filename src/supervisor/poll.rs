//! The poll loop: what a supervisor waits for while its container runs, or rests.

use std::os::fd::AsFd;
use std::time::Duration;
use std::time::Instant;

use anyhow::Context;
use rustix::event::PollFd;
use rustix::event::PollFlags;
use rustix::event::Timespec;

use crate::container::events;
use crate::container::log::Stream;
use crate::supervisor::Run;
use crate::supervisor::Supervisor;
use crate::supervisor::checks::Checks;
use crate::supervisor::client::Client;
use crate::supervisor::group::Watched;
use crate::supervisor::protocol::PACKET;
use crate::supervisor::protocol::Reply;
use crate::supervisor::relay::Job;
use crate::supervisor::relay::Relay;
use crate::supervisor::restart::Next;
use crate::supervisor::sdnotify::Notifier;
use crate::supervisor::streams::Output;
use crate::sys::pages::Pages;
use crate::sys::process;
use crate::sys::process::Exit;
use crate::sys::signal;

/// Without anything to do for so long, the supervisor makes itself small.
const IDLE: Duration = Duration::from_secs(1);

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
    pub fn serve_run(&mut self) -> anyhow::Result<Exit> {
        let mut buffer = Pages::new(PACKET);
        loop {
            let deadline = self.keep_deadline();
            self.keep_checks();
            self.keep_network();
            if self.turn(&mut buffer, deadline)? {
                // Must: before the children that are left are killed and reaped, of which its process is one.
                self.end_checks();
                let run = self.run.as_ref().context("no container runs")?;
                let exit = process::wait(run.running.init.pidfd.as_fd())?;
                if let Some(remains) = &run.remains {
                    if let Some(group) = &run.group {
                        group.end();
                    }
                    remains.end(run.relay.as_ref().and_then(Relay::pid));
                }
                self.drain(&mut buffer);
                self.pass_last_notices();
                return Ok(exit);
            }
        }
    }

    /// Waits for something to do, until then at most, and does it; whether init has ended.
    pub fn turn(&mut self, buffer: &mut Pages, until: Option<Instant>) -> anyhow::Result<bool> {
        // Ascending, as the poll set is.
        let mut unused = vec![];
        let idle = (!self.small).then(|| Instant::now() + IDLE);
        let ready = self.wait(until.into_iter().chain(idle).min())?;
        self.small = ready.is_empty();
        if self.small {
            buffer.clear();
            process::trim_memory();
        }
        for (source, events) in ready {
            match source {
                Source::Signals => self.forward_signal(),
                Source::Listener => self.accept(),
                Source::Init => return Ok(true),
                Source::Output(output) => {
                    self.read(output, buffer);
                }
                Source::Log => self.log.reap(),
                Source::Check => self.end_check(buffer),
                Source::Input => {
                    if let Some(run) = &mut self.run {
                        run.streams.write_pending();
                    }
                }
                Source::Client(index) => self.serve(index, events, buffer),
                Source::Network => self.hear_network(),
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
        while let (Some(index), Some(run)) = (unused.pop(), &mut self.run) {
            run.calls.remove(index);
        }
        self.grant_input();
        self.clients.iter_mut().for_each(Client::keep_patience);
        self.clients
            .retain(|client| !client.gone && !client.is_done());
        Ok(false)
    }

    /// Starts the network's process, and another where it has died.
    fn keep_network(&mut self) {
        let relay = self.run.as_mut().and_then(|run| run.relay.as_mut());
        let (Some(relay), Some(listeners)) = (relay, &self.kept.listeners) else {
            return;
        };
        let job = Job {
            dirs: self.dirs,
            container: &self.container,
            listeners,
        };
        if let Err(err) = relay.mend(job) {
            self.log_error(&err);
        }
    }

    fn hear_network(&mut self) {
        if let Some(relay) = self.run.as_mut().and_then(|run| run.relay.as_mut()) {
            if let Err(err) = relay.hear() {
                self.log_error(&err);
            }
        } else if let Some(relay) = &mut self.kept.left.relay {
            relay.reap();
        }
    }

    /// Kills the container when its time is over; otherwise returns when that will be.
    fn keep_deadline(&mut self) -> Option<Instant> {
        let run = self.run.as_mut()?;
        if run.deadline.is_some_and(|at| at <= Instant::now()) {
            run.deadline = None;
            signal::send(run.running.init.pidfd.as_fd(), libc::SIGKILL).ok();
        }
        run.deadline
    }

    /// Processes of the container were killed for want of memory, or memory is short.
    pub fn tell_kills(&mut self) {
        let group = self.run.as_mut().and_then(|run| run.group.as_mut());
        if group.map_or(0, Watched::new_kills) > 0 {
            events::add(self.dirs, &self.container, "oom");
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
    fn wait(&self, until: Option<Instant>) -> anyhow::Result<Vec<(Source, PollFlags)>> {
        let mut sources = vec![Source::Signals];
        let mut fds = vec![PollFd::new(&self.signals, PollFlags::IN)];
        let rests = self.rests.filter(|ends| *ends > Instant::now());
        if rests.is_none() {
            sources.push(Source::Listener);
            fds.push(PollFd::new(&self.listener, PollFlags::IN));
        }
        if let Some(run) = &self.run {
            run.add_sources(
                &mut sources,
                &mut fds,
                !self.clients.iter().any(Client::is_full),
            );
        }
        for (index, client) in self.clients.iter().enumerate() {
            let mut events = PollFlags::IN;
            events.set(PollFlags::OUT, client.has_queue());
            sources.push(Source::Client(index));
            fds.push(PollFd::new(&client.socket, events));
        }
        if let Some(helper) = self.log.helper() {
            sources.push(Source::Log);
            fds.push(PollFd::from_borrowed_fd(helper, PollFlags::IN));
        }
        if let Some(checker) = self.checks.as_deref().and_then(Checks::checker) {
            sources.push(Source::Check);
            fds.push(PollFd::new(checker, PollFlags::IN));
        }
        if let Some(inside) = self.sdnotify.as_ref().and_then(Notifier::inside) {
            sources.push(Source::Notify);
            fds.push(PollFd::from_borrowed_fd(inside, PollFlags::IN));
        }
        let relay = match &self.run {
            Some(run) => run.relay.as_ref(),
            None => self.kept.left.relay.as_ref(),
        };
        if let Some(socket) = relay.and_then(Relay::socket) {
            sources.push(Source::Network);
            fds.push(PollFd::from_borrowed_fd(socket, PollFlags::IN));
        }
        let patience = self.clients.iter().filter_map(Client::patience_ends);
        let check = self.checks.as_deref().and_then(Checks::moment);
        let network = relay.and_then(Relay::moment);
        let moments = patience.chain(until).chain(check).chain(rests);
        let next = moments.chain(network).min();
        let left = next.map(|at| at.saturating_duration_since(Instant::now()));
        let left = left.and_then(|left| Timespec::try_from(left).ok());
        process::retry(|| rustix::event::poll(&mut fds, left.as_ref())).context("poll")?;
        let ready = sources.into_iter().zip(fds.iter().map(PollFd::revents));
        Ok(ready.filter(|(_, events)| !events.is_empty()).collect())
    }

    fn forward_signal(&mut self) {
        let Ok(Some(number @ (libc::SIGTERM | libc::SIGINT))) =
            signal::read_signal(self.signals.as_fd())
        else {
            return;
        };
        if !self.next.is_end() {
            self.next = Next::Interrupted;
        }
        if number == libc::SIGTERM {
            // A service manager ends us so, which is to end the container in its own way.
            let limit = self.container.config.process.stop_timeout;
            self.stop(None, Some(Duration::from_secs(limit.into())));
        } else {
            self.signal(number);
        }
    }

    /// Reads from the container once; how many bytes, if there were any.
    fn read(&mut self, output: Output, buffer: &mut [u8]) -> Option<usize> {
        let run = self.run.as_mut()?;
        let (stream, bytes) = run.streams.read(output, buffer)?;
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
        Some(bytes.len())
    }

    /// Takes what the streams still hold. The processes of the container are dead: with its init the kernel has killed
    /// its pid namespace, or we what was left. Others may have its streams from it, and write for ever.
    fn drain(&mut self, buffer: &mut [u8]) {
        for output in [Output::Stdout, Output::Stderr] {
            let mut taken = 0;
            while taken < HELD_MAX
                && let Some(length) = self.read(output, buffer)
            {
                taken += length;
            }
        }
        self.log.finish();
    }
}

/// More than a stream holds. Linux: a pipe has a MiB at most (`/proc/sys/fs/pipe-max-size`), but for who may exceed limits.
const HELD_MAX: usize = 8 << 20;

impl Run {
    /// What is to be waited for while it runs; its output only where clients can take it.
    fn add_sources<'a>(
        &'a self,
        sources: &mut Vec<Source>,
        fds: &mut Vec<PollFd<'a>>,
        output: bool,
    ) {
        sources.push(Source::Init);
        fds.push(PollFd::new(&self.running.init.pidfd, PollFlags::IN));
        for name in [Output::Stdout, Output::Stderr] {
            if let (true, Some(fd)) = (output, self.streams.output(name)) {
                sources.push(Source::Output(name));
                fds.push(PollFd::new(fd, PollFlags::IN));
            }
        }
        if let Some(fd) = self.streams.input_to_write() {
            sources.push(Source::Input);
            fds.push(PollFd::new(fd, PollFlags::OUT));
        }
        for (index, listener) in self.calls.iter().enumerate() {
            sources.push(Source::Calls(index));
            fds.push(PollFd::new(listener, PollFlags::IN));
        }
        if let Some(events) = self.group.as_ref().and_then(Watched::events) {
            sources.push(Source::Memory);
            fds.push(PollFd::from_borrowed_fd(events, PollFlags::PRI));
        }
    }
}
