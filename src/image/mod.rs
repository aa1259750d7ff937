//! Images: pulled, loaded, unpacked, listed, removed.
