//! Files that must not be lost: directories, atomic records, locks, blobs by digest.
//! What is inside them is the business of the rows above.
//!
//! A name beginning with `.tmp-` is something unfinished. It is in use exactly while its flock
//! is held; anything else by such a name was left by a process that died, and is swept.
//! One beginning with `.part-` is the beginning of a blob, which the next command goes on with.

pub mod additional;
pub mod archive;
pub mod atomic;
pub mod blobs;
pub mod compare;
pub mod copy;
pub mod dirs;
pub mod helper;
pub mod journal;
pub mod lock;
pub mod measure;
pub mod partial;
pub mod record;
pub mod remove;
pub mod spool;
pub mod temp;
