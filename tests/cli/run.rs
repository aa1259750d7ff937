//! `rbox run`: what goes in, what comes out.
use crate::support::Rbox;

#[test]
fn run_prints_what_the_container_prints() {
    Rbox::with_busybox()
        .args(["run", "--rm", "busybox", "echo", "hi"])
        .stdout("hi\n")
        .run();
}
