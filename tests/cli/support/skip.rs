//! Tests that cannot run on this machine say so in one line; with RBOX_TEST_STRICT=1,
//! as in CI, they fail instead.

/// Says that the test of this thread is not run, and why.
#[expect(
    clippy::print_stderr,
    reason = "the test runner's output is where skips are read"
)]
pub fn skip(reason: &str) {
    let name = std::thread::current()
        .name()
        .unwrap_or("unnamed test")
        .to_owned();
    assert!(
        std::env::var_os("RBOX_TEST_STRICT").is_none_or(|value| value != "1"),
        "skipped, which RBOX_TEST_STRICT=1 forbids: {reason}"
    );
    eprintln!("SKIP {name}: {reason}");
}
