//! The records of a PAX header: `LENGTH KEY=VALUE` and a line end each, where only the length says where
//! one ends, so that values may hold anything.

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use rustix::fs::Timespec;

use crate::store::archive::meta::may_set;
use crate::store::archive::name::quoted;

/// What the records of one entry say. An empty value takes back what another record said.
#[derive(Default)]
pub struct Records {
    pub path: Option<Vec<u8>>,
    pub link: Option<Vec<u8>>,
    pub size: Option<u64>,
    pub uid: Option<i64>,
    pub gid: Option<i64>,
    pub modified: Option<Timespec>,
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    pub sparse: Option<Sparse>,
}

/// What the records say of a sparse file, in any of the three versions.
#[derive(Default)]
pub struct Sparse {
    pub major: Option<u64>,
    pub minor: Option<u64>,
    pub name: Option<Vec<u8>>,
    pub size: Option<u64>,
    pub real_size: Option<u64>,
    /// Offsets and lengths in turn.
    pub map: Option<Vec<u64>>,
}

impl Records {
    pub fn parse(mut bytes: &[u8]) -> Result<Self> {
        let mut records = Self::default();
        while !bytes.is_empty() {
            let (key, value, rest) =
                record(bytes).context("the tar has a PAX header that is none")?;
            records
                .take(key, value)
                .with_context(|| format!("cannot read the PAX record {}", quoted(key)))?;
            bytes = rest;
        }
        Ok(records)
    }

    fn take(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        if let Some(key) = key.strip_prefix(b"GNU.sparse.") {
            return self.sparse.get_or_insert_default().take(key, value);
        }
        match key {
            b"path" => self.path = text(value)?,
            b"linkpath" => self.link = text(value)?,
            b"size" => self.size = number(value)?,
            b"uid" => self.uid = number(value)?,
            b"gid" => self.gid = number(value)?,
            b"mtime" if value.is_empty() => self.modified = None,
            b"mtime" => self.modified = Some(time(value)?),
            _ => {
                if let Some(name) = key.strip_prefix(b"SCHILY.xattr.")
                    && may_set(name)
                {
                    self.xattrs.push((name.to_vec(), value.to_vec()));
                }
            }
        }
        Ok(())
    }
}

impl Sparse {
    fn take(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        match key {
            b"major" => self.major = number(value)?,
            b"minor" => self.minor = number(value)?,
            b"name" => self.name = text(value)?,
            b"size" => self.size = number(value)?,
            b"realsize" => self.real_size = number(value)?,
            b"map" => {
                let numbers = value.split(|byte| *byte == b',');
                let map = numbers.map(|text| number(text)?.context("a number is missing"));
                self.map = Some(map.collect::<Result<_>>()?);
            }
            // Version 0.0 has a record for each number, in turn.
            b"offset" | b"numbytes" => {
                let map = self.map.get_or_insert_default();
                if map.len() % 2 != usize::from(key == b"numbytes") {
                    bail!("it is out of turn");
                }
                map.push(number(value)?.context("a number is missing")?);
            }
            _ => {}
        }
        Ok(())
    }
}

type Record<'a> = (&'a [u8], &'a [u8], &'a [u8]);

/// Key, value, and what is behind the record.
fn record(bytes: &[u8]) -> Option<Record<'_>> {
    let space = bytes.iter().take(20).position(|byte| *byte == b' ')?;
    let length = usize::try_from(number::<u64>(&bytes[..space]).ok()??).ok()?;
    let (record, rest) = bytes.split_at_checked(length)?;
    let (line_end, record) = record.get(space + 1..)?.split_last()?;
    let equals = record.iter().position(|byte| *byte == b'=')?;
    let (key, value) = (&record[..equals], &record[equals + 1..]);
    let is_good = *line_end == b'\n' && !key.is_empty() && !key.contains(&0);
    is_good.then_some((key, value, rest))
}

/// Decimal; `None` for nothing at all.
pub fn number<T: TryFrom<i64>>(value: &[u8]) -> Result<Option<T>> {
    if value.is_empty() {
        return Ok(None);
    }
    let digits = value.strip_prefix(b"-").unwrap_or(value);
    let number = std::str::from_utf8(value)
        .ok()
        .filter(|_| digits.iter().all(u8::is_ascii_digit))
        .and_then(|text| text.parse::<i64>().ok())
        .and_then(|number| T::try_from(number).ok());
    match number {
        Some(number) => Ok(Some(number)),
        None => bail!("{} is no such number", quoted(value)),
    }
}

fn text(value: &[u8]) -> Result<Option<Vec<u8>>> {
    if value.contains(&0) {
        bail!("its value holds a NUL byte");
    }
    Ok((!value.is_empty()).then(|| value.to_vec()))
}

/// `1700000000.123456789`, also negative.
fn time(value: &[u8]) -> Result<Timespec> {
    let mut parts = value.splitn(2, |byte| *byte == b'.');
    let seconds = parts.next().unwrap_or_default();
    let fraction = parts.next().unwrap_or_default();
    if !fraction.iter().all(u8::is_ascii_digit) {
        bail!("{} is no time", quoted(value));
    }
    let mut nanoseconds: i64 = 0;
    for place in 0..9 {
        let digit = fraction.get(place).map_or(0, |digit| digit - b'0');
        nanoseconds = nanoseconds * 10 + i64::from(digit);
    }
    let mut time = Timespec {
        tv_sec: number(seconds)?.with_context(|| format!("{} is no time", quoted(value)))?,
        tv_nsec: nanoseconds,
    };
    if seconds.starts_with(b"-") && nanoseconds > 0 {
        time.tv_sec = time.tv_sec.checked_sub(1).context("it is out of range")?;
        time.tv_nsec = 1_000_000_000 - nanoseconds;
    }
    Ok(time)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_hold_anything_and_lengths_must_be_right() {
        let records = Records::parse(b"12 path=a\nb\n25 SCHILY.xattr.user.a=\n\n").unwrap();
        assert_eq!(records.path.as_deref(), Some(&b"a\nb"[..]));
        assert_eq!(records.xattrs, [(b"user.a".to_vec(), b"\n".to_vec())]);
        let taken_back = Records::parse(b"10 path=a\n8 path=\n").unwrap();
        assert_eq!(taken_back.path, None);
        for bad in [
            &b"11 path=a\n"[..],
            b"8 path=a\n",
            b"10 path=a",
            b"10 path=a\n\0",
            b"10path=aa\n",
            b"-1 path=a\n",
            b"99999999999999999999 path=a\n",
            b"5 a=\0",
            b"5 =a\n",
            b"5 aaa\n",
            b"0 \n",
            b"12 path=a\0b\n",
            b"11 size=-1\n",
            b"11 size=+1\n",
            b"11 uid=0x1\n",
            b"13 mtime=1e3\n",
            b"12 mtime=.5\n",
            b"25 GNU.sparse.numbytes=1\n",
            b"20 GNU.sparse.map=1,\n",
        ] {
            assert!(Records::parse(bad).is_err(), "{}", quoted(bad));
        }
    }

    #[test]
    fn times_go_both_ways() {
        for (text, seconds, nanoseconds) in [
            ("12", 12, 0),
            ("12.5", 12, 500_000_000),
            ("-1.25", -2, 750_000_000),
            ("-0.5", -1, 500_000_000),
            ("3.1234567891234", 3, 123_456_789),
        ] {
            let time = time(text.as_bytes()).unwrap();
            assert_eq!((time.tv_sec, time.tv_nsec), (seconds, nanoseconds));
        }
    }
}
