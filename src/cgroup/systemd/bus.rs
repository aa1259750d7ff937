//! A connection to the bus of a systemd, or to systemd itself: blocking, without threads, and never longer than its
//! time. rustbus writes and reads the messages; its own connections can wait for ever.

use std::collections::VecDeque;
use std::io;
use std::os::fd::AsFd;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::Duration;
use std::time::Instant;

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use rustbus::MessageBuilder;
use rustbus::MessageType;
use rustbus::message_builder::MarshalledMessage;
use rustbus::wire::marshal::marshal;
use rustbus::wire::unmarshal::unmarshal_dynamic_header;
use rustbus::wire::unmarshal::unmarshal_header;
use rustbus::wire::unmarshal::unmarshal_next_message;
use rustix::event::PollFlags;
use rustix::io::Errno;
use rustix::net::AddressFamily;
use rustix::net::RecvFlags;
use rustix::net::SendFlags;
use rustix::net::SocketAddrUnix;
use rustix::net::SocketFlags;
use rustix::net::SocketType;

use crate::cgroup::hierarchy::host_uid;
use crate::cgroup::systemd::Bus;
use crate::sys::poll;

/// For how long one bus may take to answer at all.
const CONNECT_LIMIT: Duration = Duration::from_secs(3);

/// For how long a call and the job that it starts may take.
const LIMIT: Duration = Duration::from_secs(25);

/// Longer than anything that systemd says to us.
const LONGEST: usize = 1 << 24;

const SYSTEMD: &str = "org.freedesktop.systemd1";
const SYSTEMD_PATH: &str = "/org/freedesktop/systemd1";
const MANAGER: &str = "org.freedesktop.systemd1.Manager";
const DBUS: &str = "org.freedesktop.DBus";

/// What a bus answered instead of a reply.
#[derive(Debug)]
pub struct Refusal {
    /// Such as `org.freedesktop.systemd1.UnitExists`.
    pub name: String,
    pub text: String,
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Refusal {}

pub struct Connection {
    socket: OwnedFd,
    /// Bytes that were received and not yet read.
    buffer: Vec<u8>,
    serial: u32,
    deadline: Instant,
    /// Signals that came while something else was waited for.
    signals: VecDeque<MarshalledMessage>,
    /// To systemd itself: there is nobody else to talk to.
    direct: bool,
}

#[derive(Debug, PartialEq, Eq)]
struct Address {
    socket: Socket,
    direct: bool,
}

#[derive(Debug, PartialEq, Eq)]
enum Socket {
    Path(PathBuf),
    Abstract(String),
}

/// Where a systemd can be found, the best place first.
fn addresses(bus: Bus, variable: Option<&str>, runtime: Option<&str>, uid: u32) -> Vec<Address> {
    let at = |path: String, direct| Address {
        socket: Socket::Path(path.into()),
        direct,
    };
    match bus {
        Bus::System => vec![
            at("/run/dbus/system_bus_socket".into(), false),
            at("/run/systemd/private".into(), true),
        ],
        Bus::User => {
            let mut found: Vec<Address> = variable
                .unwrap_or_default()
                .split(';')
                .filter_map(parse_address)
                .collect();
            let mut directories = vec![format!("/run/user/{uid}")];
            if let Some(runtime) = runtime.filter(|path| *path != directories[0]) {
                directories.insert(0, runtime.to_owned());
            }
            found.extend(
                directories
                    .iter()
                    .map(|dir| at(format!("{dir}/bus"), false)),
            );
            let private = directories.iter();
            found.extend(private.map(|dir| at(format!("{dir}/systemd/private"), true)));
            found.dedup();
            found
        }
    }
}

/// `unix:path=/run/user/1000/bus,guid=…` (D-Bus specification, server addresses).
fn parse_address(address: &str) -> Option<Address> {
    let pairs = address.strip_prefix("unix:")?;
    let socket = pairs
        .split(',')
        .find_map(|pair| match pair.split_once('=')? {
            ("path", path) => Some(Socket::Path(unescape(path).into())),
            ("abstract", name) => Some(Socket::Abstract(unescape(name))),
            _ => None,
        });
    Some(Address {
        socket: socket?,
        direct: false,
    })
}

/// `%20` in a value of an address.
fn unescape(text: &str) -> String {
    let mut parts = text.split('%');
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (digits, rest) = part.split_at_checked(2).unwrap_or((part, ""));
        match u8::from_str_radix(digits, 16) {
            Ok(byte) => plain.push(byte.into()),
            Err(_) => plain.push_str(digits),
        }
        plain.push_str(rest);
    }
    plain
}

impl Connection {
    /// Connects to the first place where a systemd answers, and asks it to tell when jobs end.
    pub fn open(bus: Bus) -> Result<Connection> {
        let variable = std::env::var("DBUS_SESSION_BUS_ADDRESS").ok();
        let runtime = std::env::var("XDG_RUNTIME_DIR").ok();
        let uid = host_uid();
        Connection::open_any(&addresses(
            bus,
            variable.as_deref(),
            runtime.as_deref(),
            uid,
        ))
        .with_context(|| match bus {
            Bus::System => "cannot reach systemd".to_owned(),
            Bus::User => format!("cannot reach the systemd of user {uid}"),
        })
    }

    fn open_any(addresses: &[Address]) -> Result<Connection> {
        let mut first = None;
        for address in addresses {
            match Connection::open_at(address) {
                Ok(connection) => return Ok(connection),
                // Of the first place, which is the usual one; but that nobody is there says less than anything.
                Err(err) => {
                    first.get_or_insert(err);
                }
            }
        }
        Err(first.unwrap_or_else(|| anyhow::anyhow!("no bus is known")))
    }

    fn open_at(address: &Address) -> Result<Connection> {
        let deadline = Instant::now() + CONNECT_LIMIT;
        let socket = connect(&address.socket, deadline)
            .with_context(|| format!("cannot connect to {}", address.socket))?;
        let mut connection = Connection {
            socket,
            buffer: Vec::new(),
            serial: 0,
            deadline,
            signals: VecDeque::new(),
            direct: address.direct,
        };
        connection
            .greet()
            .with_context(|| format!("no answer from {}", address.socket))?;
        connection.deadline = Instant::now() + LIMIT;
        Ok(connection)
    }

    fn greet(&mut self) -> Result<()> {
        // Who we are the kernel tells; a user namespace would have us name an id that is not ours (as sd-bus does it).
        self.send(b"\0AUTH EXTERNAL\r\nDATA\r\nBEGIN\r\n")?;
        loop {
            let line = self.receive_line()?;
            match line.split(' ').next() {
                Some("OK") => break,
                Some("DATA") => {}
                _ => bail!("it refuses us: {line:?}"),
            }
        }
        if !self.direct {
            let bus = |member: &str| {
                let call = MessageBuilder::new().call(member);
                call.with_interface(DBUS)
                    .on("/org/freedesktop/DBus")
                    .at(DBUS)
            };
            self.post(&bus("Hello").build())?;
            let mut watch = bus("AddMatch").build();
            watch.body.push_param(format!(
                "type='signal',sender='{SYSTEMD}',path='{SYSTEMD_PATH}',interface='{MANAGER}',member='JobRemoved'"
            ))?;
            self.post(&watch)?;
        }
        self.call(&Connection::manager("Subscribe"))?;
        Ok(())
    }

    /// A call of systemd's manager, to which parameters are added.
    pub fn manager(member: &str) -> MarshalledMessage {
        let call = MessageBuilder::new().call(member);
        call.with_interface(MANAGER)
            .on(SYSTEMD_PATH)
            .at(SYSTEMD)
            .build()
    }

    /// Sends a call and waits for its reply. An error of the other side is a `Refusal`.
    pub fn call(&mut self, message: &MarshalledMessage) -> Result<MarshalledMessage> {
        let serial = self.post(message)?;
        loop {
            let received = self.receive()?;
            if received.dynheader.response_serial == Some(serial) {
                return reply(received);
            }
            if received.typ == MessageType::Signal {
                self.signals.push_back(received);
            }
        }
    }

    /// The next signal.
    pub fn signal(&mut self) -> Result<MarshalledMessage> {
        loop {
            if let Some(signal) = self.signals.pop_front() {
                return Ok(signal);
            }
            let received = self.receive()?;
            if received.typ == MessageType::Signal {
                return Ok(received);
            }
        }
    }

    /// Sends a message and returns its number.
    fn post(&mut self, message: &MarshalledMessage) -> Result<u32> {
        self.serial += 1;
        let mut bytes = Vec::new();
        marshal(message, self.serial, &mut bytes)?;
        bytes.extend_from_slice(message.get_buf());
        self.send(&bytes)?;
        Ok(self.serial)
    }

    fn receive(&mut self) -> Result<MarshalledMessage> {
        self.fill(16)?;
        let length = message_length(&self.buffer[..16]).context("it does not speak D-Bus")?;
        self.fill(length)?;
        let rest = self.buffer.split_off(length);
        let bytes = std::mem::replace(&mut self.buffer, rest);
        let (fixed, header) = unmarshal_header(&bytes, 0)?;
        let (fields, dynamic) = unmarshal_dynamic_header(&header, &bytes, fixed)?;
        let (_, message) = unmarshal_next_message(&header, dynamic, &bytes, fixed + fields)?;
        Ok(message)
    }

    fn receive_line(&mut self) -> Result<String> {
        loop {
            if let Some(end) = self.buffer.windows(2).position(|pair| pair == b"\r\n") {
                let rest = self.buffer.split_off(end + 2);
                let line = std::mem::replace(&mut self.buffer, rest);
                return Ok(String::from_utf8_lossy(&line[..end]).into_owned());
            }
            let length = self.buffer.len();
            if length > 4096 {
                bail!("it does not speak D-Bus");
            }
            self.fill(length + 1)?;
        }
    }

    /// Receives until so many bytes are there.
    fn fill(&mut self, length: usize) -> Result<()> {
        let mut bytes = [0; 8192];
        while self.buffer.len() < length {
            match rustix::net::recv(&self.socket, &mut bytes, RecvFlags::empty()) {
                Ok((0, _)) => bail!("it hung up"),
                Ok((count, _)) => self.buffer.extend_from_slice(&bytes[..count]),
                Err(Errno::AGAIN) => wait(&self.socket, PollFlags::IN, self.deadline)?,
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(())
    }

    fn send(&mut self, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() {
            match rustix::net::send(&self.socket, bytes, SendFlags::NOSIGNAL) {
                Ok(count) => bytes = &bytes[count..],
                Err(Errno::AGAIN) => wait(&self.socket, PollFlags::OUT, self.deadline)?,
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(())
    }
}

/// An error of the other side is an error here.
fn reply(received: MarshalledMessage) -> Result<MarshalledMessage> {
    if received.typ != MessageType::Error {
        return Ok(received);
    }
    let name = received.dynheader.error_name.clone().unwrap_or_default();
    let text: Option<String> = received.body.parser().get().ok();
    let text = text.unwrap_or_else(|| name.clone());
    Err(Refusal { name, text }.into())
}

/// Of a whole message, from its first 16 bytes (D-Bus specification, message format).
fn message_length(head: &[u8]) -> Option<usize> {
    let number = |at: usize| {
        let bytes: [u8; 4] = head[at..at + 4].try_into().ok()?;
        let number = match head[0] {
            b'l' => u32::from_le_bytes(bytes),
            b'B' => u32::from_be_bytes(bytes),
            _ => return None,
        };
        usize::try_from(number).ok()
    };
    let length = 16 + number(12)?.next_multiple_of(8) + number(4)?;
    (length <= LONGEST).then_some(length)
}

impl std::fmt::Display for Socket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Socket::Path(path) => path.display().fmt(f),
            Socket::Abstract(name) => write!(f, "@{name}"),
        }
    }
}

fn connect(socket: &Socket, deadline: Instant) -> Result<OwnedFd> {
    let address = match socket {
        Socket::Path(path) => SocketAddrUnix::new(path)?,
        Socket::Abstract(name) => SocketAddrUnix::new_abstract_name(name.as_bytes())?,
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let fd = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    loop {
        match rustix::net::connect(&fd, &address) {
            Ok(()) => return Ok(fd),
            // Linux: the other side has as many callers waiting as it wants (unix(7)); nothing tells when it has not.
            Err(Errno::AGAIN) if Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(10));
            }
            Err(Errno::AGAIN) => return Err(timed_out()),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

fn wait(socket: &OwnedFd, events: PollFlags, deadline: Instant) -> Result<()> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Err(timed_out());
    }
    poll::ready([Some((socket.as_fd(), events))], Some(left))?;
    Ok(())
}

fn timed_out() -> anyhow::Error {
    io::Error::from(Errno::TIMEDOUT).into()
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::io::Write;
    use std::os::unix::net::UnixListener;
    use std::os::unix::net::UnixStream;

    use super::*;
    use crate::error;

    #[test]
    fn the_places_of_a_bus_are_known() {
        let path = |path: &str, direct| Address {
            socket: Socket::Path(path.into()),
            direct,
        };
        let variable = "unix:abstract=/tmp/dbus-x,guid=1;tcp:host=x;unix:path=/tmp/a%20b%3b";
        assert_eq!(
            addresses(Bus::User, Some(variable), Some("/run/user/7"), 7),
            [
                Address {
                    socket: Socket::Abstract("/tmp/dbus-x".into()),
                    direct: false
                },
                path("/tmp/a b;", false),
                path("/run/user/7/bus", false),
                path("/run/user/7/systemd/private", true),
            ]
        );
        let other = addresses(Bus::User, Some("unix:path=/x/bus"), Some("/x"), 7);
        assert_eq!(
            other,
            [
                path("/x/bus", false),
                path("/run/user/7/bus", false),
                path("/x/systemd/private", true),
                path("/run/user/7/systemd/private", true),
            ]
        );
    }

    /// A place where somebody listens who is not systemd.
    fn listening(serve: impl FnOnce(UnixStream) + Send + 'static) -> Address {
        let name = format!("rbox-test-{}-{:?}", std::process::id(), Instant::now());
        let name = name.replace([' ', '{', '}', ':', ','], "");
        let dir = std::env::temp_dir().join(name);
        std::fs::create_dir(&dir).unwrap();
        let path = dir.join("bus");
        let listener = UnixListener::bind(&path).unwrap();
        std::thread::spawn(move || {
            let stream = listener.accept().unwrap().0;
            std::fs::remove_dir_all(dir).unwrap();
            serve(stream);
        });
        Address {
            socket: Socket::Path(path),
            direct: false,
        }
    }

    fn failure(address: &Address) -> String {
        let err = Connection::open_at(address).err().unwrap();
        let message = error::message(&err);
        let (_, why) = message.split_once(": ").unwrap();
        why.to_owned()
    }

    #[test]
    fn a_bus_that_hangs_or_babbles_is_given_up() {
        let before = Instant::now();
        let silent = listening(|mut stream| {
            let _ = stream.read_to_end(&mut Vec::new());
        });
        assert_eq!(failure(&silent), "Connection timed out (os error 110)");
        let took = before.elapsed();
        assert!(
            took >= CONNECT_LIMIT && took < CONNECT_LIMIT * 3,
            "{took:?}"
        );

        let rejecting = listening(|mut stream| {
            let _ = stream.write_all(b"REJECTED EXTERNAL\r\n");
            let _ = stream.read_to_end(&mut Vec::new());
        });
        assert_eq!(failure(&rejecting), "it refuses us: \"REJECTED EXTERNAL\"");
        let babbling = listening(|mut stream| {
            let _ = stream.write_all(b"OK 1\r\n");
            let _ = stream.write_all(&[b'l'; 64]);
            let _ = stream.read_to_end(&mut Vec::new());
        });
        assert_eq!(failure(&babbling), "it does not speak D-Bus");
        let leaving = listening(|mut stream| {
            // What is not read would make it a reset.
            let _ = stream.read(&mut [0; 4096]);
        });
        assert_eq!(failure(&leaving), "it hung up");
    }
}
