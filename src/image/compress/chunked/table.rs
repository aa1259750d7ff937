//! The table of contents: what the headers of the tar say of each file, and where its content is.

use std::collections::BTreeMap;
use std::io::Read;

use anyhow::Result;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use tar::EntryType;

use crate::error::Kind;
use crate::error::WithHint;
use crate::error::fail;
use crate::image::compress::chunked::Placed;
use crate::oci::digest::Digest;

/// A file of the tar.
pub struct File {
    /// Its name as the tar has it.
    pub raw: Vec<u8>,
    pub entry: Entry,
}

/// A file, or a further piece of one, in the table. The names of its fields are the format's.
#[derive(Clone, Default, Serialize)]
pub struct Entry {
    r#type: &'static str,
    pub name: String,
    #[serde(rename = "linkName", skip_serializing_if = "String::is_empty")]
    link_name: String,
    #[serde(skip_serializing_if = "is_zero")]
    mode: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub size: u64,
    #[serde(skip_serializing_if = "is_zero")]
    uid: u64,
    #[serde(skip_serializing_if = "is_zero")]
    gid: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    modtime: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    accesstime: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    changetime: Option<String>,
    #[serde(rename = "devMajor", skip_serializing_if = "is_zero")]
    dev_major: u64,
    #[serde(rename = "devMinor", skip_serializing_if = "is_zero")]
    dev_minor: u64,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    xattrs: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    #[serde(skip_serializing_if = "is_zero")]
    offset: u64,
    #[serde(rename = "endOffset", skip_serializing_if = "is_zero")]
    end_offset: u64,
    #[serde(rename = "chunkSize", skip_serializing_if = "is_zero")]
    chunk_size: u64,
    #[serde(rename = "chunkOffset", skip_serializing_if = "is_zero")]
    chunk_offset: u64,
    #[serde(rename = "chunkDigest", skip_serializing_if = "Option::is_none")]
    chunk_digest: Option<String>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde wants it so")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// What the headers of a file say. A field may be empty, which means 0.
pub fn file<R: Read>(entry: &mut tar::Entry<'_, R>) -> Result<File> {
    let raw = entry.path_bytes().into_owned();
    let name = String::from_utf8_lossy(&raw).into_owned();
    let link = entry.link_name_bytes().map(std::borrow::Cow::into_owned);
    let header = entry.header().clone();
    let mut told = Entry {
        r#type: type_of(header.entry_type(), &raw)?,
        name,
        link_name: String::from_utf8_lossy(&link.unwrap_or_default()).into_owned(),
        mode: u64::from(header.mode().unwrap_or(0)),
        uid: header.uid().unwrap_or(0),
        gid: header.gid().unwrap_or(0),
        modtime: time(&header.mtime().unwrap_or(0).to_string()),
        dev_major: device(header.device_major()),
        dev_minor: device(header.device_minor()),
        ..Entry::default()
    };
    if let Some(extensions) = entry.pax_extensions()? {
        for extension in extensions {
            let extension = extension?;
            let value = extension.value().unwrap_or_default();
            match extension.key().unwrap_or_default() {
                "uid" => told.uid = value.parse().unwrap_or(told.uid),
                "gid" => told.gid = value.parse().unwrap_or(told.gid),
                "mtime" => told.modtime = time(value),
                "atime" => told.accesstime = time(value),
                "ctime" => told.changetime = time(value),
                key => {
                    if let Some(xattr) = key.strip_prefix("SCHILY.xattr.") {
                        let value = STANDARD.encode(extension.value_bytes());
                        told.xattrs.insert(xattr.to_owned(), value);
                    }
                }
            }
        }
    }
    Ok(File { raw, entry: told })
}

/// The field is empty for what is no device.
fn device(number: std::io::Result<Option<u32>>) -> u64 {
    u64::from(number.ok().flatten().unwrap_or(0))
}

fn type_of(kind: EntryType, name: &[u8]) -> Result<&'static str> {
    Ok(match kind {
        // Old tars have directories that are told by their names alone.
        EntryType::Regular if name.ends_with(b"/") => "dir",
        EntryType::Regular | EntryType::GNUSparse => "reg",
        EntryType::Link => "hardlink",
        EntryType::Symlink => "symlink",
        EntryType::Char => "char",
        EntryType::Block => "block",
        EntryType::Directory => "dir",
        EntryType::Fifo => "fifo",
        other => {
            let text = format!("zstd:chunked knows no entries of type {other:?}");
            return Err(fail(Kind::Unsupported, text)).hint("use --compression-format zstd");
        }
    })
}

/// Seconds since 1970, with a fraction perhaps, in RFC 3339.
fn time(text: &str) -> Option<String> {
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits: String = fraction
        .chars()
        .chain("000000000".chars())
        .take(9)
        .collect();
    let nanoseconds: i32 = digits.parse().ok()?;
    let time = jiff::Timestamp::new(seconds.parse().ok()?, nanoseconds).ok()?;
    Some(time.to_string())
}

/// The table as JSON.
pub fn write(files: &[File], placed: &[Placed], split: &Digest) -> Result<Vec<u8>> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Table<'a> {
        version: u32,
        entries: Vec<Entry>,
        tar_split_digest: &'a Digest,
    }
    let mut entries = Vec::with_capacity(files.len());
    let mut pieces = placed.iter().peekable();
    for (number, file) in files.iter().enumerate() {
        let mut own = Vec::new();
        while let Some(piece) = pieces.next_if(|piece| piece.file == number) {
            own.push(piece);
        }
        entries.extend(of_file(file, &own));
    }
    let table = Table {
        version: 1,
        entries,
        tar_split_digest: split,
    };
    Ok(serde_json::to_vec(&table)?)
}

/// The entry of a file, and one more for each further piece.
fn of_file(file: &File, pieces: &[&Placed]) -> Vec<Entry> {
    let mut first = file.entry.clone();
    if let (Some(start), Some(end)) = (pieces.first(), pieces.last()) {
        first.offset = start.start;
        first.end_offset = end.end;
    }
    let mut entries = vec![first];
    if pieces.len() < 2 {
        return entries;
    }
    let mut done = 0;
    for (number, piece) in pieces.iter().enumerate() {
        if number > 0 {
            entries.push(Entry {
                r#type: "chunk",
                name: file.entry.name.clone(),
                chunk_offset: done,
                ..Entry::default()
            });
        }
        entries[number].offset = piece.start;
        entries[number].chunk_size = piece.size;
        entries[number].chunk_digest = Some(piece.digest.to_string());
        done += piece.size;
    }
    entries
}
