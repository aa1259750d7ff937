//! The packed form of a layer, written while the layer comes: compressed bytes as they are, into `blobs/`,
//! and a tar that is not compressed as zstd of it.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;

use crate::image::layers;
use crate::image::layers::NewPacked;
use crate::image::unpack::stream;
use crate::image::unpack::stream::Compression;
use crate::oci::digest::Algorithm;
use crate::oci::digest::Digest;
use crate::oci::digest::Hasher;
use crate::store::atomic;
use crate::store::atomic::with_space_hint;
use crate::store::dirs::Dirs;
use crate::store::partial::Partial;
use crate::store::temp::TempDir;

/// The fastest, which still halves a usual layer: nobody has asked for compression here.
const ZSTD_LEVEL: i32 = 1;
/// More than this is no layer.
const TAR_SIZE_MAX: u64 = 1 << 40;

/// Takes the bytes of a layer as they come.
pub struct Keeper<'a> {
    dirs: &'a Dirs,
    form: Form,
    /// Where a tar is written, and whether that is a directory of its own.
    place: PathBuf,
    own: Option<TempDir>,
    algorithm: Algorithm,
    /// A tar as it comes, which its zstd cannot be gone on with.
    beside: Option<Partial>,
}

enum Form {
    /// The first bytes, too few to tell.
    Unknown(Vec<u8>),
    Blob {
        partial: Partial,
        hasher: Hasher,
        promised: Option<Digest>,
    },
    Tar {
        encoder: Box<zstd::stream::write::Encoder<'static, File>>,
        /// Where nobody unpacks it, who would verify it.
        hasher: Option<Hasher>,
    },
}

impl<'a> Keeper<'a> {
    /// Of a blob with this digest, which is gone on with where it was interrupted.
    pub fn of_blob(dirs: &'a Dirs, digest: &Digest) -> Result<Self> {
        let form = Form::Blob {
            partial: Partial::open(dirs, digest)?,
            hasher: Hasher::new(digest.algorithm()),
            promised: Some(digest.clone()),
        };
        Ok(Self {
            dirs,
            form,
            place: PathBuf::new(),
            own: None,
            algorithm: digest.algorithm(),
            beside: None,
        })
    }

    /// Of whatever comes. `place` is the directory of the unfinished layer, where there is one.
    pub fn of_anything(dirs: &'a Dirs, diff_id: &Digest, place: Option<PathBuf>) -> Result<Self> {
        let (place, own) = if let Some(place) = place {
            (place, None)
        } else {
            let own = TempDir::create_in(&dirs.layers())?;
            (own.path().to_owned(), Some(own))
        };
        Ok(Self {
            dirs,
            form: Form::Unknown(Vec::new()),
            place,
            own,
            algorithm: diff_id.algorithm(),
            beside: None,
        })
    }

    /// A tar with this digest can be gone on with too: until it is whole it is kept as it comes, besides.
    pub fn resumable(mut self, digest: &Digest) -> Result<Self> {
        self.beside = Some(Partial::open(self.dirs, digest)?);
        Ok(self)
    }

    /// What an interrupted command left, for the unpacker; returns how much that is. More than `size` is of no
    /// use.
    pub fn resume(
        &mut self,
        size: Option<u64>,
        sink: &mut dyn FnMut(&[u8]) -> Result<()>,
    ) -> Result<u64> {
        if let Some(mut beside) = self.beside.take() {
            shorten(&mut beside, size)?;
            let replayed = beside.replay(&mut |bytes| {
                self.feed(bytes)?;
                sink(bytes)
            });
            let length = beside.length();
            self.beside = Some(beside);
            return replayed.map(|()| length);
        }
        let Form::Blob {
            partial, hasher, ..
        } = &mut self.form
        else {
            return Ok(0);
        };
        shorten(partial, size)?;
        partial.replay(&mut |bytes| {
            hasher.update(bytes);
            sink(bytes)
        })?;
        Ok(partial.length())
    }

    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        if let Some(beside) = &mut self.beside {
            beside.append(bytes)?;
        }
        self.feed(bytes)
    }

    fn feed(&mut self, bytes: &[u8]) -> Result<()> {
        match &mut self.form {
            Form::Blob {
                partial, hasher, ..
            } => {
                hasher.update(bytes);
                partial.append(bytes)
            }
            Form::Tar { encoder, hasher } => {
                if let Some(hasher) = hasher {
                    hasher.update(bytes);
                }
                write_all(encoder, bytes)
            }
            Form::Unknown(head) => {
                head.extend_from_slice(bytes);
                if head.len() < stream::MAGIC_LEN {
                    return Ok(());
                }
                let head = std::mem::take(head);
                self.decide(&head)
            }
        }
    }

    /// The first bytes, or all.
    fn decide(&mut self, head: &[u8]) -> Result<()> {
        self.form = if Compression::of(head) == Compression::None {
            let path = self.place.join(layers::ZSTD);
            let mut options = File::options();
            options.write(true).create_new(true).mode(0o600);
            let file = options
                .custom_flags(libc::O_NOFOLLOW)
                .open(&path)
                .map_err(|err| with_space_hint(err.into()))
                .with_context(|| format!("cannot create {}", path.display()))?;
            rustix::fs::fchmod(&file, atomic::OPEN).context("cannot set its mode")?;
            let encoder =
                zstd::stream::write::Encoder::new(file, ZSTD_LEVEL).context("cannot start zstd")?;
            Form::Tar {
                encoder: Box::new(encoder),
                hasher: self.own.is_some().then(|| Hasher::new(self.algorithm)),
            }
        } else {
            Form::Blob {
                partial: Partial::unnamed(self.dirs)?,
                hasher: Hasher::new(Algorithm::Sha256),
                promised: None,
            }
        };
        self.feed(head)
    }

    /// What was written is wrong: nobody is to go on with it.
    pub fn give_up(&mut self) {
        if let Form::Blob { partial, .. } = &mut self.form {
            partial.give_up();
        }
        if let Some(beside) = &mut self.beside {
            beside.give_up();
        }
    }

    /// All has come: compared with what was promised. `diff_id` is given where nobody else looks at the tar.
    pub fn finish(mut self, diff_id: Option<&Digest>) -> Result<NewPacked> {
        if let Some(beside) = &mut self.beside {
            beside.give_up();
        }
        if let Form::Unknown(head) = &mut self.form {
            let head = std::mem::take(head);
            self.decide(&head)?;
        }
        match self.form {
            Form::Unknown(_) => bail!("a layer without bytes has no form"),
            Form::Tar { encoder, hasher } => {
                let written = encoder.finish().map(drop);
                written.map_err(|err| with_space_hint(err.into()))?;
                match (hasher.map(Hasher::finish), diff_id) {
                    (Some(found), Some(diff_id)) if found != *diff_id => {
                        Err(wrong_tar(&found, diff_id))
                    }
                    _ => Ok(NewPacked::Zstd(self.own)),
                }
            }
            Form::Blob {
                mut partial,
                hasher,
                promised,
            } => {
                let found = hasher.finish();
                if let Some(promised) = promised
                    && found != promised
                {
                    partial.give_up();
                    bail!("wrong digest: the bytes of blob {promised} have the digest {found}");
                }
                if let Some(diff_id) = diff_id
                    && let Err(err) = check_tar(&partial, diff_id)
                {
                    partial.give_up();
                    return Err(err);
                }
                Ok(NewPacked::Blob(partial, found))
            }
        }
    }
}

/// More bytes than the whole has are of no use.
fn shorten(partial: &mut Partial, size: Option<u64>) -> Result<()> {
    if size.is_none_or(|size| partial.length() > size) {
        partial.clear()?;
    }
    Ok(())
}

fn write_all(out: &mut impl Write, bytes: &[u8]) -> Result<()> {
    out.write_all(bytes)
        .map_err(|err| with_space_hint(err.into()))
        .context("cannot write the packed layer")
}

/// What is kept without being unpacked must be the same layer nevertheless.
fn check_tar(partial: &Partial, diff_id: &Digest) -> Result<()> {
    let tar = stream::Tar::start(partial.reader()?, diff_id.algorithm(), TAR_SIZE_MAX)?;
    let (found, _) = tar.finish().context("cannot read the layer")?;
    if found == *diff_id {
        Ok(())
    } else {
        Err(wrong_tar(&found, diff_id))
    }
}

fn wrong_tar(found: &Digest, wanted: &Digest) -> anyhow::Error {
    anyhow::anyhow!("its files have the digest {found}, and the image wants {wanted}")
}
