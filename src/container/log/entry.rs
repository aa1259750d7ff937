//! The forms of a record in a file: `TIME stdout F line` (k8s-file, which is CRI's), where P instead of
//! F says that the line goes on in the next record; and an object a line (json-file, which is Docker's),
//! where a text without a line end at its end goes on.

use std::borrow::Cow;

use jiff::Timestamp;
use serde::Deserialize;
use serde::Serialize;
use serde_json::value::RawValue;

use crate::container::config::log::Driver;
use crate::container::log::Stream;
use crate::container::log::tag;
use crate::container::record::Container;
use crate::text::time;
use crate::text::time::LogClock;

/// One record of a log.
#[derive(Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    pub time: Cow<'a, str>,
    pub stream: Stream,
    /// Whether the line ends here.
    pub whole: bool,
    pub text: Cow<'a, [u8]>,
    /// Labels and more, of json-file: an object.
    pub attributes: Option<&'a str>,
}

#[derive(Serialize, Deserialize)]
struct Json<'a> {
    #[serde(borrow)]
    log: Cow<'a, str>,
    stream: &'a str,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    attrs: Option<&'a RawValue>,
    time: &'a str,
}

/// Makes records.
#[derive(Clone)]
pub struct Encoder {
    driver: Driver,
    clock: LogClock,
    attributes: Option<Box<RawValue>>,
}

impl Encoder {
    pub fn of(container: &Container) -> anyhow::Result<Encoder> {
        let log = &container.config.log;
        let mut attributes = log.attributes.clone();
        if log.tag.is_some() {
            attributes.insert("tag".into(), tag::of(container)?);
        }
        let attributes = match (log.driver, attributes.is_empty()) {
            (Driver::JsonFile, false) => Some(serde_json::value::to_raw_value(&attributes)?),
            _ => None,
        };
        Ok(Encoder::new(log.driver, attributes))
    }

    pub fn new(driver: Driver, attributes: Option<Box<RawValue>>) -> Encoder {
        let zone = match driver {
            // Docker's are in UTC.
            Driver::JsonFile => jiff::tz::TimeZone::UTC,
            _ => time::local_zone(),
        };
        Encoder {
            driver,
            clock: LogClock::new(zone),
            attributes,
        }
    }

    pub fn encode(
        &mut self,
        out: &mut Vec<u8>,
        now: Timestamp,
        stream: Stream,
        text: &[u8],
        whole: bool,
    ) {
        let stamp = self.clock.stamp(now);
        if self.driver == Driver::JsonFile {
            let mut log = String::from_utf8_lossy(text);
            if whole {
                log.to_mut().push('\n');
            }
            let json = Json {
                log,
                stream: stream.name(),
                attrs: self.attributes.as_deref(),
                time: &stamp.replace("+00:00", "Z"),
            };
            // Strings and what was JSON before are always JSON.
            serde_json::to_writer(&mut *out, &json).ok();
        } else {
            out.extend_from_slice(stamp.as_bytes());
            let tag: &[u8] = if whole { b" F " } else { b" P " };
            out.push(b' ');
            out.extend_from_slice(stream.name().as_bytes());
            out.extend_from_slice(tag);
            out.extend_from_slice(text);
        }
        out.push(b'\n');
    }

    /// The streams whose last record in these bytes leaves a line open.
    pub fn open_streams(&self, bytes: &[u8]) -> Vec<Stream> {
        let mut open = [false; 2];
        for line in bytes.split(|byte| *byte == b'\n') {
            if let Some(entry) = parse(self.driver, line) {
                open[entry.stream as usize] = !entry.whole;
            }
        }
        let streams = Stream::BOTH.into_iter();
        streams.filter(|stream| open[*stream as usize]).collect()
    }
}

/// Takes a line of a file apart; `None` for what a crash has cut off.
pub fn parse(driver: Driver, line: &[u8]) -> Option<Entry<'_>> {
    match driver {
        Driver::JsonFile => parse_json(line),
        _ => parse_k8s(line),
    }
}

fn stream_of(name: &[u8]) -> Option<Stream> {
    let mut streams = Stream::BOTH.into_iter();
    streams.find(|stream| stream.name().as_bytes() == name)
}

fn parse_k8s(line: &[u8]) -> Option<Entry<'_>> {
    let mut fields = line.splitn(4, |byte| *byte == b' ');
    let time = std::str::from_utf8(fields.next()?).ok()?;
    let stream = stream_of(fields.next()?)?;
    let whole = match fields.next()? {
        b"F" => true,
        b"P" => false,
        _ => return None,
    };
    Some(Entry {
        time: time.into(),
        stream,
        whole,
        text: fields.next()?.into(),
        attributes: None,
    })
}

fn parse_json(line: &[u8]) -> Option<Entry<'_>> {
    let json: Json<'_> = serde_json::from_slice(line).ok()?;
    let whole = json.log.ends_with('\n');
    let mut text = match json.log {
        Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
        Cow::Owned(text) => Cow::Owned(text.into_bytes()),
    };
    if whole {
        match &mut text {
            Cow::Borrowed(bytes) => *bytes = &bytes[..bytes.len() - 1],
            Cow::Owned(bytes) => bytes.truncate(bytes.len() - 1),
        }
    }
    Some(Entry {
        time: json.time.into(),
        stream: stream_of(json.stream.as_bytes())?,
        whole,
        text,
        attributes: json.attrs.map(RawValue::get),
    })
}
