//! The header block of a tar entry: its fields by their places, which differ by the form of the archive.

use std::ops::Range;

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use tar::EntryType;

use crate::store::archive::BLOCK;

const NAME: Range<usize> = 0..100;
const MODE: Range<usize> = 100..108;
const UID: Range<usize> = 108..116;
const GID: Range<usize> = 116..124;
const SIZE: Range<usize> = 124..136;
const MODIFIED: Range<usize> = 136..148;
const CHECKSUM: Range<usize> = 148..156;
const KIND: usize = 156;
const LINK: Range<usize> = 157..257;
const MAGIC: Range<usize> = 257..265;
const PREFIX: Range<usize> = 345..500;
/// The form of the tool star has times where POSIX has the end of the prefix, and says so at the end.
const STAR_PREFIX: Range<usize> = 345..476;
const STAR_MAGIC: Range<usize> = 508..512;
const SPARSE: Range<usize> = 386..482;
const SPARSE_GOES_ON: usize = 482;
const SPARSE_SIZE: Range<usize> = 483..495;

pub struct Header {
    pub kind: EntryType,
    /// From before POSIX, which gave plain files a letter.
    pub is_old: bool,
    pub name: Vec<u8>,
    pub link: Vec<u8>,
    pub mode: u32,
    pub uid: i64,
    pub gid: i64,
    pub size: u64,
    pub modified: i64,
    pub sparse: Option<OldSparse>,
}

/// The first part of a map of GNU's old form.
pub struct OldSparse {
    pub size: u64,
    pub fragments: Vec<(u64, u64)>,
    /// Blocks with more of it are behind the header.
    pub goes_on: bool,
}

impl Header {
    pub fn parse(block: &[u8; BLOCK]) -> Result<Self> {
        check_sum(block)?;
        let kind = EntryType::new(block[KIND]);
        let is_gnu = &block[MAGIC] == b"ustar  \0";
        let is_posix = block[MAGIC].starts_with(b"ustar\0");
        let mut name = text(&block[NAME]).to_vec();
        if is_posix {
            let is_star = &block[STAR_MAGIC] == b"tar\0";
            let prefix = text(&block[if is_star { STAR_PREFIX } else { PREFIX }]);
            if !prefix.is_empty() {
                name = [prefix, b"/", &name].concat();
            }
        }
        let sparse = match kind {
            EntryType::GNUSparse if is_gnu => Some(old_sparse(block)?),
            EntryType::GNUSparse => bail!("the tar has a sparse file of GNU tar in another form"),
            _ => None,
        };
        Ok(Self {
            kind,
            is_old: block[KIND] == 0,
            name,
            link: text(&block[LINK]).to_vec(),
            mode: u32::try_from(number(&block[MODE])? & 0o7777)?,
            uid: number(&block[UID])?,
            gid: number(&block[GID])?,
            size: unsigned(&block[SIZE])?,
            modified: number(&block[MODIFIED])?,
            sparse,
        })
    }
}

fn old_sparse(block: &[u8; BLOCK]) -> Result<OldSparse> {
    let mut fragments = Vec::new();
    old_fragments(&block[SPARSE], &mut fragments)?;
    Ok(OldSparse {
        size: unsigned(&block[SPARSE_SIZE])?,
        fragments,
        goes_on: block[SPARSE_GOES_ON] != 0,
    })
}

/// Offset and length, twelve bytes each; one that does not begin ends them.
pub fn old_fragments(bytes: &[u8], fragments: &mut Vec<(u64, u64)>) -> Result<()> {
    for fragment in bytes.chunks_exact(24) {
        if fragment[0] == 0 {
            break;
        }
        let (offset, length) = fragment.split_at(12);
        fragments.push((unsigned(offset)?, unsigned(length)?));
    }
    Ok(())
}

/// POSIX: the sum of all bytes, with spaces in its own place. Some old tools summed signed bytes.
fn check_sum(block: &[u8; BLOCK]) -> Result<()> {
    let said = number(&block[CHECKSUM]).context("it is no tar, or a damaged one")?;
    let mut summed = *block;
    summed[CHECKSUM].fill(b' ');
    let (mut sum, mut signed) = (0, 0);
    for byte in &summed {
        sum += i64::from(*byte);
        signed += i64::from(byte.cast_signed());
    }
    if said != sum && said != signed {
        bail!("it is no tar, or a damaged one: the checksum of a header does not match");
    }
    Ok(())
}

/// Up to the first NUL.
fn text(field: &[u8]) -> &[u8] {
    field.split(|byte| *byte == 0).next().unwrap_or_default()
}

fn unsigned(field: &[u8]) -> Result<u64> {
    u64::try_from(number(field)?).context("the tar has a negative number where none can be")
}

/// Octal digits among spaces and NULs, or, where the first bit is set, a number of base 256 in two's
/// complement.
fn number(field: &[u8]) -> Result<i64> {
    let wrong = || {
        format!(
            "the tar has the field {:?}, which is no number",
            field.escape_ascii().to_string()
        )
    };
    let Some((first, rest)) = field.split_first().filter(|(first, _)| *first & 0x80 != 0) else {
        let is_blank = |byte: &u8| matches!(byte, b' ' | 0);
        let start = field.iter().position(|byte| !is_blank(byte));
        let digits = text(&field[start.unwrap_or(field.len())..]).trim_ascii_end();
        if digits.is_empty() {
            return Ok(0);
        }
        let digits = std::str::from_utf8(digits).with_context(wrong)?;
        if !digits.bytes().all(|digit| digit.is_ascii_digit()) {
            bail!(wrong());
        }
        return i64::from_str_radix(digits, 8).with_context(wrong);
    };
    // The first byte has the mark, the sign, and six bits.
    let negative = first & 0x40 != 0;
    let mut value = i128::from(first & 0x3f) - if negative { 0x40 } else { 0 };
    for byte in rest {
        value = (value << 8) | i128::from(*byte);
        if i64::try_from(value).is_err() {
            bail!(wrong());
        }
    }
    i64::try_from(value).with_context(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_octal_or_of_base_256() {
        for (field, value) in [
            (&b"0000644\0"[..], 0o644),
            (b" 644 \0\0\0", 0o644),
            (b"\0\0\0\0\0\0\0\0", 0),
            (b"        ", 0),
            (b"77777777", 0o7777_7777),
            (b"12\x0034567", 0o12),
            (b"\x80\0\0\0\0\0\x01\x02", 258),
            (b"\xff\xff\xff\xff\xff\xff\xff\xff", -1),
            (b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xfe", -2),
            (b"\x80\0\0\0\x7f\xff\xff\xff\xff\xff\xff\xff", i64::MAX),
        ] {
            assert_eq!(number(field).unwrap(), value, "{field:?}");
        }
        for field in [
            &b"+0000644"[..],
            b"-0000001",
            b"0000009\0",
            b"0x1\0\0\0\0\0",
            b"7 7\0\0\0\0\0",
            b"\x80\0\0\0\x80\0\0\0\0\0\0\0",
            b"\xbf\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
            b"\xc0\0\0\0\0\0\0\0\0\0\0\0",
        ] {
            assert!(number(field).is_err(), "{field:?}");
        }
        assert!(unsigned(b"\xff\xff\xff\xff\xff\xff\xff\xff").is_err());
    }
}
