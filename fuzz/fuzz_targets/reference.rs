//! Any bytes as a reference, a digest or a platform.
#![no_main]

include!("../rbox.rs");

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| bodies::reference(bytes));
