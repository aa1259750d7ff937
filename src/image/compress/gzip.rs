//! gzip (RFC 1952), one member: its blocks are deflated side by side, each with the end of the one before
//! it as dictionary, and end on a byte (RFC 1951, an empty stored block), so that they can be joined.

use std::collections::BTreeMap;
use std::io::Read;
use std::io::Write;

use anyhow::Result;
use flate2::Compress;
use flate2::Compression;
use flate2::Crc;
use flate2::FlushCompress;

use crate::image::compress::Output;
use crate::image::compress::block;
use crate::sys::parallel;

const BLOCK: usize = 1 << 20;
/// What deflate can look back.
const WINDOW: usize = 32 << 10;
const LEVEL: u32 = 6;
/// No name and no time: the same bytes give the same file.
const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];
/// A last block that is empty.
const END: [u8; 2] = [0x03, 0x00];

struct Piece {
    before: Vec<u8>,
    bytes: Vec<u8>,
}

pub fn pack(
    input: &mut dyn Read,
    output: &mut Output<'_>,
    level: Option<i32>,
) -> Result<BTreeMap<String, String>> {
    let level = level.and_then(|level| u32::try_from(level).ok());
    let level = Compression::new(level.unwrap_or(LEVEL));
    let mut before = Vec::new();
    let mut crc = Crc::new();
    output.write_all(&HEADER)?;
    parallel::in_order(
        || {
            let Some(bytes) = block(input, BLOCK)? else {
                return Ok(None);
            };
            let tail = bytes[bytes.len().saturating_sub(WINDOW)..].to_vec();
            let before = std::mem::replace(&mut before, tail);
            Ok(Some(Piece { before, bytes }))
        },
        |piece| deflate(&piece, level),
        |(deflated, part)| {
            crc.combine(&part);
            Ok(output.write_all(&deflated)?)
        },
    )?;
    output.write_all(&END)?;
    output.write_all(&crc.sum().to_le_bytes())?;
    output.write_all(&crc.amount().to_le_bytes())?;
    Ok(BTreeMap::new())
}

fn deflate(piece: &Piece, level: Compression) -> Result<(Vec<u8>, Crc)> {
    let mut crc = Crc::new();
    crc.update(&piece.bytes);
    let mut compress = Compress::new(level, false);
    if !piece.before.is_empty() {
        compress.set_dictionary(&piece.before)?;
    }
    let mut deflated = Vec::with_capacity(piece.bytes.len() / 2);
    loop {
        let at = usize::try_from(compress.total_in())?;
        compress.compress_vec(&piece.bytes[at..], &mut deflated, FlushCompress::Sync)?;
        // With room left, all that was to be flushed has been.
        let all_in = compress.total_in() == piece.bytes.len() as u64;
        if all_in && deflated.len() < deflated.capacity() {
            return Ok((deflated, crc));
        }
        deflated.reserve(64 << 10);
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use crate::image::compress::Format;
    use crate::image::compress::Recipe;
    use crate::image::compress::pack;
    use crate::oci::digest::Digest;
    use crate::store::temp::nameless_file;
    use crate::store::temp::tests::scratch;

    /// Repetitive, random and empty, of lengths about the blocks' size.
    fn samples() -> Vec<Vec<u8>> {
        let mut state = 1_u32;
        let mut noise = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state.to_le_bytes()[3]
        };
        let random: Vec<u8> = (0..3_000_000).map(|_| noise()).collect();
        let text = b"some words that come again ".repeat(200_000);
        vec![
            Vec::new(),
            vec![7],
            random[..1 << 20].to_vec(),
            random[..=1 << 20].to_vec(),
            text,
            random,
        ]
    }

    #[test]
    fn what_is_packed_can_be_unpacked_and_is_always_the_same() {
        let base = scratch("compress");
        for format in [Format::None, Format::Gzip, Format::Zstd] {
            for sample in samples() {
                let recipe = Recipe {
                    format,
                    level: None,
                };
                let file = nameless_file(base.path()).unwrap();
                let made = pack(&mut sample.as_slice(), &file, recipe).unwrap();
                let mut packed = Vec::new();
                std::io::Seek::rewind(&mut &file).unwrap();
                (&file).read_to_end(&mut packed).unwrap();
                assert_eq!(made.size, packed.len() as u64);
                assert_eq!(made.digest, Digest::sha256_of(&packed));
                let mut found = Vec::new();
                match format {
                    Format::Gzip => flate2::read::GzDecoder::new(packed.as_slice())
                        .read_to_end(&mut found)
                        .unwrap(),
                    Format::Zstd => zstd::stream::copy_decode(packed.as_slice(), &mut found)
                        .map(|()| 0)
                        .unwrap(),
                    _ => packed.as_slice().read_to_end(&mut found).unwrap(),
                };
                assert!(found == sample, "{format:?} of {} bytes", sample.len());
                let again = nameless_file(base.path()).unwrap();
                let again = pack(&mut sample.as_slice(), &again, recipe).unwrap();
                assert_eq!(again.digest, made.digest);
            }
        }
    }
}
