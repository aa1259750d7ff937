//! What is written into: a tar, or a directory. Half of one is never seen: files are made without a name and
//! directories under another, until they are whole.

use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::io::BufWriter;
use std::io::Read;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::path::PathBuf;

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use rustix::fs::AtFlags;
use rustix::fs::CWD;
use rustix::fs::Mode;
use serde_json::Value;

use crate::error::WithHint;
use crate::image::manifest::MANIFEST_MAX;
use crate::store::atomic;
use crate::store::atomic::with_space_hint;
use crate::store::temp;
use crate::store::temp::TempDir;

const BUFFER: usize = 256 << 10;

pub trait Out {
    /// Whether a file of this name was written already.
    fn has(&self, name: &str) -> bool;
    /// Writes a file of so many bytes.
    fn put(&mut self, name: &str, size: u64, input: &mut dyn Read) -> Result<()>;
    /// `manifests` of an `index.json` that is there before.
    fn index(&self) -> Result<Option<Value>>;

    fn small(&mut self, name: &str, bytes: &[u8]) -> Result<()> {
        self.put(name, bytes.len() as u64, &mut &*bytes)
    }
}

/// A tar in which nothing depends on who writes it, or when.
pub struct TarFile<'a> {
    tar: tar::Builder<BufWriter<&'a File>>,
    names: HashSet<String>,
}

impl<'a> TarFile<'a> {
    pub fn new(file: &'a File) -> Self {
        Self {
            tar: tar::Builder::new(BufWriter::with_capacity(BUFFER, file)),
            names: HashSet::new(),
        }
    }

    pub fn finish(self) -> Result<()> {
        let mut file = self.tar.into_inner().map_err(explained)?;
        file.flush().map_err(explained)
    }
}

fn header(kind: tar::EntryType, mode: u32, size: u64) -> tar::Header {
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(size);
    header
}

impl Out for TarFile<'_> {
    fn has(&self, name: &str) -> bool {
        self.names.contains(name)
    }

    fn put(&mut self, name: &str, size: u64, input: &mut dyn Read) -> Result<()> {
        // Skopeo without privileges cannot unpack a file whose directories are not listed.
        for (slash, _) in name.match_indices('/') {
            let dir = &name[..=slash];
            if self.names.insert(dir.to_owned()) {
                let mut header = header(tar::EntryType::Directory, 0o755, 0);
                let appended = self.tar.append_data(&mut header, dir, io::empty());
                appended.map_err(explained)?;
            }
        }
        let mut header = header(tar::EntryType::Regular, 0o644, size);
        let appended = self.tar.append_data(&mut header, name, input);
        appended.map_err(explained)?;
        self.names.insert(name.to_owned());
        Ok(())
    }

    fn index(&self) -> Result<Option<Value>> {
        Ok(None)
    }
}

/// Files below a directory of the user's, each there as a whole or not at all.
pub struct Folder<'a> {
    path: &'a Path,
    names: HashSet<String>,
}

impl<'a> Folder<'a> {
    pub fn new(path: &'a Path) -> Self {
        Self {
            path,
            names: HashSet::new(),
        }
    }
}

impl Out for Folder<'_> {
    fn has(&self, name: &str) -> bool {
        self.names.contains(name)
    }

    fn put(&mut self, name: &str, _: u64, input: &mut dyn Read) -> Result<()> {
        let path = self.path.join(name);
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent)?;
        }
        whole_file(&path, |file| {
            let mut file = BufWriter::with_capacity(BUFFER, file);
            io::copy(input, &mut file).map_err(explained)?;
            file.flush().map_err(explained)
        })?;
        self.names.insert(name.to_owned());
        Ok(())
    }

    fn index(&self) -> Result<Option<Value>> {
        let path = self.path.join("index.json");
        let file = match File::open(&path) {
            Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other?,
        };
        let cannot = || format!("cannot read {}", path.display());
        let mut bytes = Vec::new();
        file.take(MANIFEST_MAX)
            .read_to_end(&mut bytes)
            .with_context(cannot)?;
        let value: Value = serde_json::from_slice(&bytes).with_context(cannot)?;
        match value.get("manifests") {
            Some(manifests) => Ok(Some(manifests.clone())),
            None => bail!("{} is no index", path.display()),
        }
    }
}

/// Without the tar library's own words around it.
fn explained(err: io::Error) -> anyhow::Error {
    with_space_hint(err.into())
}

/// Writes a file that is there when it is whole, in place of what was there. What is no regular file, such as
/// a pipe, is written into.
pub fn whole_file<T>(path: &Path, write: impl FnOnce(&File) -> Result<T>) -> Result<T> {
    // Where a link leads to is what is meant.
    let path = match std::fs::canonicalize(path) {
        Ok(path) => path,
        Err(_) => path.to_owned(),
    };
    if path.metadata().is_ok_and(|metadata| !metadata.is_file()) {
        return write(&File::options().write(true).open(&path)?);
    }
    let parent = parent(&path);
    let file = temp::nameless_file(parent)?;
    let written = write(&file)?;
    file.set_permissions(PermissionsExt::from_mode(0o666 & !umask()))?;
    let temp = parent.join(atomic::temp_name());
    // Linux: linkat(2) of a file without a name, without CAP_DAC_READ_SEARCH, goes by procfs.
    let own = format!("/proc/self/fd/{}", file.as_raw_fd());
    let linked = rustix::fs::linkat(CWD, own, CWD, &temp, AtFlags::SYMLINK_FOLLOW);
    if linked.is_err() {
        // A file system without O_TMPFILE.
        copy_to(&file, &temp)?;
    }
    std::fs::rename(&temp, &path).inspect_err(|_| {
        std::fs::remove_file(&temp).ok();
    })?;
    Ok(written)
}

fn copy_to(file: &File, path: &Path) -> Result<()> {
    use std::io::Seek;
    let mut input = file;
    input.rewind()?;
    let copied = File::create_new(path).and_then(|mut out| {
        out.set_permissions(file.metadata()?.permissions())?;
        io::copy(&mut input, &mut out)
    });
    if let Err(err) = copied {
        std::fs::remove_file(path).ok();
        return Err(explained(err));
    }
    Ok(())
}

fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

fn umask() -> u32 {
    // Linux: the mask can only be read by setting it, and no other thread makes files here.
    let mask = rustix::process::umask(Mode::empty());
    rustix::process::umask(mask);
    mask.as_raw_mode()
}

/// Writes into an OCI layout, or makes one.
pub fn layout<T>(path: &Path, write: impl FnOnce(&Path) -> Result<T>) -> Result<T> {
    match std::fs::read_dir(path) {
        Err(err) if err.kind() == io::ErrorKind::NotFound => new_dir(path, write),
        Err(err) => Err(err.into()),
        Ok(entries) => {
            let is_empty = entries.count() == 0;
            if !is_empty && !path.join("oci-layout").exists() && !path.join("index.json").exists() {
                bail!("it is there, and is no OCI layout");
            }
            write(path)
        }
    }
}

/// Makes a directory of one image, in place of an older one.
pub fn whole_dir<T>(path: &Path, write: impl FnOnce(&Path) -> Result<T>) -> Result<T> {
    let is_empty = match std::fs::read_dir(path) {
        Err(err) if err.kind() == io::ErrorKind::NotFound => return new_dir(path, write),
        Err(err) => return Err(err.into()),
        Ok(mut entries) => entries.next().is_none(),
    };
    if !is_empty && !path.join("version").exists() {
        return Err(anyhow::anyhow!("it is there, and holds no image"))
            .hint("name another directory, or one that is empty");
    }
    let path = std::fs::canonicalize(path)?;
    let temp = TempDir::create_in(parent(&path))?;
    let written = write(temp.path())?;
    std::fs::set_permissions(temp.path(), path.metadata()?.permissions())?;
    temp.exchange_with(&path)?;
    Ok(written)
}

fn new_dir<T>(path: &Path, write: impl FnOnce(&Path) -> Result<T>) -> Result<T> {
    let path: PathBuf = path.components().collect();
    let temp = TempDir::create_in(parent(&path))?;
    let written = write(temp.path())?;
    std::fs::set_permissions(temp.path(), PermissionsExt::from_mode(0o777 & !umask()))?;
    if !temp.rename_to(&path)? {
        bail!("it has been made by another in the meantime");
    }
    Ok(written)
}
