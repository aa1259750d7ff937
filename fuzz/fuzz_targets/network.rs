//! Any frames of a container.
#![no_main]

include!("../rbox.rs");

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| bodies::network(bytes));
