//! Plain types of the OCI specifications: references, digests, platforms, seccomp profiles, the runtime's documents.

pub mod digest;
pub mod platform;
pub mod reference;
pub mod runtime;
pub mod seccomp;
