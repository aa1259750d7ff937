//! The part of rbox's module of this name that reads documents of the runtime.

#[path = "../../src/oci/runtime/mod.rs"]
pub mod runtime;
