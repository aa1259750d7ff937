//! DNS messages (RFC 1035) with one question each, as all programs ask it: what is asked, and the answers that are
//! written here. Answers of others are looked at only as far as it takes to know that they answer what was asked.
//!
//! No name is followed through compression pointers: a question that begins a message has nothing to point to, and
//! in what comes after it names are only skipped.

pub mod stream;

use std::fmt::Write as _;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;

pub const PORT: u16 = 53;
const HEADER: usize = 12;
/// More than one name and its options take.
pub const LONGEST_QUESTION: usize = 4096;
/// The largest answer over UDP for who does not say that more is taken (RFC 1035, section 4.2.1).
const SMALLEST_LIMIT: usize = 512;
/// What of datagrams we take, as we say it: that which needs no fragments anywhere (RFC 9715).
const OWN_LIMIT: u16 = 1232;

/// How long an answer of ours may be kept, in seconds. It costs next to nothing to ask again, on the same machine,
/// and a container that was replaced has another address: long enough for a burst of connections, and not for more.
const TTL: u32 = 5;

pub const A: u16 = 1;
pub const PTR: u16 = 12;
pub const AAAA: u16 = 28;
pub const SRV: u16 = 33;
pub const ANY: u16 = 255;
const OPT: u16 = 41;
const IN: u16 = 1;

/// Bits of the second word of the header.
const RESPONSE: u16 = 0x8000;
const OPCODE: u16 = 0x7800;
const AUTHORITATIVE: u16 = 0x0400;
const TRUNCATED: u16 = 0x0200;
const RECURSION_DESIRED: u16 = 0x0100;
const RECURSION_AVAILABLE: u16 = 0x0080;
const CHECKING_DISABLED: u16 = 0x0010;
const CODE: u16 = 0x000f;

/// How a question ends (RFC 1035, section 4.1.1; RFC 6891, section 9).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    NoError = 0,
    BadForm = 1,
    ServerFailed = 2,
    /// There is no such name.
    NoName = 3,
    NotImplemented = 4,
    Refused = 5,
    BadVersion = 16,
}

/// What follows from a name, of the type that it has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Data {
    Ip(IpAddr),
    Name(String),
    Service { port: u16, target: String },
}

/// The extension of a question (RFC 6891).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Extension {
    /// Bytes of a datagram that are taken.
    limit: u16,
    /// Extended code, version and flags.
    rest: u32,
}

/// The bit of an extension that asks for signatures.
const DNSSEC_OK: u32 = 0x8000;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    pub id: u16,
    flags: u16,
    /// As it was asked: name, type, class.
    asked: Vec<u8>,
    /// In lower case, without a last dot; in labels all but letters, digits, `-` and `_` stands as `\NNN`.
    pub name: String,
    pub kind: u16,
    class: u16,
    extension: Option<Extension>,
}

impl Query {
    /// The question of a message; `Err` has what is to be answered, if anything.
    pub fn parse(bytes: &[u8]) -> Result<Query, Option<Vec<u8>>> {
        let (Some(id), Some(flags)) = (word(bytes, 0), word(bytes, 2)) else {
            return Err(None);
        };
        // An answer is never answered: two servers would go on for ever.
        if bytes.len() < HEADER || flags & RESPONSE != 0 {
            return Err(None);
        }
        let bare = Query { id, flags, ..EMPTY };
        if flags & OPCODE != 0 {
            return Err(Some(bare.fail(Code::NotImplemented)));
        }
        let Some(query) = bare.clone().read(bytes) else {
            return Err(Some(bare.fail(Code::BadForm)));
        };
        match query.extension {
            Some(extension) if extension.version() != 0 => Err(Some(query.fail(Code::BadVersion))),
            _ => Ok(query),
        }
    }

    fn read(mut self, bytes: &[u8]) -> Option<Query> {
        if word(bytes, 4)? != 1 {
            return None;
        }
        let (name, end) = read_name(bytes, HEADER)?;
        self.name = name;
        self.kind = word(bytes, end)?;
        self.class = word(bytes, end + 2)?;
        let mut at = end + 4;
        self.asked = bytes[HEADER..at].to_vec();
        let mut records = 0;
        for count in [6, 8, 10] {
            records += usize::from(word(bytes, count)?);
        }
        for _ in 0..records {
            let end = skip_name(bytes, at)?;
            let length = usize::from(word(bytes, end + 8)?);
            let next = end + 10 + length;
            bytes.get(..next)?;
            if word(bytes, end)? == OPT {
                // The root, and only once.
                if end != at + 1 || self.extension.is_some() {
                    return None;
                }
                let (high, low) = (word(bytes, end + 4)?, word(bytes, end + 6)?);
                self.extension = Some(Extension {
                    limit: word(bytes, end + 2)?,
                    rest: u32::from(high) << 16 | u32::from(low),
                });
            }
            at = next;
        }
        Some(self)
    }

    /// Whether it is about the Internet, which all names are about that anybody has asked for in thirty years.
    pub fn is_of_internet(&self) -> bool {
        self.class == IN || self.class == ANY
    }

    /// The largest answer that is taken in a datagram.
    pub fn limit(&self) -> usize {
        let said = self.extension.map_or(0, |extension| extension.limit.into());
        SMALLEST_LIMIT.max(said)
    }

    pub fn fail(&self, code: Code) -> Vec<u8> {
        self.answer(code, &[], usize::from(u16::MAX))
    }

    /// An answer of ours; what does not go into `limit` bytes is left out, and the answer says so.
    pub fn answer(&self, code: Code, data: &[Data], limit: usize) -> Vec<u8> {
        let extension = self.extension.map(|asked| Extension {
            limit: OWN_LIMIT,
            rest: u32::from(code as u16 >> 4) << 24 | (asked.rest & DNSSEC_OK),
        });
        let room = limit.min(usize::from(u16::MAX)) - extension.map_or(0, |_| Extension::LENGTH);
        let known = match code {
            Code::NoError | Code::NoName => AUTHORITATIVE,
            _ => 0,
        };
        let mut bytes = self.head(code as u16 & CODE | known);
        let mut count: u16 = 0;
        for record in data.iter().filter_map(Data::record) {
            if bytes.len() + record.len() > room {
                bytes[2] |= TRUNCATED.to_be_bytes()[0];
                break;
            }
            bytes.extend(record);
            count += 1;
        }
        bytes[6..8].copy_from_slice(&count.to_be_bytes());
        if let Some(extension) = extension {
            extension.append(&mut bytes);
        }
        bytes
    }

    /// In place of an answer that is larger than is taken: that it has to be asked for over TCP.
    pub fn truncated(&self, answer: &[u8]) -> Vec<u8> {
        let code = word(answer, 2).unwrap_or(0) & CODE;
        let mut bytes = self.head(code | TRUNCATED);
        if let Some(asked) = self.extension {
            let extension = Extension {
                limit: OWN_LIMIT,
                rest: asked.rest & DNSSEC_OK,
            };
            extension.append(&mut bytes);
        }
        bytes
    }

    /// The header of an answer, and what was asked.
    fn head(&self, flags: u16) -> Vec<u8> {
        let same = self.flags & (OPCODE | RECURSION_DESIRED | CHECKING_DISABLED);
        let questions = u16::from(!self.asked.is_empty());
        let words = [
            self.id,
            RESPONSE | RECURSION_AVAILABLE | same | flags,
            questions,
            0,
            0,
            0,
        ];
        let mut bytes: Vec<u8> = words.into_iter().flat_map(u16::to_be_bytes).collect();
        bytes.extend(&self.asked);
        bytes
    }

    /// What a message says that may be an answer to this question, which was asked with the number `id`.
    pub fn reply(&self, id: u16, bytes: &[u8]) -> Option<Reply> {
        let flags = word(bytes, 2)?;
        if bytes.len() < HEADER || word(bytes, 0)? != id || flags & RESPONSE == 0 {
            return None;
        }
        let code = flags & CODE;
        // Who did not understand the question may leave it out.
        let same = match word(bytes, 4)? {
            0 => code != 0,
            1 => bytes[HEADER..]
                .get(..self.asked.len())
                .is_some_and(|asked| asked.eq_ignore_ascii_case(&self.asked)),
            _ => false,
        };
        same.then_some(Reply {
            truncated: flags & TRUNCATED != 0,
            // As the C library does it: another server may know better.
            unable: [Code::ServerFailed, Code::NotImplemented, Code::Refused]
                .iter()
                .any(|unable| *unable as u16 == code),
        })
    }
}

const EMPTY: Query = Query {
    id: 0,
    flags: 0,
    asked: vec![],
    name: String::new(),
    kind: 0,
    class: 0,
    extension: None,
};

/// What an answer of somebody else says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reply {
    pub truncated: bool,
    /// That server cannot answer it.
    pub unable: bool,
}

impl Extension {
    const LENGTH: usize = 11;

    fn version(self) -> u32 {
        self.rest >> 16 & 0xff
    }

    /// As the one additional record of a message.
    fn append(self, bytes: &mut Vec<u8>) {
        bytes[10..12].copy_from_slice(&1_u16.to_be_bytes());
        bytes.push(0);
        bytes.extend(OPT.to_be_bytes());
        bytes.extend(self.limit.to_be_bytes());
        bytes.extend(self.rest.to_be_bytes());
        bytes.extend([0, 0]);
    }
}

impl Data {
    /// The record, of the name that was asked for: a pointer to it, for it begins the message. `None` for a name that
    /// DNS cannot say.
    fn record(&self) -> Option<Vec<u8>> {
        let (kind, data) = match self {
            Data::Ip(IpAddr::V4(ip)) => (A, ip.octets().to_vec()),
            Data::Ip(IpAddr::V6(ip)) => (AAAA, ip.octets().to_vec()),
            Data::Name(name) => (PTR, wire_name(name)?),
            Data::Service { port, target } => {
                // Priority and weight, then the port (RFC 2782).
                let mut data = vec![0, 0, 0, 0];
                data.extend(port.to_be_bytes());
                data.extend(wire_name(target)?);
                (SRV, data)
            }
        };
        let mut record = vec![0xc0, u8::try_from(HEADER).ok()?];
        record.extend(kind.to_be_bytes());
        record.extend(IN.to_be_bytes());
        record.extend(TTL.to_be_bytes());
        record.extend(u16::try_from(data.len()).ok()?.to_be_bytes());
        record.extend(data);
        Some(record)
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u16> {
    let bytes = bytes.get(at..at + 2)?;
    Some(u16::from_be_bytes([bytes[0], bytes[1]]))
}

/// A name without pointers, as text, and where it ends.
fn read_name(bytes: &[u8], start: usize) -> Option<(String, usize)> {
    // RFC 1035, section 2.3.4.
    const LONGEST: usize = 255;
    let mut text = String::new();
    let mut at = start;
    loop {
        let length = usize::from(*bytes.get(at)?);
        at += 1;
        if length == 0 {
            return Some((text, at));
        }
        if length > 63 || at + length - start >= LONGEST {
            return None;
        }
        if !text.is_empty() {
            text.push('.');
        }
        for byte in bytes.get(at..at + length)? {
            match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => {
                    text.push(char::from(byte.to_ascii_lowercase()));
                }
                byte => write!(text, "\\{byte:03}").ok()?,
            }
        }
        at += length;
    }
}

/// Where a name ends that may end in a pointer.
fn skip_name(bytes: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match *bytes.get(at)? {
            0 => return Some(at + 1),
            length @ 1..=63 => at += 1 + usize::from(length),
            0xc0.. => return Some(at + 2),
            _ => return None,
        }
    }
}

fn wire_name(name: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(name.len() + 2);
    for label in name.split('.') {
        let length = u8::try_from(label.len()).ok();
        bytes.push(length.filter(|length| (1..=63).contains(length))?);
        bytes.extend(label.bytes());
    }
    bytes.push(0);
    (bytes.len() <= 255).then_some(bytes)
}

/// The address that a name of `in-addr.arpa` or `ip6.arpa` stands for.
pub fn reverse(name: &str) -> Option<IpAddr> {
    if let Some(parts) = name.strip_suffix(".in-addr.arpa") {
        let parts: Vec<&str> = parts.split('.').rev().collect();
        let ip: Ipv4Addr = parts.join(".").parse().ok()?;
        return Some(ip.into());
    }
    let digits = name.strip_suffix(".ip6.arpa")?;
    let mut number: u128 = 0;
    let mut count = 0;
    for digit in digits.split('.').rev() {
        let mut signs = digit.chars();
        let value = signs.next()?.to_digit(16)?;
        if signs.next().is_some() {
            return None;
        }
        number = number << 4 | u128::from(value);
        count += 1;
    }
    (count == 32).then(|| Ipv6Addr::from(number).into())
}

/// With the number 0x1234, recursion desired, and these records of its own at the end.
#[cfg(test)]
pub fn question(name: &str, kind: u16, more: &[u8]) -> Vec<u8> {
    let mut bytes = b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0".to_vec();
    bytes[11] = u8::from(!more.is_empty());
    bytes.extend(wire_name(name).unwrap());
    bytes.extend(kind.to_be_bytes());
    bytes.extend(b"\0\x01");
    bytes.extend(more);
    bytes
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// 4096 bytes, signatures wanted.
    const EDNS: &[u8] = b"\0\0\x29\x10\0\0\0\x80\0\0\0";

    fn ip(text: &str) -> Data {
        Data::Ip(text.parse().unwrap())
    }

    #[test]
    fn an_answer_has_the_question_as_it_was_asked() {
        let query = Query::parse(&question("WeB", A, b"")).unwrap();
        assert_eq!((query.name.as_str(), query.kind), ("web", A));
        assert_eq!(query.limit(), 512);
        let answer = query.answer(Code::NoError, &[ip("10.89.0.2"), ip("fd00::2")], 512);
        let expected = [
            &b"\x12\x34\x85\x80\0\x01\0\x02\0\0\0\0\x03WeB\0\0\x01\0\x01"[..],
            b"\xc0\x0c\0\x01\0\x01\0\0\0\x05\0\x04\x0a\x59\0\x02",
            b"\xc0\x0c\0\x1c\0\x01\0\0\0\x05\0\x10\xfd\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x02",
        ];
        assert_eq!(answer, expected.concat());
        assert_eq!(
            query.fail(Code::NoName),
            b"\x12\x34\x85\x83\0\x01\0\0\0\0\0\0\x03WeB\0\0\x01\0\x01"
        );
    }

    #[test]
    fn names_and_services_are_answered() {
        let query = Query::parse(&question("x", ANY, b"")).unwrap();
        let data = [
            Data::Name("a.b".into()),
            Data::Name("a..b".into()),
            Data::Service {
                port: 8080,
                target: "web".into(),
            },
        ];
        let answer = query.answer(Code::NoError, &data, 512);
        let expected = [
            &b"\x12\x34\x85\x80\0\x01\0\x02\0\0\0\0\x01x\0\0\xff\0\x01"[..],
            b"\xc0\x0c\0\x0c\0\x01\0\0\0\x05\0\x05\x01a\x01b\0",
            b"\xc0\x0c\0\x21\0\x01\0\0\0\x05\0\x0b\0\0\0\0\x1f\x90\x03web\0",
        ];
        assert_eq!(answer, expected.concat());
    }

    #[test]
    fn an_extension_is_answered_with_one() {
        let query = Query::parse(&question("a", A, EDNS)).unwrap();
        assert_eq!(query.limit(), 4096);
        assert_eq!(
            query.fail(Code::NoError),
            b"\x12\x34\x85\x80\0\x01\0\0\0\0\0\x01\x01a\0\0\x01\0\x01\0\0\x29\x04\xd0\0\0\x80\0\0\0"
        );
        // Version 1, of which nobody knows anything: BADVERS is 16, in two parts.
        let other = b"\0\0\x29\x10\0\0\x01\0\0\0\0";
        let said = Query::parse(&question("a", A, other)).unwrap_err();
        assert_eq!(
            said.unwrap(),
            b"\x12\x34\x81\x80\0\x01\0\0\0\0\0\x01\x01a\0\0\x01\0\x01\0\0\x29\x04\xd0\x01\0\0\0\0\0"
        );
    }

    #[test]
    fn what_does_not_fit_is_left_out_and_said() {
        let data = vec![ip("10.89.0.2"); 100];
        let query = Query::parse(&question("a", A, b"")).unwrap();
        let answer = query.answer(Code::NoError, &data, query.limit());
        assert_eq!(answer[2..8], *b"\x87\x80\0\x01\0\x1e");
        assert_eq!(answer.len(), 19 + 30 * 16);
        let query = Query::parse(&question("a", A, EDNS)).unwrap();
        let answer = query.answer(Code::NoError, &data, query.limit());
        assert_eq!(answer[2..8], *b"\x85\x80\0\x01\0\x64");
        let short = query.truncated(&answer);
        assert_eq!(
            short,
            b"\x12\x34\x83\x80\0\x01\0\0\0\0\0\x01\x01a\0\0\x01\0\x01\0\0\x29\x04\xd0\0\0\x80\0\0\0"
        );
    }

    #[test]
    fn what_is_no_question_is_told_so_or_not_answered() {
        let good = question("a", A, EDNS);
        let changed = |at: usize, byte: u8| {
            let mut bytes = good.clone();
            bytes[at] = byte;
            Query::parse(&bytes).unwrap_err()
        };
        let bad = b"\x12\x34\x81\x81\0\0\0\0\0\0\0\0";
        assert_eq!(Query::parse(b"\x12\x34\x01\0"), Err(None));
        // An answer.
        assert_eq!(changed(2, 0x81), None);
        // A status request; two questions, none; a pointer; a long label; a record that is not there.
        let status = b"\x12\x34\x91\x84\0\0\0\0\0\0\0\0";
        assert_eq!(changed(2, 0x11).as_deref(), Some(&status[..]));
        for (at, byte) in [(5, 2), (5, 0), (12, 0xc0), (12, 0x40), (11, 2), (7, 1)] {
            assert_eq!(changed(at, byte).as_deref(), Some(&bad[..]), "{at}");
        }
        // A name of 257 bytes, of labels that are not too long.
        let mut bytes = question("a", A, b"");
        let label = [&[63][..], &[b'a'; 63]].concat();
        bytes.splice(12..14, label.repeat(4));
        let said = Query::parse(&bytes).unwrap_err();
        assert_eq!(said.as_deref(), Some(&bad[..]));
    }

    #[test]
    fn strange_bytes_are_no_other_name() {
        let mut bytes = question("a-b", A, b"");
        for (byte, expected) in [
            (b'.', "a\\046b"),
            (b'_', "a_b"),
            (0, "a\\000b"),
            (b'\\', "a\\092b"),
        ] {
            bytes[14] = byte;
            assert_eq!(Query::parse(&bytes).unwrap().name, expected);
        }
    }

    #[test]
    fn an_answer_is_one_to_what_was_asked() {
        let query = Query::parse(&question("web", A, b"")).unwrap();
        let mut answer = query.answer(Code::NoError, &[ip("10.0.0.1")], 512);
        let plain = Reply {
            truncated: false,
            unable: false,
        };
        assert_eq!(query.reply(0x1234, &answer), Some(plain));
        assert_eq!(query.reply(0x1235, &answer), None);
        let refused = Some(Reply {
            unable: true,
            ..plain
        });
        assert_eq!(query.reply(0x1234, &query.fail(Code::Refused)), refused);
        let bare = b"\x12\x34\x81\x85\0\0\0\0\0\0\0\0";
        assert_eq!(query.reply(0x1234, bare), refused);
        assert_eq!(
            query.reply(0x1234, b"\x12\x34\x81\x80\0\0\0\0\0\0\0\0"),
            None
        );
        assert_eq!(query.reply(0x1234, &question("web", A, b"")), None);
        answer[13] = b'W';
        assert_eq!(query.reply(0x1234, &answer), Some(plain));
        answer[13] = b'x';
        assert_eq!(query.reply(0x1234, &answer), None);
    }

    #[test]
    fn addresses_are_found_in_their_reverse_names() {
        let six = "2.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa";
        for (name, expected) in [
            ("2.0.89.10.in-addr.arpa", Some("10.89.0.2")),
            (six, Some("2001:db8::2")),
            ("89.10.in-addr.arpa", None),
            ("2.0.89.010.in-addr.arpa", None),
            ("1.2.0.89.10.in-addr.arpa", None),
            ("in-addr.arpa", None),
            (&six[2..], None),
            (&six.replacen('2', "22", 1), None),
            ("2.0.89.10.in-addr.arpa.example", None),
        ] {
            let expected = expected.map(|text| text.parse().unwrap());
            assert_eq!(reverse(name), expected, "{name}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(
            bytes in prop::collection::vec(any::<u8>(), 0..80),
            asked in any::<bool>(),
            limit in 0..600_usize,
        ) {
            let mut bytes = bytes;
            if asked && bytes.len() >= HEADER {
                bytes[2..12].copy_from_slice(b"\x01\0\0\x01\0\0\0\0\0\x01");
            }
            match Query::parse(&bytes) {
                Ok(query) => {
                    prop_assert!(bytes[HEADER..].starts_with(&query.asked));
                    let answer = query.answer(Code::NoError, &[ip("10.0.0.1")], limit.max(512));
                    prop_assert!(query.reply(query.id, &answer).is_some());
                    prop_assert!(query.truncated(&answer).len() <= 512);
                    query.reply(query.id, &bytes);
                    reverse(&query.name);
                }
                Err(Some(said)) => prop_assert_eq!(&said[..2], &bytes[..2]),
                Err(None) => {}
            }
        }

        #[test]
        fn what_is_written_is_read(name in "[a-z0-9]([a-z0-9_-]{0,61}[a-z0-9])?(\\.[a-z0-9]{1,20}){0,3}", kind in any::<u16>()) {
            let query = Query::parse(&question(&name.to_uppercase(), kind, EDNS)).unwrap();
            prop_assert_eq!((&query.name, query.kind), (&name, kind));
        }
    }
}
