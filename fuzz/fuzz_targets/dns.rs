//! Any bytes as a question of DNS, and as an answer.
#![no_main]

include!("../rbox.rs");

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| bodies::dns(bytes));
