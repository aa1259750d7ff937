//! Any bytes as a layer.
#![no_main]

include!("../rbox.rs");

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| bodies::tar(bytes));
