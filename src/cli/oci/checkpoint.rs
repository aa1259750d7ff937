//! `rbox oci checkpoint` and `restore`, which callers try.

use std::ffi::OsString;

use crate::error::Kind;
use crate::error::fail;

/// Not supported: rbox saves no processes
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Whatever they take elsewhere
    #[arg(hide = true, trailing_var_arg = true, allow_hyphen_values = true)]
    words: Vec<OsString>,
}

pub fn run(_: &Args) -> anyhow::Result<u8> {
    let text = "checkpoint and restore are not supported: rbox saves no processes";
    Err(fail(Kind::Unsupported, text))
}
