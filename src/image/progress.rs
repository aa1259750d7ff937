//! How far a pull or load is, for whoever shows it. Called from several threads.

use crate::oci::digest::Digest;

pub trait Progress: Sync {
    /// The layer is being fetched; its size as it is transferred, where that is known.
    fn started(&self, layer: &Digest, size: Option<u64>);
    /// That many more bytes of it have come.
    fn advanced(&self, layer: &Digest, bytes: u64);
    /// It is unpacked.
    fn finished(&self, layer: &Digest);
    /// It was in the store already.
    fn present(&self, layer: &Digest);
}

/// Shows nothing.
pub struct Silent;

impl Progress for Silent {
    fn started(&self, _: &Digest, _: Option<u64>) {}
    fn advanced(&self, _: &Digest, _: u64) {}
    fn finished(&self, _: &Digest) {}
    fn present(&self, _: &Digest) {}
}
