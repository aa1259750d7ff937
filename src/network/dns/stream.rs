//! DNS over a byte stream (RFC 1035, section 4.2.2): each message has its length before it. Nothing waits.

use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::RecvFlags;
use rustix::net::SendFlags;

const LENGTH: usize = 2;

pub struct Stream {
    socket: OwnedFd,
    /// The longest message that is taken.
    longest: usize,
    inbox: Vec<u8>,
    outbox: Vec<u8>,
    /// The other end says nothing more.
    pub ended: bool,
}

impl Stream {
    pub fn new(socket: OwnedFd, longest: usize) -> Stream {
        Stream {
            socket,
            longest,
            inbox: vec![],
            outbox: vec![],
            ended: false,
        }
    }

    /// The next message of what was read, if it is there as a whole. An error: there will be none.
    pub fn next(&mut self) -> Result<Option<Vec<u8>>, Errno> {
        let [high, low, rest @ ..] = &self.inbox[..] else {
            return Ok(None);
        };
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        if length > self.longest {
            return Err(Errno::MSGSIZE);
        }
        let message = rest.get(..length).map(<[u8]>::to_vec);
        if message.is_some() {
            self.inbox.drain(..LENGTH + length);
        }
        Ok(message)
    }

    /// Reads some of what there is.
    pub fn fill(&mut self) -> Result<(), Errno> {
        const SOME: usize = 4096;
        let filled = self.inbox.len();
        self.inbox.resize(filled + SOME, 0);
        let read = rustix::net::recv(&self.socket, &mut self.inbox[filled..], RecvFlags::DONTWAIT);
        let length = read.as_ref().map_or(0, |(length, _)| *length);
        self.inbox.truncate(filled + length);
        match read {
            Ok((0, _)) => self.ended = true,
            Ok(_) | Err(Errno::AGAIN | Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
        Ok(())
    }

    /// Adds a message, and sends what can be sent.
    pub fn put(&mut self, message: &[u8]) -> Result<(), Errno> {
        let length = u16::try_from(message.len()).map_err(|_| Errno::MSGSIZE)?;
        self.outbox.extend(length.to_be_bytes());
        self.outbox.extend(message);
        self.flush()
    }

    pub fn flush(&mut self) -> Result<(), Errno> {
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        while !self.outbox.is_empty() {
            match rustix::net::send(&self.socket, &self.outbox, flags) {
                Ok(sent) => drop(self.outbox.drain(..sent)),
                // It is not connected yet, or has no room.
                Err(Errno::AGAIN | Errno::INTR) => return Ok(()),
                Err(errno) => return Err(errno),
            }
        }
        Ok(())
    }

    /// Bytes that wait for the other end.
    pub fn owed(&self) -> usize {
        self.outbox.len()
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::io::Write;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn messages_come_in_pieces_and_together() {
        let (mut peer, socket) = UnixStream::pair().unwrap();
        let mut stream = Stream::new(socket.into(), 8);
        for part in [&b""[..], b"\0", b"\x03on"] {
            peer.write_all(part).unwrap();
            stream.fill().unwrap();
            assert_eq!(stream.next(), Ok(None));
        }
        peer.write_all(b"e\0\x03two\0\0\0\x09").unwrap();
        stream.fill().unwrap();
        assert_eq!(stream.next(), Ok(Some(b"one".to_vec())));
        assert_eq!(stream.next(), Ok(Some(b"two".to_vec())));
        assert_eq!(stream.next(), Ok(Some(vec![])));
        assert_eq!(stream.next(), Err(Errno::MSGSIZE));
        stream.put(b"answer").unwrap();
        assert_eq!(stream.owed(), 0);
        let mut got = [0; 8];
        peer.read_exact(&mut got).unwrap();
        assert_eq!(&got, b"\0\x06answer");
    }

    #[test]
    fn who_does_not_read_is_owed() {
        let (mut peer, socket) = UnixStream::pair().unwrap();
        let mut stream = Stream::new(socket.into(), 8);
        let message = vec![b'x'; 60_000];
        while stream.owed() == 0 {
            stream.put(&message).unwrap();
        }
        let owed = stream.owed();
        assert!(owed <= message.len() + LENGTH);
        peer.read_exact(&mut vec![0; 60_002]).unwrap();
        stream.flush().unwrap();
        assert!(stream.owed() < owed);
        drop(peer);
        stream.flush().ok();
        assert!(stream.fill().is_err() || stream.ended);
    }
}
