//! One connection that bypasses the frames: what comes from one end goes to the other as it is. A little is copied; where there is more,
//! the kernel passes on the memory that it is in (splice(2)).

use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::RecvFlags;
use rustix::net::SendFlags;
use rustix::net::Shutdown;
use rustix::net::sockopt;
use rustix::pipe::PipeFlags;
use rustix::pipe::SpliceFlags;

use crate::network::stack::meter::Bucket;

/// What is copied at once. Who has as much to say has more.
const LITTLE: usize = 16 << 10;
/// What is passed on at once.
const MUCH: u32 = 1 << 20;

/// Linux: fs/pipe.c, `PIPE_DEF_BUFFERS` pages unless more are asked for; all pipes of a user have 16384 pages
/// (`pipe-user-pages-soft`), which others of his programs need too.
const PIPE: usize = 256 << 10;
const MOST_PIPES: usize = 16;

pub struct Pipe {
    read: OwnedFd,
    write: OwnedFd,
}

/// Pipes that are empty, for whoever has much to pass on; one that has none copies.
#[derive(Default)]
pub struct Pipes {
    free: Vec<Pipe>,
    used: usize,
}

impl Pipes {
    fn take(&mut self) -> Option<Pipe> {
        let pipe = match self.free.pop() {
            Some(pipe) => pipe,
            None if self.used >= MOST_PIPES => return None,
            None => {
                let flags = PipeFlags::CLOEXEC | PipeFlags::NONBLOCK;
                let (read, write) = rustix::pipe::pipe_with(flags).ok()?;
                rustix::pipe::fcntl_setpipe_size(&write, PIPE).ok();
                Pipe { read, write }
            }
        };
        self.used += 1;
        Some(pipe)
    }

    fn give_back(&mut self, pipe: Pipe) {
        self.used -= 1;
        self.free.push(pipe);
    }

    /// One that is not empty is none of use.
    fn forget(&mut self, pipe: Pipe) {
        self.used -= 1;
        drop(pipe);
    }

    pub fn clear(&mut self) {
        self.free.clear();
    }
}

/// What all such connections share.
pub struct Means<'a> {
    pub pipes: &'a mut Pipes,
    pub buffer: &'a mut [u8],
}

/// What was taken from one end and not yet by the other.
enum Held {
    Nothing,
    Bytes(Vec<u8>),
    /// And how many bytes are in it.
    Pipe(Pipe, usize),
}

/// What is left to do for one way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// An event will tell.
    Nothing,
    More,
    /// There is more, but not before more may go.
    Slowed,
    Broken,
}

/// The socket at one end, and what is known of it since epoll has told of it last.
pub struct End {
    pub socket: OwnedFd,
    pub readable: bool,
    pub writable: bool,
    /// That little was read does not mean that there is no more: its peer has closed, or has sent urgent data, before
    /// which each read ends.
    pub stops_short: bool,
    /// Its peer was told that nothing more comes.
    is_shut: bool,
    is_eager: bool,
}

impl End {
    pub fn new(socket: OwnedFd) -> End {
        End {
            socket,
            readable: false,
            writable: false,
            stops_short: false,
            is_shut: false,
            is_eager: false,
        }
    }

    /// Much goes to its peer, who is on this machine: nothing is lost on the way, and nothing is to be measured.
    fn make_eager(&mut self) {
        if !self.is_eager {
            sockopt::set_tcp_congestion(&self.socket, "reno").ok();
            self.is_eager = true;
        }
    }

    /// Nothing more comes for its peer.
    pub fn tell_end(&mut self) {
        if !self.is_shut {
            rustix::net::shutdown(&self.socket, Shutdown::Write).ok();
            self.is_shut = true;
        }
    }
}

/// From one end to the other.
pub struct Way {
    held: Held,
    /// There is more at once than is copied.
    is_bulk: bool,
    /// There is nothing more to come, and nothing left.
    pub is_over: bool,
    ended: bool,
}

impl Way {
    pub fn new() -> Way {
        Way {
            held: Held::Nothing,
            is_bulk: false,
            is_over: false,
            ended: false,
        }
    }

    /// Passes on what there is, as far as a turn may last.
    pub fn pass(
        &mut self,
        from: &mut End,
        to: &mut End,
        rate: &Bucket,
        means: &mut Means<'_>,
    ) -> Next {
        const ROUNDS: usize = 4;
        for _ in 0..ROUNDS {
            match self.let_go(to, means.pipes) {
                Err(_) => return Next::Broken,
                Ok(false) => return Next::Nothing,
                Ok(true) => {}
            }
            if self.ended {
                self.is_over = true;
                return Next::Nothing;
            }
            if !from.readable {
                return Next::Nothing;
            }
            if rate.is_empty() {
                return Next::Slowed;
            }
            match self.take(from, to, rate, means) {
                Ok(taken) => rate.take(taken),
                Err(Errno::AGAIN) => from.readable = false,
                Err(Errno::INTR) => {}
                Err(_) => return Next::Broken,
            }
        }
        Next::More
    }

    /// Passes on what there still is.
    pub fn pass_last(
        &mut self,
        from: &mut End,
        to: &mut End,
        rate: &Bucket,
        means: &mut Means<'_>,
    ) {
        const ROUNDS: usize = 64;
        for _ in 0..ROUNDS {
            if self.pass(from, to, rate, means) != Next::More {
                break;
            }
        }
    }

    /// Takes from one end, and gives the other what it takes of that; how much was taken.
    fn take(
        &mut self,
        from: &mut End,
        to: &mut End,
        rate: &Bucket,
        means: &mut Means<'_>,
    ) -> Result<usize, Errno> {
        let most = rate.portion(MUCH) as usize;
        if self.is_bulk
            && let Some(pipe) = means.pipes.take()
        {
            let flags = SpliceFlags::NONBLOCK | SpliceFlags::MOVE;
            let spliced = rustix::pipe::splice(&from.socket, None, &pipe.write, None, most, flags);
            if let Ok(taken @ 1..) = spliced {
                to.make_eager();
                self.is_bulk = taken >= LITTLE;
                self.held = Held::Pipe(pipe, taken);
                return Ok(taken);
            }
            // Linux: it takes nothing beyond urgent data, which looks like an end. Reading tells.
            means.pipes.give_back(pipe);
            self.is_bulk = false;
        }
        let room = LITTLE.min(most);
        let buffer = &mut means.buffer[..room];
        let (taken, _) = rustix::net::recv(&from.socket, &mut *buffer, RecvFlags::DONTWAIT)?;
        self.ended = taken == 0;
        self.is_bulk = taken == LITTLE;
        // Linux: what comes after this call is told of anew, and so is an end.
        if taken < room && !from.stops_short {
            from.readable = false;
        }
        let sent = if taken > 0 {
            write(to, &buffer[..taken])?
        } else {
            0
        };
        if sent < taken {
            self.held = Held::Bytes(buffer[sent..taken].to_vec());
        }
        Ok(taken)
    }

    /// Gives what is held to an end; whether that has taken all of it.
    fn let_go(&mut self, to: &mut End, pipes: &mut Pipes) -> Result<bool, Errno> {
        loop {
            match std::mem::replace(&mut self.held, Held::Nothing) {
                Held::Nothing => return Ok(true),
                Held::Bytes(bytes) => {
                    let sent = if to.writable { write(to, &bytes)? } else { 0 };
                    if sent < bytes.len() {
                        self.held = Held::Bytes(bytes[sent..].to_vec());
                    }
                }
                Held::Pipe(pipe, 0) => {
                    pipes.give_back(pipe);
                }
                Held::Pipe(pipe, length) if to.writable => {
                    let flags = SpliceFlags::NONBLOCK | SpliceFlags::MOVE;
                    let sent =
                        rustix::pipe::splice(&pipe.read, None, &to.socket, None, length, flags);
                    let left = match sent {
                        Ok(sent) => length - sent,
                        Err(Errno::INTR) => length,
                        Err(Errno::AGAIN) => {
                            to.writable = false;
                            length
                        }
                        Err(errno) => {
                            pipes.forget(pipe);
                            return Err(errno);
                        }
                    };
                    self.held = Held::Pipe(pipe, left);
                }
                held @ Held::Pipe(..) => self.held = held,
            }
            if !to.writable && !matches!(self.held, Held::Nothing) {
                return Ok(false);
            }
        }
    }

    /// The connection is over.
    pub fn end(self, pipes: &mut Pipes) {
        match self.held {
            Held::Pipe(pipe, 0) => pipes.give_back(pipe),
            Held::Pipe(pipe, _) => pipes.forget(pipe),
            Held::Nothing | Held::Bytes(_) => {}
        }
    }
}

/// How much of it an end has taken; when that is not all, it says when it takes more.
fn write(to: &mut End, bytes: &[u8]) -> Result<usize, Errno> {
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    match rustix::net::send(&to.socket, bytes, flags) {
        Ok(sent) => Ok(sent),
        Err(Errno::AGAIN | Errno::NOBUFS) => {
            to.writable = false;
            Ok(0)
        }
        Err(Errno::INTR) => Ok(0),
        Err(errno) => Err(errno),
    }
}
