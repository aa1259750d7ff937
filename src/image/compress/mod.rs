//! Compressing a layer, on all processors and always to the same bytes: a push that is repeated finds its
//! blob in the registry. Blocks have a fixed size, so that the number of processors does not show.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::io::Read;
use std::io::Write;

use anyhow::Context;
use anyhow::Result;

use crate::oci::digest::Algorithm;
use crate::oci::digest::Digest;
use crate::oci::digest::Hasher;
use crate::sys::parallel;

mod chunked;
mod gzip;

/// The form in which a layer is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    None,
    Gzip,
    Zstd,
    /// zstd, with a table of contents that tells where in it each file is.
    ZstdChunked,
}

impl Format {
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
            Self::ZstdChunked => "zstd:chunked",
        }
    }

    /// The levels that it has.
    pub fn levels(self) -> std::ops::RangeInclusive<i32> {
        match self {
            Self::None => 0..=0,
            Self::Gzip => 1..=9,
            Self::Zstd | Self::ZstdChunked => 1..=22,
        }
    }
}

/// A form, and how hard it is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recipe {
    pub format: Format,
    pub level: Option<i32>,
}

/// What compressing made.
#[derive(Debug)]
pub struct Made {
    pub digest: Digest,
    pub size: u64,
    /// What the layer's descriptor must say.
    pub annotations: BTreeMap<String, String>,
}

/// A frame of zstd each; the window of the usual levels is 2 MiB to 4 MiB.
const ZSTD_BLOCK: usize = 4 << 20;
const ZSTD_LEVEL: i32 = 3;

/// Writes the tar that `input` gives to the file, compressed.
pub fn pack(input: &mut (dyn Read + Send), output: &File, recipe: Recipe) -> Result<Made> {
    let mut output = Output {
        file: io::BufWriter::with_capacity(1 << 20, output),
        hasher: Hasher::new(Algorithm::Sha256),
        size: 0,
    };
    let cannot = || format!("cannot compress a layer with {}", recipe.format.name());
    let annotations = match recipe.format {
        Format::None => io::copy(input, &mut output).map(|_| BTreeMap::new())?,
        Format::Gzip => gzip::pack(input, &mut output, recipe.level).with_context(cannot)?,
        Format::Zstd => zstd(input, &mut output, recipe.level).with_context(cannot)?,
        Format::ZstdChunked => {
            chunked::pack(input, &mut output, recipe.level).with_context(cannot)?
        }
    };
    output.file.flush().with_context(cannot)?;
    Ok(Made {
        digest: output.hasher.finish(),
        size: output.size,
        annotations,
    })
}

/// Writes, hashes and counts.
struct Output<'a> {
    file: io::BufWriter<&'a File>,
    hasher: Hasher,
    size: u64,
}

impl Write for Output<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write_all(bytes)?;
        self.hasher.update(bytes);
        self.size += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// The next block, full unless it is the last; `None` at the end.
fn block(input: &mut dyn Read, size: usize) -> Result<Option<Vec<u8>>> {
    let mut block = Vec::with_capacity(size);
    input.take(size as u64).read_to_end(&mut block)?;
    Ok((!block.is_empty()).then_some(block))
}

/// One frame after the other (RFC 8878, section 3.1).
fn zstd(
    input: &mut dyn Read,
    output: &mut Output<'_>,
    level: Option<i32>,
) -> Result<BTreeMap<String, String>> {
    parallel::in_order(
        || block(input, ZSTD_BLOCK),
        |block| frame(&block, level),
        |frame| Ok(output.write_all(&frame)?),
    )?;
    if output.size == 0 {
        // Nothing at all is no zstd file.
        output.write_all(&frame(&[], level)?)?;
    }
    Ok(BTreeMap::new())
}

fn frame(bytes: &[u8], level: Option<i32>) -> Result<Vec<u8>> {
    Ok(::zstd::bulk::compress(bytes, level.unwrap_or(ZSTD_LEVEL))?)
}
