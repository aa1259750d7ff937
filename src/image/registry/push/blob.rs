//! One blob into a registry: found there, mounted from another repository, or uploaded; an upload whose
//! connection breaks goes on from what the registry has of it.

use std::io::Read;

use anyhow::Context;
use anyhow::Result;

use crate::image::progress::Progress;
use crate::image::registry::client::Client;
use crate::image::registry::client::upload::Payload;
use crate::image::registry::client::upload::Sent;
use crate::image::registry::client::upload::Started;
use crate::image::registry::client::upload::Upload;
use crate::oci::digest::Digest;

/// What is sent at once to a registry that does not take a whole blob; where that is too much, a quarter of it.
const PART: u64 = 8 << 20;
/// Less than this is no body that a server refuses for its size.
const PART_MIN: u64 = 64 << 10;
/// Repositories that are asked for a blob before it is sent.
const MOUNTS_MAX: usize = 3;

/// A blob to be sent.
pub struct Parcel<'a> {
    pub digest: &'a Digest,
    pub size: u64,
    /// By what progress knows it.
    pub layer: &'a Digest,
    /// Its bytes from an offset on.
    pub open: &'a Open<'a>,
}

pub type Open<'a> = dyn Fn(u64) -> Result<Box<dyn Read>> + 'a;

/// Sees to it that the registry has a blob. `from` are repositories that may have it.
pub fn send(
    client: &Client,
    parcel: &Parcel<'_>,
    from: &[String],
    progress: &dyn Progress,
) -> Result<()> {
    let cannot = || format!("cannot upload blob {}", parcel.digest);
    if client.has_blob(parcel.digest).with_context(cannot)? {
        progress.present(parcel.layer);
        return Ok(());
    }
    let Some(upload) = start(client, parcel.digest, from).with_context(cannot)? else {
        progress.present(parcel.layer);
        return Ok(());
    };
    progress.started(parcel.layer, Some(parcel.size));
    let mut transfer = Transfer {
        client,
        parcel,
        progress,
        offset: 0,
        shown: 0,
        part: None,
    };
    transfer.run(upload).with_context(cannot)?;
    progress.finished(parcel.layer);
    Ok(())
}

/// `None` where the blob was mounted.
fn start(client: &Client, digest: &Digest, from: &[String]) -> Result<Option<Upload>> {
    let mut opened: Option<Upload> = None;
    for repository in from.iter().take(MOUNTS_MAX) {
        if let Some(upload) = &opened {
            client.cancel_upload(upload);
        }
        match client.start_upload(Some((digest, repository)))? {
            Started::Mounted => return Ok(None),
            Started::Open(upload) => opened = Some(upload),
        }
    }
    if opened.is_none()
        && let Started::Open(upload) = client.start_upload(None)?
    {
        opened = Some(upload);
    }
    Ok(opened)
}

struct Transfer<'a> {
    client: &'a Client,
    parcel: &'a Parcel<'a>,
    progress: &'a dyn Progress,
    /// What the registry has.
    offset: u64,
    /// What progress has been told.
    shown: u64,
    /// The largest part that is sent at once, where not all may be.
    part: Option<u64>,
}

impl Transfer<'_> {
    fn run(&mut self, mut upload: Upload) -> Result<()> {
        let mut failures = 0;
        let mut furthest = 0;
        loop {
            match self.step(&upload)? {
                Sent::Whole => return Ok(()),
                Sent::Part {
                    upload: next,
                    offset,
                } => {
                    self.offset = offset;
                    upload = next;
                    if offset <= furthest {
                        failures += 1;
                        if failures > self.client.access().retries {
                            anyhow::bail!("the registry takes no more than {furthest} bytes of it");
                        }
                    }
                }
                Sent::TooLarge => {
                    self.smaller(upload.part_min)?;
                    self.client.cancel_upload(&upload);
                    upload = self.restart()?;
                }
                Sent::Broken(err) => {
                    failures += 1;
                    if failures > self.client.access().retries {
                        return Err(err);
                    }
                    std::thread::sleep(self.client.access().wait(failures));
                    // It may have broken after the last byte.
                    if self.client.has_blob(self.parcel.digest)? {
                        return Ok(());
                    }
                    upload = self.find(upload)?;
                    // A server may hang up on a body that is too large, without a word.
                    if self.offset == 0 && self.part.is_none() && failures > 1 {
                        self.part = Some(PART.max(upload.part_min));
                    }
                }
            }
            // As long as something gets there that was not there before, it goes on.
            if self.offset > furthest {
                furthest = self.offset;
                failures = 0;
            }
        }
    }

    /// A registry says that the last part was too large.
    fn smaller(&mut self, part_min: u64) -> Result<()> {
        let least = PART_MIN.max(part_min);
        let part = match self.part {
            None => PART.max(part_min),
            Some(part) if part > least => (part / 4).max(least),
            Some(part) => anyhow::bail!("the registry takes no part of {part} bytes"),
        };
        self.part = Some(part);
        Ok(())
    }

    /// Where the upload stands, in the registry's words; one that it has forgotten is begun anew.
    fn find(&mut self, upload: Upload) -> Result<Upload> {
        match self.client.upload_status(&upload)? {
            Some((upload, offset)) if offset <= self.parcel.size => {
                self.offset = offset;
                Ok(upload)
            }
            _ => {
                self.client.cancel_upload(&upload);
                self.restart()
            }
        }
    }

    fn restart(&mut self) -> Result<Upload> {
        self.offset = 0;
        match self.client.start_upload(None)? {
            Started::Open(upload) => Ok(upload),
            Started::Mounted => anyhow::bail!("the registry opens no upload"),
        }
    }

    fn step(&mut self, upload: &Upload) -> Result<Sent> {
        let (digest, size) = (self.parcel.digest, self.parcel.size);
        let left = size - self.offset;
        if left == 0 && size > 0 {
            return self.client.end_upload(upload, digest);
        }
        let length = self.part.map_or(left, |part| part.min(left));
        let mut reader = Shown {
            inner: (self.parcel.open)(self.offset)?,
            at: self.offset,
            shown: self.shown,
            layer: self.parcel.layer,
            progress: self.progress,
        };
        let payload = Payload {
            reader: &mut reader,
            length,
        };
        let sent = if self.offset == 0 && length == size {
            self.client.send_whole(upload, digest, payload)
        } else {
            self.client.send_part(upload, digest, self.offset, payload)
        };
        self.shown = reader.shown;
        sent
    }
}

/// Tells progress what is read for the first time.
struct Shown<'a> {
    inner: Box<dyn Read>,
    at: u64,
    shown: u64,
    layer: &'a Digest,
    progress: &'a dyn Progress,
}

impl Read for Shown<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.at += count as u64;
        if self.at > self.shown {
            self.progress.advanced(self.layer, self.at - self.shown);
            self.shown = self.at;
        }
        Ok(count)
    }
}
