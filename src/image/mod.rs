//! Images: pulled, loaded, unpacked, listed, removed.

pub mod unpack;
