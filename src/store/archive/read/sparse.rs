//! Sparse files in tar archives: which bytes of a file the archive has, in the four forms of GNU tar
//! ("Storing Sparse Files" in its manual).

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;

use crate::store::archive::BLOCK;
use crate::store::archive::read::EXTENSION_MAX;
use crate::store::archive::read::Input;
use crate::store::archive::read::Reader;
use crate::store::archive::read::cut_off;
use crate::store::archive::read::header::OldSparse;
use crate::store::archive::read::header::old_fragments;
use crate::store::archive::read::pax;
use crate::store::archive::read::pax::Sparse;

/// The parts of a file that are in the archive, in order; between them are zeros.
pub struct Map {
    size: u64,
    /// Offset and length.
    fragments: Vec<(u64, u64)>,
    /// The fragment that is read, and how much of it was.
    current: usize,
    done: u64,
}

impl Map {
    /// Of a file without holes.
    pub fn whole(size: u64) -> Self {
        Self {
            size,
            fragments: if size > 0 {
                vec![(0, size)]
            } else {
                Vec::new()
            },
            current: 0,
            done: 0,
        }
    }

    fn new(size: u64, fragments: Vec<(u64, u64)>) -> Result<Self> {
        let mut end = 0;
        for (offset, length) in &fragments {
            let next = offset.checked_add(*length);
            match next.filter(|next| *offset >= end && *next <= size) {
                Some(next) => end = next,
                None => bail!("the tar has a sparse file with a map that is out of order"),
            }
        }
        Ok(Self {
            size,
            fragments,
            current: 0,
            done: 0,
        })
    }

    pub fn size(&self) -> u64 {
        self.size
    }

    /// The bytes that the archive has of it.
    pub fn stored(&self) -> u64 {
        self.fragments.iter().map(|(_, length)| length).sum()
    }

    /// Where the next bytes belong, and how many there are.
    pub fn next(&mut self) -> Option<(u64, u64)> {
        loop {
            let (offset, length) = *self.fragments.get(self.current)?;
            if self.done < length {
                return Some((offset + self.done, length - self.done));
            }
            self.current += 1;
            self.done = 0;
        }
    }

    pub fn advance(&mut self, count: u64) {
        self.done += count;
    }
}

impl<I: Input> Reader<I> {
    /// GNU's old form: blocks of fragments between the header and the bytes.
    pub fn old_map(&mut self, old: OldSparse) -> Result<Map> {
        let OldSparse {
            size,
            mut fragments,
            mut goes_on,
        } = old;
        let mut blocks = 0;
        while goes_on {
            blocks += BLOCK as u64;
            if blocks > EXTENSION_MAX {
                return Err(too_many());
            }
            let block = self.block()?.ok_or_else(|| cut_off(self.rest))?;
            old_fragments(&block[..504], &mut fragments)?;
            goes_on = block[504] != 0;
        }
        Map::new(size, fragments)
    }

    pub fn pax_map(&mut self, sparse: Sparse) -> Result<Map> {
        let size = sparse.size.or(sparse.real_size);
        let size = size.context("the tar has a sparse file without a size")?;
        let numbers = match (sparse.major, sparse.minor, sparse.map) {
            (Some(1), Some(0), None) => self.map_in_front()?,
            (None | Some(0), None | Some(0 | 1), Some(map)) => map,
            _ => bail!("the tar has a sparse file of a version that is unknown"),
        };
        if numbers.len() % 2 != 0 {
            bail!("the tar has a sparse file with half a fragment");
        }
        let fragments = numbers.chunks_exact(2).map(|pair| (pair[0], pair[1]));
        Map::new(size, fragments.collect())
    }

    /// Version 1.0: lines with numbers in front of the bytes, the count of fragments first, up to the end
    /// of a block.
    fn map_in_front(&mut self) -> Result<Vec<u64>> {
        let mut numbers: Vec<u64> = Vec::new();
        let mut line = Vec::new();
        let mut left = None;
        let mut blocks = 0;
        while left != Some(0) {
            blocks += BLOCK as u64;
            if blocks > EXTENSION_MAX {
                return Err(too_many());
            }
            if self.rest < BLOCK as u64 {
                bail!("the tar has a sparse file with half a map");
            }
            let block = self.block()?.ok_or_else(|| cut_off(self.rest))?;
            self.rest -= BLOCK as u64;
            for byte in block {
                if left == Some(0) {
                    break;
                }
                if byte != b'\n' {
                    line.push(byte);
                    continue;
                }
                let number: u64 = pax::number(&line)?.context("a number is missing")?;
                line.clear();
                left = match left {
                    None => Some(number.checked_mul(2).context("a number is too large")?),
                    Some(left) => {
                        numbers.push(number);
                        Some(left - 1)
                    }
                };
            }
        }
        Ok(numbers)
    }
}

fn too_many() -> anyhow::Error {
    anyhow::anyhow!("the tar has a sparse file in more pieces than are allowed")
}
