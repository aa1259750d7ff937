//! What this user and this machine allow: ids, settings, credentials.

pub mod addresses;
pub mod cdi;
pub mod hooks;
pub mod ids;
pub mod mapping;
pub mod registries;
pub mod storage;
pub mod userns;
