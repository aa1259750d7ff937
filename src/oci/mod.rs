//! Plain types of the OCI specifications: references, digests, platforms, seccomp profiles. No IO.

pub mod digest;
pub mod platform;
pub mod reference;
pub mod seccomp;
