//! What an entry of a tar says about its file. Hostile data: nothing of it is trusted here, and what may
//! be done with it is for others to say.

use std::io::Read;

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use rustix::fs::Timespec;

/// What an entry says about its file.
pub struct Meta {
    pub uid: u32,
    pub gid: u32,
    pub mode: u32,
    pub modified: Timespec,
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    pub pax_sparse: bool,
}

impl Meta {
    pub fn read<R: Read>(entry: &mut tar::Entry<'_, R>) -> Result<Self> {
        let header = entry.header();
        let id = |value: std::io::Result<u64>| u32::try_from(number(value)?).context("no such id");
        let mut meta = Self {
            uid: id(header.uid()).context("cannot read its uid")?,
            gid: id(header.gid()).context("cannot read its gid")?,
            mode: u32::try_from(number(header.mode().map(u64::from))? & 0o7777)?,
            modified: Timespec {
                tv_sec: i64::try_from(number(header.mtime())?).unwrap_or(0),
                tv_nsec: 0,
            },
            xattrs: Vec::new(),
            pax_sparse: false,
        };
        let Some(extensions) = entry
            .pax_extensions()
            .context("cannot read its PAX header")?
        else {
            return Ok(meta);
        };
        for extension in extensions {
            let extension = extension.context("cannot read its PAX header")?;
            let (key, value) = (extension.key_bytes(), extension.value_bytes());
            if key == b"mtime" {
                meta.modified = pax_time(value).context("cannot read its PAX time")?;
            } else if key.starts_with(b"GNU.sparse.") {
                meta.pax_sparse = true;
            } else if let Some(name) = key.strip_prefix(b"SCHILY.xattr.")
                && may_set(name)
            {
                meta.xattrs.push((name.to_vec(), value.to_vec()));
            }
        }
        Ok(meta)
    }
}

/// Attributes that an image may give its files. Not those that overlayfs and rbox itself
/// act upon, nor those of the host's security modules.
pub fn may_set(xattr: &[u8]) -> bool {
    xattr == b"security.capability"
        || (xattr.starts_with(b"user.")
            && !xattr.starts_with(b"user.overlay.")
            && !xattr.starts_with(b"user.containers.")
            && !xattr.starts_with(b"user.fuseoverlayfs.")
            && !xattr.contains(&0))
}

/// A number of a tar header; a blank field counts as 0, as in other readers of tar.
fn number(value: std::io::Result<u64>) -> Result<u64> {
    match value {
        Ok(number) => Ok(number),
        Err(err)
            if err
                .to_string()
                .contains("numeric field was not a number:  when") =>
        {
            Ok(0)
        }
        Err(err) => Err(err.into()),
    }
}

/// `1700000000.123456789`, also negative.
fn pax_time(value: &[u8]) -> Result<Timespec> {
    let text = std::str::from_utf8(value)?;
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits: String = fraction
        .chars()
        .chain("000000000".chars())
        .take(9)
        .collect();
    let nanoseconds: i64 = digits.parse()?;
    let mut time = Timespec {
        tv_sec: seconds.parse()?,
        tv_nsec: nanoseconds,
    };
    if text.starts_with('-') && nanoseconds > 0 {
        time.tv_sec = time.tv_sec.checked_sub(1).context("it is out of range")?;
        time.tv_nsec = 1_000_000_000 - nanoseconds;
    }
    Ok(time)
}

/// Before POSIX tar, a directory was a file whose name ends in a slash.
pub fn is_old_directory(header: &tar::Header, raw: &[u8]) -> bool {
    header.as_bytes()[156] == 0 && raw.ends_with(b"/")
}

pub fn link_target<R: Read>(entry: &tar::Entry<'_, R>) -> Result<Vec<u8>> {
    match entry.link_name_bytes() {
        Some(target) if target.contains(&0) => bail!("its target holds a NUL byte"),
        Some(target) if !target.is_empty() => Ok(target.into_owned()),
        _ => bail!("it is a link without a target"),
    }
}
