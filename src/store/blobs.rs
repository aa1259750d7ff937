//! Blobs by digest, byte for byte: `blobs/<algorithm>/<hex>`. Manifests, image configs,
//! and layers as they came; these are kept unpacked as well.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::path::PathBuf;

use anyhow::Context;
use anyhow::Result;

use crate::error::Kind;
use crate::error::WithHint;
use crate::error::fail;
use crate::oci::digest::Digest;
use crate::store::atomic;
use crate::store::atomic::Durability;
use crate::store::dirs::Dirs;

/// The largest blob that is read into memory.
const SIZE_MAX: u64 = 16 << 20;

pub fn path(dirs: &Dirs, digest: &Digest) -> PathBuf {
    dirs.blobs()
        .join(digest.algorithm().name())
        .join(digest.hex())
}

/// Keeps bytes whose digest was checked by the caller; nothing is written where they are there. Others that are there
/// under this digest are damaged.
pub fn put(dirs: &Dirs, digest: &Digest, bytes: &[u8]) -> Result<()> {
    let path = path(dirs, digest);
    if std::fs::read(&path).is_ok_and(|known| known == bytes) {
        return Ok(());
    }
    atomic::write_open(&path, bytes, Durability::Durable)
}

/// A blob in the user's own store, or in one of others.
pub fn find(dirs: &Dirs, digest: &Digest) -> Option<PathBuf> {
    let paths = dirs.all().map(|dirs| path(dirs, digest));
    paths.into_iter().find(|path| path.exists())
}

/// The same, to be read. What is no regular file could keep the reader waiting for ever.
pub fn open(dirs: &Dirs, digest: &Digest) -> std::io::Result<File> {
    let path = find(dirs, digest).ok_or(std::io::ErrorKind::NotFound)?;
    open_file(&path)
}

/// A file of a store, which is a regular file.
pub fn open_file(path: &Path) -> std::io::Result<File> {
    let mut options = File::options();
    options.read(true);
    options.custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK);
    let file = options.open(path)?;
    if !file.metadata()?.is_file() {
        return Err(std::io::Error::other("it is no regular file"));
    }
    Ok(file)
}

/// The bytes of a blob, checked against its digest.
pub fn get(dirs: &Dirs, digest: &Digest) -> Result<Vec<u8>> {
    let cannot = || format!("cannot read blob {digest}");
    let file = match open(dirs, digest) {
        Err(err) if err.kind() == std::io::ErrorKind::NotFound => {
            return Err(fail(Kind::NotFound, "it is not in the store")).with_context(cannot);
        }
        other => other.with_context(cannot)?,
    };
    let mut bytes = Vec::new();
    file.take(SIZE_MAX)
        .read_to_end(&mut bytes)
        .with_context(cannot)?;
    if !digest.matches(&bytes) {
        return Err(anyhow::anyhow!("its bytes have changed on disk"))
            .hint("pull or load the image again")
            .with_context(cannot);
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::temp::tests::scratch;

    #[test]
    fn a_blob_comes_back_or_says_what_is_wrong() {
        let base = scratch("blobs");
        let dirs = Dirs::at(base.path()).unwrap();
        let digest = Digest::sha256_of(b"hi");
        let err = get(&dirs, &digest).unwrap_err();
        assert_eq!(crate::error::kind(&err), Some(Kind::NotFound));
        put(&dirs, &digest, b"hi").unwrap();
        assert_eq!(get(&dirs, &digest).unwrap(), b"hi");
        std::fs::write(path(&dirs, &digest), b"ho").unwrap();
        let err = get(&dirs, &digest).unwrap_err();
        assert!(crate::error::message(&err).ends_with("its bytes have changed on disk"));
    }
}
