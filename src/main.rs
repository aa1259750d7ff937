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

use crate::cli::output;

fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().collect();
    if args
        .first()
        .is_some_and(|name| name == runtime::trampoline::NAME)
    {
        runtime::trampoline::main(args);
    }
    if args.get(1).is_some_and(|role| role == store::helper::ROLE) {
        return image::unpack::main(&args[2..]);
    }
    match cli::main(args) {
        Ok(status) => ExitCode::from(status),
        Err(err) => {
            output::print_error(&err);
            ExitCode::from(error::status(&err))
        }
    }
}
