//! rbox: a daemonless, rootless container engine in one static binary.
mod cli;
mod config;
mod container;
mod engine;
mod error;
mod image;
mod oci;
mod runtime;
mod store;
mod supervisor;
mod sys;
mod text;

use std::ffi::OsString;
use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().skip(1).collect();
    match args.first().and_then(|role| role.to_str()) {
        Some(store::helper::ROLE) => image::unpack::main(&args[1..]),
        _ => ExitCode::SUCCESS,
    }
}
