//! `rbox oci run`: create, start, and stay with the container until it ends.

use std::os::fd::AsFd;

use crate::bundle::create;
use crate::bundle::create::Console;
use crate::bundle::end;
use crate::bundle::start;
use crate::cli::oci::Context;
use crate::cli::oci::create::BundleFlags;
use crate::sys::process;

/// Create and start a container
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    bundle: BundleFlags,

    /// Do not stay with it
    #[arg(short, long)]
    detach: bool,

    /// Keep its state when it has ended
    #[arg(long)]
    keep: bool,

    /// The name of the new container
    #[arg(value_name = "ID")]
    id: String,
}

pub fn run(context: &Context, args: Args) -> anyhow::Result<u8> {
    let console = Console::Socket(args.bundle.console_socket.as_deref());
    let created = create::create(&context.root, &args.bundle.options(&args.id, console))?;
    let warn = &mut |err| context.warn(&err);
    start::start(&created.container, warn)?;
    if args.detach {
        return Ok(0);
    }
    let exit = process::wait(created.init.pidfd.as_fd())?;
    if !args.keep {
        end::delete(&created.container, false, warn)?;
    }
    Ok(u8::try_from(exit.status).unwrap_or(255))
}
