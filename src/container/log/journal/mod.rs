//! The journal of systemd, by its native protocol: a datagram of fields for each record, or a sealed
//! memfd with them where they are more than a datagram takes (systemd's JOURNAL_NATIVE_PROTOCOL). It is read
//! from its files.

mod file;
mod hash;
pub mod reader;

use std::io::IoSlice;
use std::io::Write;
use std::mem::MaybeUninit;
use std::os::fd::AsFd;
use std::os::fd::OwnedFd;
use std::path::Path;

use anyhow::Context;
use rustix::event::PollFd;
use rustix::event::PollFlags;
use rustix::event::Timespec;
use rustix::fs::MemfdFlags;
use rustix::fs::SealFlags;
use rustix::io::Errno;
use rustix::net::AddressFamily;
use rustix::net::SendAncillaryBuffer;
use rustix::net::SendAncillaryMessage;
use rustix::net::SendFlags;
use rustix::net::SocketAddrUnix;
use rustix::net::SocketFlags;
use rustix::net::SocketType;

use crate::container::log::Stream;
use crate::container::log::tag;
use crate::container::record::Container;
use crate::error::WithHint;
use crate::sys::process;

const SOCKET: &str = "/run/systemd/journal/socket";

/// How long a journal that is busy may keep the container waiting, for one record.
const PATIENCE: Timespec = Timespec {
    tv_sec: 1,
    tv_nsec: 0,
};

/// The longest name of a field that journald takes.
const NAME: usize = 64;

pub struct Journal {
    socket: OwnedFd,
    address: SocketAddrUnix,
    /// Those of every record.
    fields: Vec<u8>,
    non_blocking: bool,
    /// Records that were not taken. While there are some, no record is waited for.
    lost: usize,
}

impl Journal {
    pub fn open(container: &Container) -> anyhow::Result<Journal> {
        let mut journal = Journal::at(Path::new(SOCKET), fields(container)?)
            .hint("`--log-driver k8s-file` keeps the log in a file")?;
        journal.non_blocking = container.config.log.non_blocking;
        Ok(journal)
    }

    fn at(path: &Path, fields: Vec<u8>) -> anyhow::Result<Journal> {
        let cannot = || format!("cannot log to the journal: {}", path.display());
        std::fs::metadata(path).with_context(cannot)?;
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let kind = SocketType::DGRAM;
        let socket = rustix::net::socket_with(AddressFamily::UNIX, kind, flags, None)
            .with_context(cannot)?;
        let address = SocketAddrUnix::new(path).with_context(cannot)?;
        // Linux: room for a datagram is waited for (poll(2)) on a connected socket alone; any other is always
        // ready, however many datagrams the receiver has not taken (net.unix.max_dgram_qlen).
        process::retry(|| rustix::net::connect(&socket, &address)).with_context(cannot)?;
        Ok(Journal {
            socket,
            address,
            fields,
            non_blocking: false,
            lost: 0,
        })
    }

    pub fn send(&mut self, stream: Stream, text: &[u8], whole: bool) {
        if self.lost > 0 {
            let notice = format!("rbox: {} records were lost: the journal is busy", self.lost);
            let datagram = self.datagram(Stream::Stderr, notice.as_bytes(), true);
            if self.transmit(&datagram).is_ok() {
                self.lost = 0;
            }
        }
        let datagram = self.datagram(stream, text, whole);
        if self.transmit(&datagram).is_err() {
            self.lost += 1;
        }
    }

    fn datagram(&self, stream: Stream, text: &[u8], whole: bool) -> Vec<u8> {
        let mut datagram = self.fields.clone();
        // syslog(3): 6 is an information, 3 an error.
        let priority: &[u8] = match stream {
            Stream::Stdout => b"6",
            Stream::Stderr => b"3",
        };
        field(&mut datagram, "PRIORITY", priority);
        if !whole {
            field(&mut datagram, "CONTAINER_PARTIAL_MESSAGE", b"true");
        }
        field(&mut datagram, "MESSAGE", text);
        datagram
    }

    fn transmit(&self, datagram: &[u8]) -> rustix::io::Result<()> {
        let mut result = self.try_transmit(datagram);
        if result == Err(Errno::AGAIN) && !self.non_blocking && self.lost == 0 {
            let mut fds = [PollFd::new(&self.socket, PollFlags::OUT)];
            process::retry(|| rustix::event::poll(&mut fds, Some(&PATIENCE)))?;
            result = self.try_transmit(datagram);
        }
        result
    }

    fn try_transmit(&self, datagram: &[u8]) -> rustix::io::Result<()> {
        match self.hand_over(datagram) {
            // journald has been started anew: its socket is another one.
            Err(Errno::CONNREFUSED | Errno::CONNRESET | Errno::NOTCONN | Errno::PIPE) => {
                process::retry(|| rustix::net::connect(&self.socket, &self.address))?;
                self.hand_over(datagram)
            }
            result => result,
        }
    }

    fn hand_over(&self, datagram: &[u8]) -> rustix::io::Result<()> {
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        match process::retry(|| rustix::net::send(&self.socket, datagram, flags)) {
            // Linux: a datagram that is larger than the send buffer (unix(7)).
            Err(Errno::MSGSIZE | Errno::NOBUFS) => {
                let sealed = sealed(datagram)?;
                let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
                let mut control = SendAncillaryBuffer::new(&mut space);
                let fds = [sealed.as_fd()];
                control.push(SendAncillaryMessage::ScmRights(&fds));
                let nothing = [IoSlice::new(&[])];
                rustix::net::sendmsg(&self.socket, &nothing, &mut control, flags).map(drop)
            }
            sent => sent.map(drop),
        }
    }
}

/// journald maps what it is given and takes only what cannot change under it.
fn sealed(datagram: &[u8]) -> rustix::io::Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let fd = rustix::fs::memfd_create("rbox-log", flags)?;
    let mut file = std::fs::File::from(fd);
    file.write_all(datagram)
        .map_err(|err| Errno::from_io_error(&err).unwrap_or(Errno::IO))?;
    let seals = SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE | SealFlags::SEAL;
    rustix::fs::fcntl_add_seals(&file, seals)?;
    Ok(file.into())
}

/// The fields of every record, as Docker and Podman call them.
fn fields(container: &Container) -> anyhow::Result<Vec<u8>> {
    let config = &container.config;
    let tag = tag::of(container)?;
    let mut fields = Vec::new();
    for (name, value) in [
        ("CONTAINER_ID", config.short_id()),
        ("CONTAINER_ID_FULL", &config.id),
        ("CONTAINER_NAME", &container.name),
        ("CONTAINER_TAG", &tag),
        ("IMAGE_NAME", &config.image),
        ("SYSLOG_IDENTIFIER", &tag),
    ] {
        field(&mut fields, name, value.as_bytes());
    }
    for (key, value) in &config.log.attributes {
        field(&mut fields, &name_of(key), value.as_bytes());
    }
    Ok(fields)
}

/// journald takes names of capital letters, digits and `_`, which does not come first.
fn name_of(key: &str) -> String {
    let name: String = key
        .bytes()
        .map(|byte| match byte.to_ascii_uppercase() {
            byte @ (b'A'..=b'Z' | b'0'..=b'9') => char::from(byte),
            _ => '_',
        })
        .collect();
    let name = name.trim_start_matches(|c: char| c == '_' || c.is_ascii_digit());
    name[..name.len().min(NAME)].to_owned()
}

/// `NAME=value`, or where the value has line ends, its length before it.
fn field(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    if name.is_empty() {
        return;
    }
    out.extend_from_slice(name.as_bytes());
    if value.contains(&b'\n') {
        out.push(b'\n');
        out.extend_from_slice(&(value.len() as u64).to_le_bytes());
    } else {
        out.push(b'=');
    }
    out.extend_from_slice(value);
    out.push(b'\n');
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::unix::net::UnixDatagram;

    use super::*;
    use crate::store::temp::TempDir;
    use crate::store::temp::tests::scratch;
    use crate::sys::socket;

    fn journal(fields: &[u8]) -> (UnixDatagram, Journal, TempDir) {
        let base = scratch("journal");
        let path = base.path().join("socket");
        let server = UnixDatagram::bind(&path).unwrap();
        let journal = Journal::at(&path, fields.to_vec()).unwrap();
        (server, journal, base)
    }

    #[test]
    fn records_are_fields_and_values_with_line_ends_have_a_length() {
        let mut fields = Vec::new();
        field(&mut fields, "A", b"one\ntwo");
        let (server, mut journal, _base) = journal(&fields);
        journal.send(Stream::Stdout, b"hello", true);
        journal.send(Stream::Stderr, b"part", false);
        let mut buffer = [0; 1024];
        let length = server.recv(&mut buffer).unwrap();
        assert_eq!(
            buffer[..length],
            *b"A\n\x07\0\0\0\0\0\0\0one\ntwo\nPRIORITY=6\nMESSAGE=hello\n"
        );
        let length = server.recv(&mut buffer).unwrap();
        assert!(
            buffer[..length]
                .ends_with(b"PRIORITY=3\nCONTAINER_PARTIAL_MESSAGE=true\nMESSAGE=part\n")
        );
    }

    #[test]
    fn what_is_too_large_for_a_datagram_goes_by_memfd() {
        let mut fields = Vec::new();
        field(&mut fields, "LARGE", &vec![b'x'; 2 * 1024 * 1024]);
        let (server, mut journal, _base) = journal(&fields);
        journal.send(Stream::Stdout, b"hello", true);
        let packet = socket::receive(server.as_fd(), &mut [0; 16]).unwrap();
        assert_eq!((packet.length, journal.lost), (0, 0));
        let fd = packet.fd.unwrap();
        let seals = rustix::fs::fcntl_get_seals(&fd).unwrap();
        assert!(seals.contains(SealFlags::WRITE | SealFlags::SHRINK | SealFlags::GROW));
        let mut file = std::fs::File::from(fd);
        let mut text = Vec::new();
        std::io::Seek::rewind(&mut file).unwrap();
        file.read_to_end(&mut text).unwrap();
        assert_eq!(
            text.len(),
            fields.len() + b"PRIORITY=6\nMESSAGE=hello\n".len()
        );
    }

    #[test]
    fn a_journal_that_takes_nothing_costs_its_patience_once() {
        let (server, mut journal, _base) = journal(b"");
        let started = std::time::Instant::now();
        for _ in 0..2000 {
            journal.send(Stream::Stdout, b"x", true);
        }
        let lost = journal.lost;
        assert!(lost > 0 && started.elapsed().as_secs() < 3, "{lost}");
        let mut buffer = [0; 1024];
        for _ in lost..2000 {
            server.recv(&mut buffer).unwrap();
        }
        journal.send(Stream::Stdout, b"again", true);
        let length = server.recv(&mut buffer).unwrap();
        let notice =
            format!("PRIORITY=3\nMESSAGE=rbox: {lost} records were lost: the journal is busy\n");
        assert_eq!(buffer[..length], *notice.as_bytes());
    }

    #[test]
    fn a_journal_that_is_slow_loses_nothing_and_one_that_is_started_anew_gets_the_rest() {
        let (server, mut journal, base) = journal(b"");
        let reader = std::thread::spawn(move || {
            let mut buffer = [0; 1024];
            for _ in 0..200 {
                std::thread::sleep(std::time::Duration::from_millis(1));
                server.recv(&mut buffer).unwrap();
            }
        });
        for _ in 0..200 {
            journal.send(Stream::Stdout, b"x", true);
            assert_eq!(journal.lost, 0);
        }
        reader.join().unwrap();
        let path = base.path().join("socket");
        std::fs::remove_file(&path).unwrap();
        let server = UnixDatagram::bind(&path).unwrap();
        journal.send(Stream::Stdout, b"anew", true);
        let mut buffer = [0; 1024];
        let length = server.recv(&mut buffer).unwrap();
        assert_eq!(buffer[..length], *b"PRIORITY=6\nMESSAGE=anew\n");
    }

    #[test]
    fn names_of_fields_are_made_fit() {
        assert_eq!(name_of("com.example.a-b"), "COM_EXAMPLE_A_B");
        assert_eq!(name_of("_1x"), "X");
        assert_eq!(name_of(&"a".repeat(100)).len(), NAME);
    }
}
