//! Any bytes as a registries.conf.
#![no_main]

include!("../rbox.rs");

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| bodies::registries(bytes));
