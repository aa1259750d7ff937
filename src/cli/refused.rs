//! Commands of Podman and Docker that rbox has not, each with the reason.

use std::ffi::OsString;

use crate::error::Kind;
use crate::error::WithHint;
use crate::error::fail;

/// Not supported
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Whatever they take elsewhere
    #[arg(hide = true, trailing_var_arg = true, allow_hyphen_values = true)]
    words: Vec<OsString>,
}

pub fn checkpoint(_: &Args) -> anyhow::Result<u8> {
    let text = "checkpoint and restore are not supported: rbox saves no processes";
    Err(fail(Kind::Unsupported, text))
        .hint("`rbox pause` lets a container stand still, and `rbox commit` saves its files")
}

pub fn runlabel(_: &Args) -> anyhow::Result<u8> {
    let text = "runlabel is not supported: rbox executes no command that an image names";
    Err(fail(Kind::Unsupported, text)).hint("`rbox inspect IMAGE` shows the labels")
}

pub fn signatures(_: &Args) -> anyhow::Result<u8> {
    let text = "signatures of images are not supported: rbox neither makes nor checks any yet";
    Err(fail(Kind::Unsupported, text))
        .hint("a digest pins an image: `rbox pull NAME@sha256:…` takes no other")
}
