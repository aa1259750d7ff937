//! Blobs: streamed and counted; a broken connection is taken up where it broke.

use std::fs::File;
use std::io::Read;
use std::io::Write;
use std::time::Instant;

use anyhow::Context;
use anyhow::Result;
use anyhow::anyhow;
use anyhow::bail;

use crate::image::ingest::Sink;
use crate::image::manifest::Descriptor;
use crate::image::registry::client::Client;
use crate::oci::digest::Hasher;
use crate::store::atomic::with_space_hint;
use crate::store::dirs::Dirs;
use crate::store::temp;

const BUFFER: usize = 256 << 10;
/// What a connection must bring, before it breaks, to count as one that works.
const PIECE_MIN: u64 = 64 << 10;
/// What must come while a silent server would be given up: 4 KiB a minute, usually.
const SLOWEST: u64 = 4 << 10;

/// All bytes of a small blob.
pub fn small(client: &Client, descriptor: &Descriptor, size_max: u64) -> Result<Vec<u8>> {
    if descriptor.size > size_max {
        bail!(
            "blob {} has {} bytes, and {size_max} are the most that are read",
            descriptor.digest,
            descriptor.size
        );
    }
    let mut bytes = Vec::new();
    copy(client, descriptor, 0, &mut |more| {
        bytes.extend_from_slice(more);
        Ok(())
    })?;
    if !descriptor.digest.matches(&bytes) {
        bail!(
            "wrong digest: the registry sent another blob than {}",
            descriptor.digest
        );
    }
    Ok(bytes)
}

/// A large blob as a file without a name.
pub fn fetch(client: &Client, dirs: &Dirs, descriptor: &Descriptor) -> Result<File> {
    let mut file = temp::nameless_file(&dirs.tmp())?;
    let mut hasher = Hasher::new(descriptor.digest.algorithm());
    copy(client, descriptor, 0, &mut |bytes| {
        hasher.update(bytes);
        file.write_all(bytes)
            .map_err(|err| with_space_hint(err.into()))
    })?;
    if hasher.finish() != descriptor.digest {
        bail!(
            "wrong digest: the registry sent another blob than {}",
            descriptor.digest
        );
    }
    Ok(file)
}

/// Gives the bytes of a blob to `sink`, except those before `from`: as many as there must be, and to be
/// compared with its digest.
pub fn copy(
    client: &Client,
    descriptor: &Descriptor,
    from: u64,
    sink: &mut Sink<'_>,
) -> Result<()> {
    if from > 0 && from == descriptor.size {
        return Ok(());
    }
    let mut transfer = Transfer {
        descriptor,
        done: from,
        buffer: vec![0; BUFFER],
    };
    let mut attempt = 0;
    loop {
        let before = transfer.done;
        match transfer.run(client, sink)? {
            Outcome::Whole => break,
            Outcome::Broken(err) => {
                // As long as it comes in pieces of some size, it goes on.
                attempt = if transfer.done - before >= PIECE_MIN {
                    1
                } else {
                    attempt + 1
                };
                if attempt > client.access().retries {
                    return Err(err)
                        .with_context(|| format!("cannot download blob {}", descriptor.digest));
                }
                std::thread::sleep(client.access().wait(attempt));
            }
        }
    }
    Ok(())
}

struct Transfer<'a> {
    descriptor: &'a Descriptor,
    done: u64,
    buffer: Vec<u8>,
}

enum Outcome {
    Whole,
    /// The connection broke; it may be tried again from where it was.
    Broken(anyhow::Error),
}

impl Transfer<'_> {
    /// One request. An error is final.
    fn run(&mut self, client: &Client, sink: &mut Sink<'_>) -> Result<Outcome> {
        let size = self.descriptor.size;
        if self.done == size && size > 0 {
            return Ok(Outcome::Whole);
        }
        let digest = &self.descriptor.digest;
        let (mut body, mut skip) = match client.blob(digest, self.done) {
            // A server that knows parts of other blobs only, or of none.
            Err(_) if self.done > 0 => (client.blob(digest, 0)?.0, self.done),
            answer => answer?,
        };
        let (mut looked, mut had) = (Instant::now(), 0);
        loop {
            if looked.elapsed() > client.access().patience {
                if had < SLOWEST {
                    return Ok(Outcome::Broken(anyhow!("it comes too slowly")));
                }
                (looked, had) = (Instant::now(), 0);
            }
            let count = match body.read(&mut self.buffer) {
                Ok(0) if self.done < size => {
                    let text = format!("it ends after {} of {size} bytes", self.done);
                    return Ok(Outcome::Broken(anyhow!(text)));
                }
                Ok(0) => return Ok(Outcome::Whole),
                Ok(count) => {
                    had += count as u64;
                    count
                }
                Err(err) => return Ok(Outcome::Broken(err.into())),
            };
            // A server without ranges starts anew: what is done already is passed over.
            let passed = usize::try_from(skip).unwrap_or(usize::MAX).min(count);
            skip -= passed as u64;
            let bytes = &self.buffer[passed..count];
            self.done += bytes.len() as u64;
            if self.done > size {
                bail!(
                    "wrong size: the registry sends more than the {size} bytes of blob {}",
                    self.descriptor.digest
                );
            }
            sink(bytes)?;
        }
    }
}
