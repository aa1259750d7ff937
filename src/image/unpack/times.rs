//! The times of a layer's directories, which can only be set when all is in them: kept in a file, since a
//! layer may have more directories than memory should hold.

use std::fs::File;
use std::io::BufReader;
use std::io::BufWriter;
use std::io::Read;
use std::io::Seek;
use std::io::Write;

use anyhow::Context;
use anyhow::Result;
use rustix::fs::Timespec;

use crate::store::archive::name::Name;

pub struct DirTimes {
    file: BufWriter<File>,
    count: u64,
}

impl DirTimes {
    /// `file` is empty and goes away by itself.
    pub fn new(file: File) -> Self {
        Self {
            file: BufWriter::new(file),
            count: 0,
        }
    }

    pub fn push(&mut self, name: &Name, time: Timespec) -> Result<()> {
        let name = name.as_bytes();
        let mut write = || {
            self.file.write_all(&time.tv_sec.to_ne_bytes())?;
            self.file.write_all(&time.tv_nsec.to_ne_bytes())?;
            self.file.write_all(&name.len().to_ne_bytes())?;
            self.file.write_all(name)
        };
        write().context("cannot note the time of a directory")?;
        self.count += 1;
        Ok(())
    }

    /// All of them, in the order in which they came.
    pub fn each(self, mut take: impl FnMut(&Name, Timespec)) -> Result<()> {
        let read = || {
            let mut file = self.file.into_inner()?;
            file.rewind()?;
            let mut file = BufReader::new(file);
            for _ in 0..self.count {
                let mut next = || -> std::io::Result<[u8; 8]> {
                    let mut number = [0; 8];
                    file.read_exact(&mut number)?;
                    Ok(number)
                };
                let time = Timespec {
                    tv_sec: i64::from_ne_bytes(next()?),
                    tv_nsec: i64::from_ne_bytes(next()?),
                };
                let mut name = vec![0; usize::from_ne_bytes(next()?)];
                file.read_exact(&mut name)?;
                take(&Name::parse(&name)?, time);
            }
            anyhow::Ok(())
        };
        read().context("cannot read the times of directories")
    }
}
