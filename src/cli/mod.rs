//! The command line: one command a file, flags to typed arguments, results to text.

pub mod complete;
pub mod docs;
pub mod doctor;
pub mod format;
pub mod info;
pub mod version;
