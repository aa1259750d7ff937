//! What OCI layouts, and the directories of the `dir` transport, call things.

use crate::oci::digest::Algorithm;
use crate::oci::digest::Digest;

/// The name of an image in `index.json`.
pub const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// containerd and Docker put the full name here, and only the tag into `REF_NAME`.
pub const CONTAINERD_NAME: &str = "io.containerd.image.name";

/// How blobs are called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// `blobs/sha256/<hex>`
    Blobs,
    /// `<hex>`, beside each other (the `dir` transport); of other algorithms `sha512-<hex>`.
    Flat,
}

impl Layout {
    pub fn name(self, digest: &Digest) -> String {
        let (algorithm, hex) = (digest.algorithm(), digest.hex());
        match (self, algorithm) {
            (Self::Blobs, _) => format!("blobs/{}/{hex}", algorithm.name()),
            (Self::Flat, Algorithm::Sha256) => hex.to_owned(),
            (Self::Flat, _) => format!("{}-{hex}", algorithm.name()),
        }
    }
}
