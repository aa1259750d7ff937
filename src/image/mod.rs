//! Images: pulled, loaded, unpacked, listed, removed.
//!
//! What they own on disk, below the data directory:
//!
//! ```text
//! images/refs/<reference, / and @ escaped>   name -> image, one small record each
//! images/ids/<config digest>.json            the image: its layers, and what its config says
//! blobs/<algorithm>/<hex>                    manifest, config and layers, byte for byte
//! blobs/<algorithm>/.part-<hex>              the beginning of a blob; its flock is held by who goes on with it
//! layers/<diff-id>/{diff/, layer.json}       one unpacked tree a layer, immutable
//! layers/<diff-id>/tar.zst                   where no compressed blob of it came
//! layers/<diff-id>/merged/ shifted/          of it and layers below, and for other ids; made with the first use
//! layers/.lock-<diff-id>                     held by who is making that layer
//! ```
//!
//! An image is complete when its record is there: layers are on disk before it, names after it.
//! The store lock is held shared while anything is made, and exclusively while layers that
//! nothing refers to are removed.

pub mod about;
pub mod additional;
pub mod change;
pub mod check;
pub mod commit;
pub mod compress;
pub mod config;
pub mod healthcheck;
pub mod hello;
pub mod ingest;
pub mod layers;
pub mod lists;
pub mod load;
pub mod manifest;
pub mod names;
pub mod packed;
pub mod progress;
pub mod record;
pub mod registry;
pub mod remove;
pub mod save;
pub mod shifted;
pub mod transport;
pub mod unpack;
pub mod variant;

mod archive;
mod interrupt;
mod keep;
mod layout;
#[cfg(test)]
mod tests;

pub use names::find;
pub use names::list;
pub use names::tag;
pub use record::Image;
pub use registry::pull;
