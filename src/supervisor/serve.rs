//! Serving clients: what they ask for, and calls that the filters leave to us.

use std::os::fd::AsFd;

use rustix::event::PollFlags;

use crate::container::config::Config;
use crate::container::events;
use crate::runtime::notify;
use crate::store::record;
use crate::supervisor::Supervisor;
use crate::supervisor::client::Client;
use crate::supervisor::client::Hears;
use crate::supervisor::protocol::Reply;
use crate::supervisor::protocol::Request;
use crate::sys::notify::Listener;
use crate::sys::signal;
use crate::sys::socket;
use crate::sys::terminal;

impl Supervisor<'_> {
    pub fn accept(&mut self) {
        let flags = rustix::net::SocketFlags::CLOEXEC;
        if let Ok(connection) = rustix::net::accept_with(&self.listener, flags)
            && socket::peer_is_us(&connection)
        {
            self.clients
                .push(Client::new(connection, Hears::Nothing, false));
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
        if length == 0 {
            if client.foreground && self.streams.as_terminal().is_none() {
                self.streams.end_input();
            }
            self.clients[index].gone = true;
            return;
        }
        match Request::decode(&buffer[..length]) {
            Some(Request::Attach) => {
                client.hears = Hears::Streams;
                events::add(self.dirs, self.container, "attach");
            }
            Some(Request::Wait) => client.hears = Hears::Exit,
            Some(Request::Stdin(bytes)) => {
                client.awaits_taken = true;
                self.streams.feed(bytes);
            }
            Some(Request::StdinClosed) => self.streams.end_input(),
            Some(Request::Resize { rows, columns }) => {
                if let Some(master) = self.streams.as_terminal() {
                    terminal::set_size(master.as_fd(), rows, columns).ok();
                }
            }
            Some(Request::Signal(number)) => {
                signal::send(self.running.init.pidfd.as_fd(), number).ok();
            }
            // The container finds its pipe closed, and ends as a program in a pipeline does.
            Some(Request::OutputClosed(stream)) if client.foreground => {
                self.streams.close_output(stream);
            }
            Some(Request::Listener) if self.handler.is_some() => {
                if let Some(listener) = descriptor {
                    Listener::new(listener.as_fd()).take_turns().ok();
                    self.calls.push(listener);
                }
            }
            // What else it uses of the record stays as it was at the start.
            Some(Request::Updated) => {
                if let Ok(config) = record::load::<Config>(&self.container.config_file()) {
                    self.change_checks(&config.health);
                }
            }
            Some(Request::Check) => self.ask_for_check(index),
            Some(Request::OutputClosed(_) | Request::Listener) | None => {}
        }
    }

    /// Tells the clients whose input was taken that there is room for more.
    pub fn grant_input(&mut self) {
        if !self.streams.takes_input() {
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
        let (Some(handler), Some(listener)) = (&mut self.handler, self.calls.get(index)) else {
            return false;
        };
        notify::serve(listener, events, handler.as_mut())
    }
}
