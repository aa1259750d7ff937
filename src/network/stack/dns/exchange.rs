//! One question and the resolver that is asked it: by a datagram, and over TCP when the answer is too long for that.
//!
//! Anybody on the host may send datagrams to a socket of ours that is not connected, or guess what we ask: each question
//! has a socket of its own (and with that a port that the kernel chose), which is connected, so that what others send
//! does not arrive, and a random number, whatever the container chose.

use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::RecvFlags;
use rustix::net::SendFlags;

use crate::network::dns::Query;
use crate::network::dns::Reply;
use crate::network::dns::stream::Stream;
use crate::network::stack::random;
use crate::network::stack::tcp;
use crate::network::stack::udp;

enum Socket {
    Datagrams(OwnedFd),
    Stream(Stream),
}

pub struct Exchange {
    socket: Socket,
    /// The number that the question has for this resolver.
    id: u16,
}

impl Exchange {
    pub fn by_datagram(server: SocketAddr, question: &[u8]) -> Result<Exchange, Errno> {
        let socket = udp::connect(server)?;
        let id = u16::from_ne_bytes(random());
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        rustix::net::send(&socket, &numbered(id, question), flags)?;
        Ok(Exchange {
            socket: Socket::Datagrams(socket),
            id,
        })
    }

    pub fn by_stream(server: SocketAddr, question: &[u8]) -> Result<Exchange, Errno> {
        let (socket, _) = tcp::connect(server)?;
        let id = u16::from_ne_bytes(random());
        let mut stream = Stream::new(socket, usize::from(u16::MAX));
        stream.put(&numbered(id, question))?;
        Ok(Exchange {
            socket: Socket::Stream(stream),
            id,
        })
    }

    /// Whether there is something to wait for besides an answer: room for the question.
    pub fn is_sending(&self) -> bool {
        matches!(&self.socket, Socket::Stream(stream) if stream.owed() > 0)
    }

    pub fn is_stream(&self) -> bool {
        matches!(self.socket, Socket::Stream(_))
    }

    /// What has come of it; `None`: nothing yet. The answer has the number of the question as it was asked.
    pub fn receive(&mut self, query: &Query) -> Result<Option<(Reply, Vec<u8>)>, Errno> {
        let mut answer = match &mut self.socket {
            Socket::Datagrams(socket) => {
                let mut buffer = vec![0; usize::from(u16::MAX)];
                match rustix::net::recv(socket, &mut buffer[..], RecvFlags::DONTWAIT) {
                    Ok((length, _)) => buffer.truncate(length),
                    Err(Errno::AGAIN | Errno::INTR) => return Ok(None),
                    Err(errno) => return Err(errno),
                }
                buffer
            }
            Socket::Stream(stream) => {
                stream.flush()?;
                stream.fill()?;
                match stream.next()? {
                    Some(message) => message,
                    None if stream.ended => return Err(Errno::CONNRESET),
                    None => return Ok(None),
                }
            }
        };
        let Some(reply) = query.reply(self.id, &answer) else {
            // Over a stream there is nobody else who could have said that.
            return if self.is_stream() {
                Err(Errno::BADMSG)
            } else {
                Ok(None)
            };
        };
        answer[..2].copy_from_slice(&query.id.to_be_bytes());
        Ok(Some((reply, answer)))
    }
}

impl AsFd for Exchange {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.socket {
            Socket::Datagrams(socket) => socket.as_fd(),
            Socket::Stream(stream) => stream.as_fd(),
        }
    }
}

fn numbered(id: u16, question: &[u8]) -> Vec<u8> {
    [&id.to_be_bytes(), &question[2..]].concat()
}
