//! Any bytes as a config.json: no panic, and what is wrong is said in one line.
#![no_main]
#![allow(dead_code, reason = "the reader is a part of a program")]

#[path = "../../src/error.rs"]
mod error;

mod oci;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let mut warn = |text: String| assert!(!text.contains('\n'));
    let said = [
        oci::runtime::parse(bytes, &mut warn).err(),
        oci::runtime::parse_process(bytes, &mut warn).err(),
        oci::runtime::parse_resources(bytes).err(),
    ];
    for mistake in said.into_iter().flatten() {
        let said = mistake.to_string();
        assert!(!said.contains('\n') && said.len() < 1000, "{said}");
    }
});
