//! A tar taken apart: content of files, and all that is around it.

use std::cell::RefCell;
use std::collections::HashSet;
use std::io;
use std::io::Read;
use std::sync::mpsc::SyncSender;

use anyhow::Context;
use anyhow::Result;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use tar::EntryType;

use crate::error::Kind;
use crate::error::WithHint;
use crate::error::fail;
use crate::image::compress::chunked::Piece;
use crate::image::compress::chunked::table;
use crate::image::compress::chunked::table::File;
use crate::oci::digest::Algorithm;
use crate::oci::digest::Hasher;

/// What the tar has besides content: tar-split's format, a line of JSON each.
#[derive(Default)]
struct Around {
    lines: Vec<u8>,
    position: usize,
}

#[derive(Serialize)]
struct Line<'a> {
    /// 1: content of a file, 2: bytes.
    r#type: u8,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    /// Of a name that is no UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    name_raw: Option<String>,
    #[serde(skip_serializing_if = "is_zero")]
    size: u64,
    /// The bytes, or the checksum of the content, in base64.
    payload: Option<String>,
    position: usize,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde wants it so")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl Around {
    fn bytes(&mut self, bytes: &[u8]) -> Result<()> {
        self.line(2, None, 0, Some(STANDARD.encode(bytes)))
    }

    fn content(&mut self, name: &[u8], size: u64, checksum: Option<u64>) -> Result<()> {
        let payload = checksum.map(|sum| STANDARD.encode(sum.to_be_bytes()));
        self.line(1, Some(name), size, payload)
    }

    fn line(
        &mut self,
        kind: u8,
        name: Option<&[u8]>,
        size: u64,
        payload: Option<String>,
    ) -> Result<()> {
        let text = name.and_then(|name| str::from_utf8(name).ok());
        let raw = name.filter(|_| text.is_none());
        let line = Line {
            r#type: kind,
            name: text,
            name_raw: raw.map(|name| STANDARD.encode(name)),
            size,
            payload,
            position: self.position,
        };
        serde_json::to_writer(&mut self.lines, &line)?;
        self.lines.push(b'\n');
        self.position += 1;
        Ok(())
    }
}

/// Keeps what is read, until it is taken.
struct Kept<'a> {
    inner: &'a mut dyn Read,
    kept: &'a RefCell<Vec<u8>>,
}

impl Read for Kept<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.kept.borrow_mut().extend_from_slice(&buffer[..count]);
        Ok(count)
    }
}

/// Takes a tar apart; returns the files, and what is around their contents.
pub fn split(
    input: &mut dyn Read,
    piece: usize,
    pieces: &SyncSender<Piece>,
) -> Result<(Vec<File>, Vec<u8>)> {
    let kept = RefCell::new(Vec::new());
    let mut archive = tar::Archive::new(Kept {
        inner: input,
        kept: &kept,
    });
    let (mut files, mut around) = (Vec::new(), Around::default());
    let mut seen = HashSet::new();
    for entry in archive.entries()? {
        let mut entry = entry.context("cannot read the tar of the layer")?;
        let bytes = kept.take();
        around.bytes(&bytes)?;
        send(pieces, Piece::Around(bytes));
        let mut file = table::file(&mut entry)?;
        if entry.header().entry_type() == EntryType::GNUSparse || !seen.insert(clean(&file.raw)) {
            let text = format!("{:?} is sparse, or there twice", file.entry.name);
            return Err(fail(Kind::Unsupported, text)).hint("use --compression-format zstd");
        }
        let mut content = Content::new();
        loop {
            let mut bytes = Vec::with_capacity(piece.min(64 << 10));
            (&mut entry).take(piece as u64).read_to_end(&mut bytes)?;
            kept.borrow_mut().clear();
            if bytes.is_empty() {
                break;
            }
            content.update(&bytes);
            send(
                pieces,
                Piece::Content {
                    file: files.len(),
                    bytes,
                },
            );
        }
        around.content(&file.raw, content.size, content.checksum())?;
        file.entry.size = content.size;
        file.entry.digest = content.digest();
        files.push(file);
    }
    let mut rest = archive.into_inner();
    io::copy(&mut rest, &mut io::sink())?;
    let bytes = kept.take();
    around.bytes(&bytes)?;
    send(pieces, Piece::Around(bytes));
    Ok((files, around.lines))
}

/// Whoever listens no more has an error of his own.
fn send(pieces: &SyncSender<Piece>, piece: Piece) {
    pieces.send(piece).ok();
}

/// Two names of one file are the same here.
fn clean(name: &[u8]) -> Vec<Vec<u8>> {
    let parts = name.split(|byte| *byte == b'/');
    parts
        .filter(|part| !part.is_empty() && *part != b".")
        .map(<[u8]>::to_vec)
        .collect()
}

/// The whole content of a file, as it goes by.
struct Content {
    size: u64,
    hasher: Option<Hasher>,
    crc: u64,
}

impl Content {
    fn new() -> Self {
        Self {
            size: 0,
            hasher: Some(Hasher::new(Algorithm::Sha256)),
            crc: 0,
        }
    }

    fn update(&mut self, bytes: &[u8]) {
        self.size += bytes.len() as u64;
        self.crc = crc64(self.crc, bytes);
        if let Some(hasher) = &mut self.hasher {
            hasher.update(bytes);
        }
    }

    fn checksum(&self) -> Option<u64> {
        (self.size > 0).then_some(self.crc)
    }

    fn digest(&mut self) -> Option<String> {
        let hasher = self.hasher.take().filter(|_| self.size > 0);
        hasher.map(|hasher| hasher.finish().to_string())
    }
}

/// CRC-64 of ISO 3309, which tar-split has its checksums from.
fn crc64(crc: u64, bytes: &[u8]) -> u64 {
    const TABLE: [u64; 256] = crc64_table();
    let step = |crc: u64, byte: &u8| TABLE[usize::from(crc.to_le_bytes()[0] ^ byte)] ^ (crc >> 8);
    !bytes.iter().fold(!crc, step)
}

const fn crc64_table() -> [u64; 256] {
    const POLYNOMIAL: u64 = 0xd800_0000_0000_0000;
    let mut table = [0; 256];
    let mut at = 0;
    while at < 256 {
        let mut crc = at as u64;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 {
                (crc >> 1) ^ POLYNOMIAL
            } else {
                crc >> 1
            };
            bit += 1;
        }
        table[at] = crc;
        at += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_that_of_the_standard() {
        // Examples of Go's hash/crc64, polynomial ISO.
        assert_eq!(crc64(0, b"a"), 0x3420_0000_0000_0000);
        assert_eq!(crc64(crc64(0, b"a"), b"b"), crc64(0, b"ab"));
        assert_eq!(clean(b"./a//b/"), clean(b"a/b"));
    }
}
