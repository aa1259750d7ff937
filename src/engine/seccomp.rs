//! Programs compiled from the profiles of users, kept in the store by what they were made of: `cache/seccomp/<hex>`.
//!
//! The name is the digest of the profile, of this build of rbox and of the architecture. What is in a file is used
//! only if the file is the user's alone and its program is whole and sound (`Filter::decode`); anything else is compiled
//! anew and written over it. The cache is never needed: where it cannot be read or written, compiling does.
//!
//! Docker's profile takes some 120 µs to compile and 35 µs to find here, one of 300 conditions 320 and 140. rbox's own is
//! not here: its program is made from tables in 40 µs.

use std::fs::DirBuilder;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::path::PathBuf;
use std::time::SystemTime;

use anyhow::Context;
use oci_spec::runtime::LinuxSeccomp;
use oci_spec::runtime::LinuxSeccompAction;
use rustix::fs::Mode;
use rustix::fs::OFlags;

use crate::error::Kind;
use crate::error::fail;
use crate::oci::digest::Digest;
use crate::runtime::Filter;
use crate::store::atomic;
use crate::store::atomic::Durability;
use crate::store::dirs::Dirs;

/// More than people have profiles; the oldest go first.
const MOST: usize = 64;

/// A file is at most this long.
const LARGEST: u64 = 64 * 1024;

/// The filter of a profile.
pub fn filter(dirs: &Dirs, profile: &LinuxSeccomp) -> anyhow::Result<Filter> {
    let directory = dirs.data.join("cache/seccomp");
    let path = directory.join(key(profile)?.hex());
    if let Some(filter) = read(&path) {
        return Ok(filter);
    }
    let filter = compiled(profile)?;
    // A full disk, say: the next start compiles again.
    write(&directory, &path, &filter).ok();
    Ok(filter)
}

/// The filter of a profile, made now.
pub fn compiled(profile: &LinuxSeccomp) -> anyhow::Result<Filter> {
    let mut calls = profile.syscalls().iter().flatten();
    if calls.any(|call| call.action() == LinuxSeccompAction::ScmpActNotify) {
        return Err(fail(
            Kind::Unsupported,
            "SCMP_ACT_NOTIFY leaves calls to an agent at listenerPath, and rbox speaks to none",
        ))
        .context("cannot use the seccomp profile");
    }
    Filter::of_profile(profile).context("cannot compile the seccomp profile")
}

fn key(profile: &LinuxSeccomp) -> anyhow::Result<Digest> {
    let maker = format!("{} {} ", env!("CARGO_PKG_VERSION"), std::env::consts::ARCH);
    let mut bytes = maker.into_bytes();
    // Two builds of one version may compile differently.
    let program = std::fs::metadata("/proc/self/exe").context("cannot look at /proc/self/exe")?;
    for number in [
        program.size().cast_signed(),
        program.mtime(),
        program.mtime_nsec(),
    ] {
        bytes.extend(number.to_le_bytes());
    }
    serde_json::to_writer(&mut bytes, profile)?;
    Ok(Digest::sha256_of(&bytes))
}

/// What is kept, if it can be trusted.
fn read(path: &Path) -> Option<Filter> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::open(path, flags, Mode::empty()).ok()?);
    let meta = file.metadata().ok()?;
    let ours = meta.uid() == rustix::process::geteuid().as_raw() && meta.mode() & 0o777 == 0o600;
    if !meta.is_file() || !ours {
        return None;
    }
    let mut bytes = Vec::new();
    file.take(LARGEST).read_to_end(&mut bytes).ok()?;
    let (digest, program) = bytes.split_at_checked(64)?;
    let intact = digest == Digest::sha256_of(program).hex().as_bytes();
    intact.then(|| Filter::decode(program))?
}

fn write(directory: &Path, path: &Path, filter: &Filter) -> anyhow::Result<()> {
    let program = filter.encode();
    let mut bytes = Digest::sha256_of(&program).hex().as_bytes().to_vec();
    bytes.extend(program);
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)?;
    make_room(directory)?;
    atomic::write(path, &bytes, Durability::Volatile)
}

fn make_room(directory: &Path) -> anyhow::Result<()> {
    let mut files: Vec<(SystemTime, PathBuf)> = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        files.push((entry.metadata()?.modified()?, entry.path()));
    }
    files.sort();
    let surplus = (files.len() + 1).saturating_sub(MOST);
    for (_, path) in &files[..surplus] {
        std::fs::remove_file(path)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn profile(call: &str) -> LinuxSeccomp {
        let text = r#"{"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [
            {"names": ["CALL"], "action": "SCMP_ACT_ALLOW"}]}"#;
        serde_json::from_str(&text.replace("CALL", call)).unwrap()
    }

    /// The store, and the one file in its cache.
    fn filled(base: &Path) -> (Dirs, PathBuf) {
        let dirs = Dirs::at(base).unwrap();
        filter(&dirs, &profile("read")).unwrap();
        let mut kept = std::fs::read_dir(dirs.data.join("cache/seccomp")).unwrap();
        let path = kept.next().unwrap().unwrap().path();
        assert!(kept.next().is_none());
        (dirs, path)
    }

    fn with_store(test: impl FnOnce(Dirs, PathBuf)) {
        let name = std::thread::current().name().unwrap().replace("::", "-");
        let base = std::env::temp_dir().join(format!("rbox-{name}-{}", std::process::id()));
        let (dirs, path) = filled(&base);
        test(dirs, path);
        std::fs::remove_dir_all(base).unwrap();
    }

    /// A sound program of another profile, in the place of this one's: it shows where the program came from.
    fn mark(path: &Path) -> Vec<u8> {
        let other = Filter::of_profile(&profile("write")).unwrap();
        write(path.parent().unwrap(), path, &other).unwrap();
        other.encode()
    }

    #[test]
    fn a_program_is_compiled_once() {
        with_store(|dirs, path| {
            let compiled = Filter::of_profile(&profile("read")).unwrap().encode();
            assert_eq!(read(&path).unwrap().encode(), compiled);
            let marked = mark(&path);
            let got = filter(&dirs, &profile("read")).unwrap().encode();
            assert_eq!(got, marked);
        });
    }

    #[test]
    fn what_is_damaged_is_compiled_anew() {
        with_store(|dirs, path| {
            let compiled = Filter::of_profile(&profile("read")).unwrap().encode();
            let whole = std::fs::read(&path).unwrap();
            for length in [0, 1, 64, 70, whole.len() - 1] {
                std::fs::write(&path, &whole[..length]).unwrap();
                assert!(read(&path).is_none());
            }
            let mut bent = whole.clone();
            *bent.last_mut().unwrap() ^= 1;
            std::fs::write(&path, &bent).unwrap();
            let got = filter(&dirs, &profile("read")).unwrap().encode();
            assert_eq!(got, compiled);
            assert_eq!(std::fs::read(&path).unwrap(), whole);
        });
    }

    #[test]
    fn what_others_could_write_is_compiled_anew() {
        use std::os::unix::fs::PermissionsExt;
        with_store(|dirs, path| {
            mark(&path);
            let compiled = Filter::of_profile(&profile("read")).unwrap().encode();
            std::fs::set_permissions(&path, PermissionsExt::from_mode(0o660)).unwrap();
            let got = filter(&dirs, &profile("read")).unwrap().encode();
            assert_eq!(got, compiled);
            let aside = path.with_extension("aside");
            mark(&aside);
            std::fs::remove_file(&path).unwrap();
            std::os::unix::fs::symlink(&aside, &path).unwrap();
            assert!(read(&path).is_none());
        });
    }

    #[test]
    fn the_oldest_make_room() {
        with_store(|dirs, path| {
            let directory = path.parent().unwrap();
            let mut names = Vec::new();
            for number in 0..MOST + 5 {
                let path = directory.join(format!("{number:04}"));
                mark(&path);
                let time = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(number as u64);
                File::open(&path).unwrap().set_modified(time).unwrap();
                names.push(path);
            }
            filter(&dirs, &profile("close")).unwrap();
            assert_eq!(std::fs::read_dir(directory).unwrap().count(), MOST);
            assert!(!names[0].exists());
            assert!(names[MOST + 4].exists());
        });
    }
}
