//! Serving clients: what they ask for, and calls that the filters leave to us.

use std::os::fd::AsFd;
use std::time::Duration;
use std::time::Instant;

use rustix::event::PollFlags;
use rustix::io::Errno;

use crate::container::events;
use crate::runtime::notify;
use crate::supervisor::Supervisor;
use crate::supervisor::client::Client;
use crate::supervisor::client::Hears;
use crate::supervisor::protocol::Reply;
use crate::supervisor::protocol::Request;
use crate::supervisor::restart::Next;
use crate::sys::notify::Listener;
use crate::sys::signal;
use crate::sys::socket;
use crate::sys::terminal;

/// How long clients wait when there are no descriptors for them.
const REST: Duration = Duration::from_millis(100);

impl Supervisor<'_> {
    pub fn accept(&mut self) {
        let flags = rustix::net::SocketFlags::CLOEXEC;
        match rustix::net::accept_with(&self.listener, flags) {
            Ok(connection) if socket::peer_is_us(&connection) => {
                let client = Client::new(connection, Hears::Nothing, false);
                self.clients.push(client);
            }
            Err(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM) => {
                self.rests = Some(Instant::now() + REST);
            }
            Ok(_) | Err(_) => {}
        }
    }

    pub fn serve(&mut self, index: usize, events: PollFlags, buffer: &mut [u8]) {
        if events.contains(PollFlags::OUT) {
            self.clients[index].flush();
        }
        if !events.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR) {
            return;
        }
        let client = &mut self.clients[index];
        let received = socket::receive(client.socket.as_fd(), buffer);
        let (length, descriptor) = received.map_or((0, None), |packet| (packet.length, packet.fd));
        let mut streams = self.run.as_mut().map(|run| &mut run.streams);
        if length == 0 {
            if client.foreground
                && client.hears == Hears::Streams
                && let Some(streams) = streams
                && streams.as_terminal().is_none()
            {
                streams.end_input();
            }
            client.gone = true;
            return;
        }
        match Request::decode(&buffer[..length]) {
            Some(Request::Attach) => {
                client.hears = Hears::Streams;
                events::add(self.dirs, &self.container, "attach");
            }
            Some(Request::Wait) => client.hears = Hears::Exit,
            Some(Request::Stdin(bytes)) => {
                client.awaits_taken = true;
                if let Some(streams) = &mut streams {
                    streams.feed(bytes);
                }
            }
            Some(Request::StdinClosed) => {
                if let Some(streams) = &mut streams {
                    streams.end_input();
                }
            }
            Some(Request::Resize { rows, columns }) => {
                if let Some(master) = streams.as_ref().and_then(|streams| streams.as_terminal()) {
                    terminal::set_size(master.as_fd(), rows, columns).ok();
                }
            }
            Some(Request::Signal(number)) => {
                let by_session = client.hears == Hears::Streams;
                if self.ends_it(number, by_session) {
                    self.next = Next::Stopped;
                }
                self.signal(number);
            }
            Some(Request::Stop { signal, limit }) => {
                client.hears = Hears::Exit;
                self.next = Next::Stopped;
                self.stop(signal, limit.map(|limit| Duration::from_secs(limit.into())));
            }
            // The container finds its pipe closed, and ends as a program in a pipeline does.
            Some(Request::OutputClosed(stream)) if client.foreground => {
                if let Some(streams) = &mut streams {
                    streams.close_output(stream);
                }
            }
            Some(Request::Listener) => {
                if let (Some(listener), Some(run)) = (descriptor, &mut self.run)
                    && run.handler.is_some()
                {
                    Listener::new(listener.as_fd()).take_turns().ok();
                    run.calls.push(listener);
                }
            }
            Some(Request::Updated) => {
                self.look_again();
                self.change_checks();
                self.change_way();
                if let Some(relay) = self.run.as_ref().and_then(|run| run.relay.as_ref()) {
                    relay.update();
                }
            }
            Some(Request::Check) => self.ask_for_check(index),
            Some(Request::OutputClosed(_)) | None => {}
        }
    }

    /// Whether a person who sends this signal wants the container to end. As with Docker, one that is sent to
    /// a session is meant for it.
    fn ends_it(&self, number: i32, by_session: bool) -> bool {
        number == libc::SIGKILL
            || number == self.container.config.process.stop_signal
            || by_session && matches!(number, libc::SIGTERM | libc::SIGINT | libc::SIGQUIT)
    }

    /// Sends a signal to the container's init.
    pub fn signal(&self, number: i32) {
        if let Some(run) = &self.run {
            // It may have ended just now; its exit is in the poll set.
            signal::send(run.running.init.pidfd.as_fd(), number).ok();
        }
    }

    /// Asks the container to end, by this signal instead of its own, and kills it when the time is over;
    /// what follows its end is in `next`.
    pub fn stop(&mut self, signal: Option<i32>, limit: Option<Duration>) {
        let Some(run) = &mut self.run else {
            return;
        };
        if limit == Some(Duration::ZERO) {
            return self.signal(libc::SIGKILL);
        }
        let kill = limit.map(|limit| Instant::now() + limit);
        run.deadline = [run.deadline, kill].into_iter().flatten().min();
        self.signal(signal.unwrap_or(self.container.config.process.stop_signal));
    }

    /// Tells the clients whose input was taken that there is room for more.
    pub fn grant_input(&mut self) {
        let Some(run) = &self.run else {
            return;
        };
        if !run.streams.takes_input() {
            return;
        }
        for client in self.clients.iter_mut().filter(|client| client.awaits_taken) {
            client.awaits_taken = false;
            client.tell(&Reply::Taken);
            client.flush();
        }
    }

    /// Answers one call; `false` when no more will come.
    pub fn answer(&mut self, index: usize, events: PollFlags) -> bool {
        let Some(run) = &mut self.run else {
            return false;
        };
        let (Some(handler), Some(listener)) = (&mut run.handler, run.calls.get(index)) else {
            return false;
        };
        notify::serve(listener, events, handler.as_mut())
    }
}
