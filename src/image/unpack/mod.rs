//! The process role `unpack`: a helper (see `store::helper`) that does one thing in one directory,
//! with nothing else in sight, and ends.
//!
//! | verb | working directory | does |
//! |---|---|---|
//! | `extract IDS ALGORITHM` | the unfinished layer | stdin, a layer as it comes, into `diff/` |
//! | `contents IDS ALGORITHM` | the same | the contents of its large files alone |
//! | `refer IDS DIFF-ID` | the same | all but these, to which it refers |
//! | `try IDS` | an empty directory | tells whether the kernel takes such files |
//! | `own IDS UID GID NAMES…` | the parent of what is made | makes directories of this owner |
//! | `measure IDS NAMES…` | the parent of what is measured | counts the bytes of files |
//! | `blocks IDS NAMES…` | the same | counts what they take on disk |
//! | `compare IDS OLD NEW` | the parent of both | tells how two directories differ |
//! | `merge IDS NAME LAYERS…` | the layers | copies these into one, NAME |
//! | `shift IDS NAME` | the layer | copies `diff/` for the ids that stdin names |
//! | `remove IDS NAME` | the parent of what goes | removes NAME and all in it |
//!
//! Layers are hostile: what reads them here is confined (`confine`), works by descriptors only
//! (`tree`), trusts no name (`name`), and is checked by its parent, which knows the diff-id.

use std::ffi::OsString;
use std::io::Read;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use rustix::fs::Gid;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::fs::Uid;
use rustix::io::Errno;
use serde::Deserialize;
use serde::Serialize;

use crate::image::unpack::extract::Limits;
use crate::image::unpack::extract::Owners;
use crate::image::unpack::stream::Tar;
use crate::oci::digest::Algorithm;
use crate::oci::digest::Digest;
use crate::store::compare;
use crate::store::helper;
use crate::store::measure;
use crate::store::measure::Count;
use crate::store::remove;
use crate::store::temp;

mod confine;
mod contents;
pub mod extract;
mod filter;
mod merge;
mod shift;
pub mod stream;
#[cfg(test)]
mod tests;
mod times;
mod tree;

/// The directory that becomes the layer's root, in the directory of the unfinished layer.
pub const DIFF: &str = "diff";
const LIMITS: Limits = Limits {
    entries: 20_000_000,
    bytes: 1 << 40,
};

/// The answer of `extract`.
#[derive(Debug, Serialize, Deserialize)]
pub struct Report {
    /// Of the uncompressed tar.
    pub diff_id: Digest,
    /// Of the uncompressed tar.
    pub tar_size: u64,
    /// Of all files.
    pub size: u64,
    pub entries: u64,
    pub opaque_root: bool,
    pub devices_skipped: u64,
    /// Files whose contents are elsewhere.
    pub referring: u64,
}

/// The process role. Arguments are ours, not a user's.
pub fn main(args: &[OsString]) -> ExitCode {
    std::panic::set_hook(Box::new(|info| {
        let err = anyhow::anyhow!("a helper process panicked: {info}");
        helper::say(&helper::refusal(&err)).ok();
    }));
    let line = work(args).unwrap_or_else(|err| {
        let err = crate::store::atomic::with_space_hint(err);
        helper::refusal(&err)
    });
    match helper::say(&line) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn work(args: &[OsString]) -> Result<String> {
    let args: Vec<&str> = args.iter().filter_map(|arg| arg.to_str()).collect();
    match args.as_slice() {
        ["remove", ids, name] => {
            helper::enter(ids)?;
            remove::remove_here(name)?;
            Ok("{}".to_owned())
        }
        ["measure", ids, names @ ..] => {
            helper::enter(ids)?;
            measure::measure_here(names, Count::Bytes)
        }
        ["blocks", ids, names @ ..] => {
            helper::enter(ids)?;
            measure::measure_here(names, Count::Blocks)
        }
        ["compare", ids, old, new] => {
            helper::enter(ids)?;
            compare::compare_here(old, new)
        }
        ["merge", ids, name, layers @ ..] => {
            helper::enter(ids)?;
            merge::run(name, layers)?;
            Ok("{}".to_owned())
        }
        ["shift", ids, name] => {
            helper::enter(ids)?;
            shift::run(name)?;
            Ok("{}".to_owned())
        }
        ["own", ids, uid, gid, names @ ..] => {
            helper::enter(ids)?;
            own(uid.parse()?, gid.parse()?, names)?;
            Ok("{}".to_owned())
        }
        [verb @ ("extract" | "contents" | "refer"), ids, what] => {
            let form = match *verb {
                "contents" => Form::Contents,
                "refer" => Form::Tree(Some(what.parse()?)),
                _ => Form::Tree(None),
            };
            let algorithm = match what.split(':').next() {
                Some("sha512") => Algorithm::Sha512,
                _ => Algorithm::Sha256,
            };
            helper::enter(ids)?;
            let owners = match *ids {
                "single" => Owners::Record,
                _ => Owners::Set,
            };
            let report = extract_stdin(algorithm, owners, &form)?;
            Ok(serde_json::to_string(&report)?)
        }
        ["try", ids] => {
            helper::enter(ids)?;
            contents::try_here()?;
            Ok("{}".to_owned())
        }
        _ => bail!("a helper process was started with unknown arguments"),
    }
}

/// Makes the directories that do not exist.
fn own(uid: u32, gid: u32, names: &[&str]) -> Result<()> {
    let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
    for name in names {
        let cannot = || format!("cannot make {name}");
        match rustix::fs::mkdir(*name, Mode::RWXU) {
            Err(Errno::EXIST) => continue,
            made => made.with_context(cannot)?,
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let dir = rustix::fs::open(*name, flags, Mode::empty()).with_context(cannot)?;
        rustix::fs::fchmod(&dir, Mode::from_raw_mode(0o755)).with_context(cannot)?;
        rustix::fs::fchown(&dir, Some(uid), Some(gid)).with_context(cannot)?;
    }
    Ok(())
}

/// What is made of a layer.
enum Form {
    /// Its files; the contents of large ones are elsewhere where the layer is named.
    Tree(Option<Digest>),
    /// These contents.
    Contents,
}

fn extract_stdin(algorithm: Algorithm, owners: Owners, form: &Form) -> Result<Report> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let open = |name: &str| rustix::fs::open(name, flags, Mode::empty());
    rustix::fs::mkdir(DIFF, Mode::from_raw_mode(0o755)).context("cannot create its directory")?;
    let diff = open(DIFF).context("cannot open its directory")?;
    let notes = temp::nameless_file(Path::new("."))?;
    confine::confine(&diff)?;
    let mut tar = Tar::start(Stdin, algorithm, LIMITS.bytes)?;
    confine::forbid_processes()?;
    let done = match form {
        Form::Tree(elsewhere) => {
            let elsewhere = elsewhere.as_ref().map(contents::place);
            extract::extract(&mut tar, diff, notes, owners, elsewhere, LIMITS)?
        }
        Form::Contents => contents::extract(&mut tar, diff, LIMITS)?,
    };
    let (diff_id, tar_size) = tar.finish().context("cannot read the tar")?;
    Ok(Report {
        diff_id,
        tar_size,
        size: done.size,
        entries: done.entries,
        opaque_root: done.opaque_root,
        devices_skipped: done.devices_skipped,
        referring: done.referring,
    })
}

/// Standard input without a buffer of its own.
struct Stdin;

impl Read for Stdin {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        Ok(rustix::io::read(rustix::stdio::stdin(), buffer)?)
    }
}
