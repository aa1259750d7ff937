//! A server of DNS on an address of the host, in the foreground: what it answers is told by who starts it.
//!
//! Nobody can keep it from others: clients over TCP are few and bounded, and nothing is waited for but all of them.

use std::convert::Infallible;
use std::io::ErrorKind;
use std::mem::MaybeUninit;
use std::net::IpAddr;
use std::net::SocketAddr;
use std::net::TcpListener;
use std::net::UdpSocket;
use std::os::fd::AsFd;
use std::os::fd::OwnedFd;
use std::time::Duration;
use std::time::Instant;

use rustix::event::epoll;
use rustix::event::epoll::EventData;
use rustix::event::epoll::EventFlags;
use rustix::io::Errno;
use rustix::time::Timespec;

use crate::error::WithHint;
use crate::network::dns::Code;
use crate::network::dns::Data;
use crate::network::dns::LONGEST_QUESTION;
use crate::network::dns::Query;
use crate::network::dns::stream::Stream;
use crate::sys::inet;
use crate::sys::inet::Sending;

/// Clients over TCP; the oldest goes when there are more.
const CLIENTS: usize = 64;
/// How long one may stay without a word, and what it may leave unread.
const IDLE: Duration = Duration::from_secs(10);
const UNREAD: usize = 64 * 1024;
/// Datagrams in one turn.
const TURN: usize = 64;

/// For a port that is free over UDP and TCP.
const TRIES: usize = 16;

/// Tokens of the two sockets; those of clients come after them.
const DATAGRAMS: u64 = 0;
const LISTENER: u64 = 1;

struct Client {
    token: u64,
    stream: Stream,
    /// The address that it has asked.
    local: IpAddr,
    last: Instant,
    watched: EventFlags,
}

pub struct Stub {
    datagrams: UdpSocket,
    listener: TcpListener,
    epoll: OwnedFd,
    clients: Vec<Client>,
    next: u64,
}

impl Stub {
    pub fn listen(address: SocketAddr) -> anyhow::Result<Stub> {
        let (datagrams, listener) = bind(address).map_err(|err| explain(address, err))?;
        datagrams.set_nonblocking(true)?;
        listener.set_nonblocking(true)?;
        inet::want_local_address(datagrams.as_fd(), address.is_ipv4())?;
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        for (socket, token) in [(datagrams.as_fd(), DATAGRAMS), (listener.as_fd(), LISTENER)] {
            epoll::add(&epoll, socket, EventData::new_u64(token), EventFlags::IN)?;
        }
        Ok(Stub {
            datagrams,
            listener,
            epoll,
            clients: vec![],
            next: LISTENER + 1,
        })
    }

    /// With the port that was found.
    pub fn address(&self) -> anyhow::Result<SocketAddr> {
        Ok(self.datagrams.local_addr()?)
    }

    /// Answers until it is killed; `answer` hears of each question, and of the address that was asked.
    pub fn serve(
        mut self,
        mut answer: impl FnMut(&Query, IpAddr) -> (Code, Vec<Data>),
    ) -> anyhow::Result<Infallible> {
        const SECOND: Timespec = Timespec {
            tv_sec: 1,
            tv_nsec: 0,
        };
        loop {
            let mut events = [MaybeUninit::<epoll::Event>::uninit(); TURN];
            let limit = (!self.clients.is_empty()).then_some(&SECOND);
            let events = match epoll::wait(&self.epoll, &mut events[..], limit) {
                Ok((events, _)) => &*events,
                Err(Errno::INTR) => &[],
                Err(errno) => return Err(errno.into()),
            };
            for event in events {
                match event.data.u64() {
                    DATAGRAMS => self.answer_datagrams(&mut answer),
                    LISTENER => self.accept(),
                    token => self.answer_client(token, &mut answer),
                }
            }
            let now = Instant::now();
            self.clients.retain(|client| client.last + IDLE > now);
        }
    }

    fn answer_datagrams(&self, answer: &mut impl FnMut(&Query, IpAddr) -> (Code, Vec<Data>)) {
        let mut buffer = vec![0; LONGEST_QUESTION];
        for _ in 0..TURN {
            let socket = self.datagrams.as_fd();
            let (length, peer, local) = match inet::receive_datagram(socket, &mut buffer) {
                Ok(received) => received,
                Err(Errno::AGAIN) => return,
                // What ICMP says of an answer that somebody did not wait for.
                Err(_) => continue,
            };
            let reached = local.unwrap_or(peer.ip()).to_canonical();
            let reply = reply(&buffer[..length], reached, Query::limit, answer);
            if let Some(reply) = reply {
                let sending = Sending {
                    to: Some(peer),
                    from: local,
                    size: None,
                };
                inet::send_datagrams(socket, &reply, sending).ok();
            }
        }
    }

    fn accept(&mut self) {
        let Ok((socket, _)) = self.listener.accept() else {
            return;
        };
        let (Ok(()), Ok(local)) = (socket.set_nonblocking(true), socket.local_addr()) else {
            return;
        };
        if self.clients.len() >= CLIENTS {
            self.clients.remove(0);
        }
        let token = self.next;
        self.next += 1;
        let data = EventData::new_u64(token);
        if epoll::add(&self.epoll, &socket, data, EventFlags::IN).is_ok() {
            self.clients.push(Client {
                token,
                stream: Stream::new(socket.into(), LONGEST_QUESTION),
                local: local.ip().to_canonical(),
                last: Instant::now(),
                watched: EventFlags::IN,
            });
        }
    }

    fn answer_client(
        &mut self,
        token: u64,
        answer: &mut impl FnMut(&Query, IpAddr) -> (Code, Vec<Data>),
    ) {
        let index = self.clients.iter().position(|one| one.token == token);
        let Some(index) = index else {
            return;
        };
        let stays = self.clients[index].serve(&self.epoll, answer);
        if !matches!(stays, Ok(true)) {
            self.clients.remove(index);
        }
    }
}

impl Client {
    /// Whether it stays.
    fn serve(
        &mut self,
        epoll: &OwnedFd,
        answer: &mut impl FnMut(&Query, IpAddr) -> (Code, Vec<Data>),
    ) -> Result<bool, Errno> {
        self.stream.flush()?;
        self.stream.fill()?;
        while let Some(text) = self.stream.next()? {
            self.last = Instant::now();
            let limit = |_: &Query| usize::from(u16::MAX);
            if let Some(reply) = reply(&text, self.local, limit, answer) {
                self.stream.put(&reply)?;
            }
        }
        let owed = self.stream.owed();
        let mut wanted = EventFlags::empty();
        // An end would be told of again and again.
        wanted.set(EventFlags::IN, !self.stream.ended);
        wanted.set(EventFlags::OUT, owed > 0);
        if wanted != self.watched {
            self.watched = wanted;
            epoll::modify(epoll, &self.stream, EventData::new_u64(self.token), wanted)?;
        }
        Ok(owed < UNREAD && !(self.stream.ended && owed == 0))
    }
}

fn reply(
    text: &[u8],
    local: IpAddr,
    limit: impl Fn(&Query) -> usize,
    answer: &mut impl FnMut(&Query, IpAddr) -> (Code, Vec<Data>),
) -> Option<Vec<u8>> {
    match Query::parse(text) {
        Ok(query) => {
            let (code, data) = answer(&query, local);
            Some(query.answer(code, &data, limit(&query)))
        }
        Err(said) => said,
    }
}

/// Both sockets, on one port. One that the kernel has chosen may be in use over TCP: then it chooses another.
fn bind(address: SocketAddr) -> std::io::Result<(UdpSocket, TcpListener)> {
    let tries = if address.port() == 0 { TRIES } else { 1 };
    let mut bound = bind_once(address);
    for _ in 1..tries {
        match &bound {
            Err(err) if err.kind() == ErrorKind::AddrInUse => bound = bind_once(address),
            _ => break,
        }
    }
    bound
}

fn bind_once(mut address: SocketAddr) -> std::io::Result<(UdpSocket, TcpListener)> {
    let datagrams = UdpSocket::bind(address)?;
    address.set_port(datagrams.local_addr()?.port());
    Ok((datagrams, TcpListener::bind(address)?))
}

fn explain(address: SocketAddr, err: std::io::Error) -> anyhow::Error {
    let kind = err.kind();
    let err = anyhow::Error::new(err).context(format!("cannot listen on {address}"));
    match kind {
        ErrorKind::AddrInUse => err.hint(format!(
            "`ss -lntup sport = {}` shows by whom it is used; or choose another port",
            address.port()
        )),
        ErrorKind::AddrNotAvailable => err.hint("`ip address` shows the addresses of this host"),
        ErrorKind::PermissionDenied => err.hint("use a port from 1024 on"),
        _ => err,
    }
}
