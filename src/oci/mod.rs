//! Plain types of the OCI specifications: references, digests, platforms. No IO.

pub mod digest;
pub mod platform;
pub mod reference;
