//! DNS over UDP: each question goes to one resolver of the host after the other until one answers. Over TCP the
//! resolver's address is like any other, see `route`.
//!
//! The host's resolv.conf is looked at for each question, so that its changes are followed; where it names nobody,
//! the container hears at once that the server failed.

use std::net::IpAddr;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::Duration;
use std::time::Instant;

use rustix::event::epoll::EventFlags;
use rustix::io::Errno;
use rustix::net::RecvFlags;
use rustix::net::SendFlags;

use crate::network::link::Link;
use crate::network::packet;
use crate::network::route::DNS;
use crate::network::slab::Id;
use crate::network::slab::Kind;
use crate::network::slab::Slab;
use crate::network::udp;

/// The oldest question is given up when there are more.
const MOST: usize = 512;
/// How long each resolver has; glibc asks again after five seconds.
const PATIENCE: Duration = Duration::from_secs(2);
const ROUNDS: usize = 2;
const HEADER: usize = 12;
/// More than one name and its options take.
const LONGEST: usize = 4096;

struct Question {
    /// Who asks: the port of the container, and the resolver as it knows it.
    port: u16,
    resolver: IpAddr,
    text: Vec<u8>,
    /// Those that are still to be asked, the next one last.
    left: Vec<SocketAddr>,
    socket: Option<OwnedFd>,
    deadline: Instant,
}

pub struct Dns {
    questions: Slab<Question>,
}

impl Dns {
    pub fn new() -> Dns {
        Dns {
            questions: Slab::new(),
        }
    }

    pub fn contains(&self, id: Id) -> bool {
        self.questions.contains(id)
    }

    /// A question of the container's; what is none is dropped.
    pub fn ask(&mut self, link: &mut Link, port: u16, resolver: IpAddr, text: &[u8]) {
        if !(HEADER..=LONGEST).contains(&text.len()) || text[2] & 0x80 != 0 {
            return;
        }
        if self.questions.len() >= MOST {
            let oldest = self.questions.iter().min_by_key(|(_, one)| one.deadline);
            if let Some(id) = oldest.map(|(id, _)| id) {
                self.questions.remove(id);
            }
        }
        let servers = link.router.resolvers();
        let mut left: Vec<SocketAddr> = servers.repeat(ROUNDS);
        left.reverse();
        let id = self.questions.insert(Question {
            port,
            resolver,
            text: text.to_vec(),
            left,
            socket: None,
            deadline: link.now,
        });
        self.ask_next(link, id);
    }

    fn ask_next(&mut self, link: &mut Link, id: Id) {
        let Some(question) = self.questions.get_mut(id) else {
            return;
        };
        while let Some(server) = question.left.pop() {
            let sent = udp::connect(server).and_then(|socket| {
                let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
                rustix::net::send(&socket, &question.text, flags)?;
                link.watch(&socket, id.token(Kind::Dns), EventFlags::IN)?;
                Ok(socket)
            });
            if let Ok(socket) = sent {
                question.socket = Some(socket);
                question.deadline = link.now + PATIENCE;
                link.timers.push(question.deadline, id.token(Kind::Dns));
                return;
            }
        }
        if let Some(question) = self.questions.remove(id) {
            let text = failure(&question.text);
            answer(link, &question, &text);
        }
    }

    pub fn on_event(&mut self, link: &mut Link, id: Id) {
        let Some(question) = self.questions.get_mut(id) else {
            return;
        };
        let Some(socket) = &question.socket else {
            return;
        };
        let mut buffer = vec![0; usize::from(u16::MAX)];
        match rustix::net::recv(socket, &mut buffer[..], RecvFlags::DONTWAIT) {
            // The socket is connected: it is the resolver that was asked. The id must be that of the question.
            Ok((length, _)) if length >= HEADER && buffer[..2] == question.text[..2] => {
                if let Some(question) = self.questions.remove(id) {
                    answer(link, &question, &buffer[..length]);
                }
            }
            Ok(_) | Err(Errno::AGAIN | Errno::INTR) => {}
            Err(_) => self.ask_next(link, id),
        }
    }

    pub fn on_timer(&mut self, link: &mut Link, id: Id) {
        let question = self.questions.get_mut(id);
        if question.is_some_and(|question| question.deadline <= link.now) {
            self.ask_next(link, id);
        }
    }
}

fn answer(link: &mut Link, question: &Question, text: &[u8]) {
    let path = link.inward(question.resolver);
    let start = packet::udp_payload_at(path);
    if text.len() > packet::FRAME - start {
        return;
    }
    link.frame[start..start + text.len()].copy_from_slice(text);
    let end = packet::udp(&mut link.frame, path, DNS, question.port, text.len());
    link.send_own(end);
}

/// RFC 1035, section 4.1.1: the header of the question, as an answer with SERVFAIL, and what was asked.
fn failure(question: &[u8]) -> Vec<u8> {
    const SERVFAIL: u8 = 2;
    let mut text = question[..HEADER].to_vec();
    text[2] |= 0x80;
    text[3] = 0x80 | SERVFAIL;
    let asked = asked(&question[HEADER..]).unwrap_or_default();
    text[4..12].fill(0);
    text[5] = u8::from(!asked.is_empty());
    text.extend(asked);
    text
}

/// The first name that is asked for, with its type and class.
fn asked(bytes: &[u8]) -> Option<&[u8]> {
    let mut at = 0;
    loop {
        match bytes.get(at)? {
            0 => return bytes.get(..at + 5),
            length @ 1..=63 => at += 1 + usize::from(*length),
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_failure_repeats_the_question() {
        let question = b"\x12\x34\x01\x20\0\x01\0\0\0\0\0\x01\x07example\0\0\x01\0\x01\0\0\x29\0\0";
        let expected = b"\x12\x34\x81\x82\0\x01\0\0\0\0\0\0\x07example\0\0\x01\0\x01";
        assert_eq!(failure(question), expected);
        assert_eq!(
            failure(&question[..14]),
            b"\x12\x34\x81\x82\0\0\0\0\0\0\0\0"
        );
    }

    proptest! {
        #[test]
        fn no_question_makes_it_panic(text in prop::collection::vec(any::<u8>(), HEADER..64)) {
            let failure = failure(&text);
            prop_assert!(failure.len() <= text.len());
        }
    }
}
