//! Any bytes as a manifest, an index or an image's config.
#![no_main]

include!("../rbox.rs");

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| bodies::manifest(bytes));
