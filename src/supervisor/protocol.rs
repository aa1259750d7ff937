//! What a supervisor and its clients say to each other: packets of a tag and a payload, over the
//! control socket `ctl` or, for `run` and `start`, the pair made before the fork.
//!
//! ```text
//! client                                        supervisor
//!                                     started   the command runs       } `run`, `start`
//!                                     failed    it does not: `Told`    } only
//! attach  ----------------------------------->  from now on the streams
//! wait    ----------------------------------->  from now on the exit alone
//! stdin  ------------------------------------>
//!         <---------------------  taken        the container's input has room for more
//! stdin closed, resize, signal,
//! output closed ----------------------------->
//! stop  ------------------------------------->  from now on the exit alone
//! listener, updated  ------------------------->
//! check  ------------------------------------->
//!         <---------------------  checked
//!         <---------------------  stdout, stderr
//!         <---------------------  exit          and the end of the connection
//!         <---------------------  left behind   instead: it took nothing for too long (client.rs)
//! ```
//!
//! A client sends one packet of input and waits for `taken`, so that its signals never stand in
//! line behind input that the container does not read, and neither side ever blocks in a send.
//! A client that has nothing more to say shuts down its sending side; the supervisor closes the
//! connection when it has done all that was asked.

use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;

use serde::Deserialize;
use serde::Serialize;

use crate::container::log::Stream;
use crate::error::Told;
use crate::sys::process::Exit;
use crate::sys::socket;

/// The largest payload. Linux: a packet must fit the socket's send buffer, 208 KiB by default.
pub const PAYLOAD: usize = 64 * 1024;

/// A buffer of this size takes any packet.
pub const PACKET: usize = PAYLOAD + 1;

/// From a client.
#[derive(Debug, PartialEq, Eq)]
pub enum Request<'a> {
    Attach,
    Wait,
    Stdin(&'a [u8]),
    StdinClosed,
    Resize {
        rows: u16,
        columns: u16,
    },
    Signal(i32),
    /// A person wants it to end, by this signal instead of its own; killed after so many seconds, if that is
    /// given. From now on the exit alone.
    Stop {
        signal: Option<i32>,
        limit: Option<u32>,
    },
    /// Nobody reads this stream any more, as at the end of a shell's pipeline.
    OutputClosed(Stream),
    /// A descriptor is beside it: where the filter of a command that joins the container asks for answers.
    Listener,
    /// The record of the container is another one than it was.
    Updated,
    /// A health check is to be run now.
    Check,
}

/// From the supervisor.
#[derive(Debug)]
pub enum Reply<'a> {
    Started,
    Failed(Told),
    Stdout(&'a [u8]),
    Stderr(&'a [u8]),
    Taken,
    /// How the health check went; whether it was the startup probe.
    Checked {
        passed: bool,
        startup: bool,
    },
    Exit(Exit),
    LeftBehind,
}

#[derive(Serialize, Deserialize)]
struct ExitPayload {
    status: i32,
    signal: Option<i32>,
}

impl Request<'_> {
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Request::Attach => b"a".to_vec(),
            Request::Wait => b"w".to_vec(),
            Request::Stdin(bytes) => tagged(b'i', bytes),
            Request::StdinClosed => b"c".to_vec(),
            Request::Resize { rows, columns } => {
                tagged(b'r', &[rows.to_le_bytes(), columns.to_le_bytes()].concat())
            }
            Request::Signal(number) => tagged(b'k', &number.to_le_bytes()),
            Request::Stop { signal, limit } => {
                // Neither a signal of that number nor so long a time is asked for.
                let limit = limit.unwrap_or(u32::MAX).to_le_bytes();
                tagged(b'e', &[signal.unwrap_or(0).to_le_bytes(), limit].concat())
            }
            Request::OutputClosed(Stream::Stdout) => b"1".to_vec(),
            Request::OutputClosed(Stream::Stderr) => b"2".to_vec(),
            Request::Listener => b"l".to_vec(),
            Request::Updated => b"u".to_vec(),
            Request::Check => b"h".to_vec(),
        }
    }

    /// `None` for what is no request; the sender may be of another version.
    pub fn decode(packet: &[u8]) -> Option<Request<'_>> {
        let (tag, payload) = packet.split_first()?;
        Some(match tag {
            b'a' => Request::Attach,
            b'w' => Request::Wait,
            b'i' => Request::Stdin(payload),
            b'c' => Request::StdinClosed,
            b'r' => {
                let cells: [u8; 4] = payload.try_into().ok()?;
                Request::Resize {
                    rows: u16::from_le_bytes([cells[0], cells[1]]),
                    columns: u16::from_le_bytes([cells[2], cells[3]]),
                }
            }
            b'1' => Request::OutputClosed(Stream::Stdout),
            b'2' => Request::OutputClosed(Stream::Stderr),
            b'l' => Request::Listener,
            b'u' => Request::Updated,
            b'h' => Request::Check,
            b'e' => {
                let (signal, limit) = payload.split_at_checked(4)?;
                let signal = i32::from_le_bytes(signal.try_into().ok()?);
                let limit = u32::from_le_bytes(limit.try_into().ok()?);
                Request::Stop {
                    signal: Some(signal).filter(|signal| *signal != 0),
                    limit: Some(limit).filter(|limit| *limit != u32::MAX),
                }
            }
            b'k' => Request::Signal(i32::from_le_bytes(payload.try_into().ok()?)),
            _ => return None,
        })
    }
}

impl Reply<'_> {
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Reply::Started => b"s".to_vec(),
            Reply::Failed(told) => tagged(b'f', &serde_json::to_vec(told).unwrap_or_default()),
            Reply::Stdout(bytes) => tagged(b'o', bytes),
            Reply::Stderr(bytes) => tagged(b'e', bytes),
            Reply::Taken => b"t".to_vec(),
            Reply::Checked { passed, startup } => {
                tagged(b'h', &[u8::from(*passed), u8::from(*startup)])
            }
            Reply::LeftBehind => b"b".to_vec(),
            Reply::Exit(exit) => {
                let payload = ExitPayload {
                    status: exit.status,
                    signal: exit.signal,
                };
                tagged(b'x', &serde_json::to_vec(&payload).unwrap_or_default())
            }
        }
    }

    pub fn decode(packet: &[u8]) -> Option<Reply<'_>> {
        let (tag, payload) = packet.split_first()?;
        Some(match tag {
            b's' => Reply::Started,
            b'f' => Reply::Failed(serde_json::from_slice(payload).ok()?),
            b'o' => Reply::Stdout(payload),
            b'e' => Reply::Stderr(payload),
            b't' => Reply::Taken,
            b'h' => match payload {
                [passed, startup] => Reply::Checked {
                    passed: *passed != 0,
                    startup: *startup != 0,
                },
                _ => return None,
            },
            b'b' => Reply::LeftBehind,
            b'x' => {
                let exit: ExitPayload = serde_json::from_slice(payload).ok()?;
                Reply::Exit(Exit {
                    status: exit.status,
                    signal: exit.signal,
                })
            }
            _ => return None,
        })
    }
}

fn tagged(tag: u8, payload: &[u8]) -> Vec<u8> {
    let mut packet = Vec::with_capacity(payload.len() + 1);
    packet.push(tag);
    packet.extend_from_slice(payload);
    packet
}

/// Connects to the supervisor of a container, by its runtime directory.
pub fn connect(run: BorrowedFd<'_>) -> crate::sys::Result<OwnedFd> {
    socket::connect(run, SOCKET)
}

/// The name of the control socket in the runtime directory of a container.
pub const SOCKET: &str = "ctl";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_come_out_as_they_went_in() {
        for request in [
            Request::Attach,
            Request::Wait,
            Request::Stdin(b"some\0bytes"),
            Request::StdinClosed,
            Request::Resize {
                rows: 24,
                columns: 300,
            },
            Request::Signal(15),
            Request::Stop {
                signal: None,
                limit: Some(10),
            },
            Request::Stop {
                signal: Some(3),
                limit: None,
            },
            Request::OutputClosed(Stream::Stderr),
            Request::Listener,
            Request::Updated,
            Request::Check,
        ] {
            let packet = request.encode();
            assert_eq!(Request::decode(&packet), Some(request));
        }
    }

    #[test]
    fn junk_is_no_request() {
        for packet in [&b""[..], b"?", b"r12", b"k", b"k12345", b"e", b"e1234567"] {
            assert_eq!(Request::decode(packet), None);
        }
    }
}
