//! zstd:chunked, the form of containers/storage: a zstd file in which each piece of a file's content is a frame
//! of its own, and after it, in skippable frames (RFC 8878, section 3.1.2), a table of contents, what of the
//! tar is no content ("tar-split"), and a footer that says where both are. Who knows nothing of it reads a
//! common zstd file; who does fetches only the pieces that he has not.

use std::collections::BTreeMap;
use std::io::Read;
use std::io::Write;
use std::sync::mpsc;
use std::sync::mpsc::Receiver;
use std::thread;

use anyhow::Context;
use anyhow::Result;

use crate::image::compress::Output;
use crate::image::compress::frame;
use crate::oci::digest::Digest;
use crate::sys::parallel;

mod split;
mod table;

/// Content is cut here at the latest. The format leaves it open where.
const PIECE: usize = 1 << 20;
/// Pieces that are read before they are wanted.
const AHEAD: usize = 16;
const ANNOTATION: &str = "io.github.containers.zstd-chunked.";
/// The only type of table there is.
const TYPE: u64 = 1;
const SKIPPABLE: u32 = 0x184d_2a50;
const MAGIC: &[u8; 8] = b"GNUlInUx";

/// What becomes one frame.
pub(super) enum Piece {
    /// Headers and padding.
    Around(Vec<u8>),
    /// Content of the file with this number.
    Content { file: usize, bytes: Vec<u8> },
}

/// A piece of content as it lies in the file.
pub(super) struct Placed {
    pub file: usize,
    pub start: u64,
    pub end: u64,
    pub size: u64,
    pub digest: Digest,
}

pub fn pack(
    input: &mut (dyn Read + Send),
    output: &mut Output<'_>,
    level: Option<i32>,
) -> Result<BTreeMap<String, String>> {
    let mut placed: Vec<Placed> = Vec::new();
    let (send, pieces) = mpsc::sync_channel(AHEAD);
    // The tar is read by a thread: its entries follow each other in a loop that cannot be left.
    let (taken, packed) = thread::scope(|scope| {
        let reader = scope.spawn(move || split::split(input, PIECE, &send));
        let packed = frames(&pieces, output, level, &mut placed);
        drop(pieces);
        (reader.join().expect("a panic ends the program"), packed)
    });
    packed?;
    let (files, around) = taken?;
    end(
        output,
        level,
        &Contents {
            files,
            around,
            placed,
        },
    )
}

/// Compresses the pieces, and notes where those of content lie.
fn frames(
    pieces: &Receiver<Piece>,
    output: &mut Output<'_>,
    level: Option<i32>,
    placed: &mut Vec<Placed>,
) -> Result<()> {
    parallel::in_order(
        || Ok(pieces.recv().ok()),
        |piece| match piece {
            Piece::Around(bytes) => Ok((frame(&bytes, level)?, None)),
            Piece::Content { file, bytes } => {
                let about = (file, bytes.len() as u64, Digest::sha256_of(&bytes));
                Ok((frame(&bytes, level)?, Some(about)))
            }
        },
        |(frame, about)| {
            let start = output.size;
            output.write_all(&frame)?;
            if let Some((file, size, digest)) = about {
                placed.push(Placed {
                    file,
                    start,
                    end: output.size,
                    size,
                    digest,
                });
            }
            Ok(())
        },
    )
}

/// What is known when all content is written.
struct Contents {
    files: Vec<table::File>,
    around: Vec<u8>,
    placed: Vec<Placed>,
}

fn end(
    output: &mut Output<'_>,
    level: Option<i32>,
    contents: &Contents,
) -> Result<BTreeMap<String, String>> {
    let split = Part::new(&contents.around, level)?;
    let table = table::write(&contents.files, &contents.placed, &split.digest)?;
    let table = Part::new(&table, level)?;
    let table_at = skippable(output, &table.packed)?;
    let split_at = skippable(output, &split.packed)?;
    skippable(output, &footer(&table, table_at, &split, split_at))?;
    Ok(BTreeMap::from([
        (
            format!("{ANNOTATION}manifest-checksum"),
            table.digest.to_string(),
        ),
        (
            format!("{ANNOTATION}manifest-position"),
            format!("{table_at}:{}:{}:{TYPE}", table.packed.len(), table.size),
        ),
        (
            format!("{ANNOTATION}tarsplit-position"),
            format!("{split_at}:{}:{}", split.packed.len(), split.size),
        ),
    ]))
}

/// A compressed part of what comes after the tar.
struct Part {
    packed: Vec<u8>,
    size: usize,
    /// Of the compressed bytes.
    digest: Digest,
}

impl Part {
    fn new(bytes: &[u8], level: Option<i32>) -> Result<Self> {
        let packed = frame(bytes, level)?;
        Ok(Self {
            digest: Digest::sha256_of(&packed),
            size: bytes.len(),
            packed,
        })
    }
}

/// Returns where the bytes are.
fn skippable(output: &mut Output<'_>, bytes: &[u8]) -> Result<u64> {
    let size = u32::try_from(bytes.len()).context("the table of contents is too large")?;
    output.write_all(&SKIPPABLE.to_le_bytes())?;
    output.write_all(&size.to_le_bytes())?;
    let at = output.size;
    output.write_all(bytes)?;
    Ok(at)
}

fn footer(table: &Part, table_at: u64, split: &Part, split_at: u64) -> Vec<u8> {
    let mut footer = Vec::new();
    for number in [
        table_at,
        table.packed.len() as u64,
        table.size as u64,
        TYPE,
        split_at,
        split.packed.len() as u64,
        split.size as u64,
    ] {
        footer.extend(number.to_le_bytes());
    }
    footer.extend(MAGIC);
    footer
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::io::Seek;

    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use serde_json::Value;

    use super::*;
    use crate::image::compress::Format;
    use crate::image::compress::Recipe;
    use crate::store::temp::nameless_file;
    use crate::store::temp::tests::scratch;

    fn sample() -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        let long = "long/".repeat(40) + "name";
        let large: Vec<u8> = (0..2_500_000_u32).map(|n| n.to_le_bytes()[1]).collect();
        for (name, data) in [
            ("a", b"hello".as_slice()),
            ("empty", b""),
            ("large", &large),
            (long.as_str(), b"deep"),
        ] {
            let mut header = tar::Header::new_gnu();
            header.set_size(data.len() as u64);
            header.set_mode(0o644);
            header.set_mtime(1_700_000_000);
            builder.append_data(&mut header, name, data).unwrap();
        }
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        builder.append_link(&mut header, "link", "a").unwrap();
        let mut tar = builder.into_inner().unwrap();
        tar.resize(tar.len() + 4096, 0);
        tar
    }

    fn unpacked(bytes: &[u8]) -> Vec<u8> {
        let mut found = Vec::new();
        ::zstd::stream::copy_decode(bytes, &mut found).unwrap();
        found
    }

    fn numbers(text: &str) -> Vec<usize> {
        text.split(':').map(|part| part.parse().unwrap()).collect()
    }

    #[test]
    fn the_table_leads_to_each_file_and_the_tar_can_be_put_together() {
        let base = scratch("chunked");
        let tar = sample();
        let file = nameless_file(base.path()).unwrap();
        let recipe = Recipe {
            format: Format::ZstdChunked,
            level: None,
        };
        let made = crate::image::compress::pack(&mut tar.as_slice(), &file, recipe).unwrap();
        let mut packed = Vec::new();
        (&file).rewind().unwrap();
        (&file).read_to_end(&mut packed).unwrap();
        assert!(unpacked(&packed) == tar, "as common zstd");

        let at = |key: &str| &made.annotations[&format!("{ANNOTATION}{key}")];
        let place = numbers(at("manifest-position"));
        let table = &packed[place[0]..place[0] + place[1]];
        assert_eq!(
            Digest::sha256_of(table).to_string(),
            *at("manifest-checksum")
        );
        let table = unpacked(table);
        assert_eq!((table.len(), place[3]), (place[2], 1));
        let table: Value = serde_json::from_slice(&table).unwrap();
        let place = numbers(at("tarsplit-position"));
        let split = &packed[place[0]..place[0] + place[1]];
        assert_eq!(
            table["tarSplitDigest"],
            Digest::sha256_of(split).to_string()
        );
        let split = unpacked(split);
        assert_eq!(&packed[packed.len() - 8..], MAGIC);
        assert_eq!(
            packed[packed.len() - 64 - 8..][..4],
            SKIPPABLE.to_le_bytes()
        );

        let entries = table["entries"].as_array().unwrap();
        let number = |value: &Value| usize::try_from(value.as_u64().unwrap_or(0)).unwrap();
        let content = |name: &str| {
            let entry = entries.iter().find(|entry| entry["name"] == name).unwrap();
            let (start, end) = (number(&entry["offset"]), number(&entry["endOffset"]));
            if start == end {
                assert_eq!(number(&entry["size"]), 0, "{name}");
                return Vec::new();
            }
            let bytes = unpacked(&packed[start..end]);
            if !bytes.is_empty() {
                let digest = Digest::sha256_of(&bytes).to_string();
                assert_eq!(entry["digest"], digest, "{name}");
            }
            assert_eq!(bytes.len(), number(&entry["size"]), "{name}");
            bytes
        };
        assert_eq!(content("a"), b"hello");
        let pieces = entries.iter().filter(|entry| entry["name"] == "large");
        let sizes: Vec<usize> = pieces.map(|piece| number(&piece["chunkSize"])).collect();
        assert_eq!(sizes, [PIECE, PIECE, 2_500_000 - 2 * PIECE]);
        assert_eq!(entries[0]["modtime"], "2023-11-14T22:13:20Z");
        assert_eq!(entries.last().unwrap()["linkName"], "a");

        let mut again = Vec::new();
        for line in split
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty())
        {
            let line: Value = serde_json::from_slice(line).unwrap();
            if line["type"] == 2 {
                again.extend(STANDARD.decode(line["payload"].as_str().unwrap()).unwrap());
            } else {
                again.extend(content(line["name"].as_str().unwrap()));
            }
        }
        assert!(again == tar, "put together");
    }
}
