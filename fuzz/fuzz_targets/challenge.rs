//! Any bytes as a WWW-Authenticate header.
#![no_main]

include!("../rbox.rs");

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| bodies::challenge(bytes));
