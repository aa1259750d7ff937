//! `rbox oci run`: create, start, and stay with the container until it ends.

use crate::bundle::create;
use crate::bundle::create::Created;
use crate::bundle::create::Streams;
use crate::bundle::end;
use crate::bundle::start;
use crate::cli::oci::Context;
use crate::cli::oci::attached::Attached;
use crate::cli::oci::create::BundleFlags;
use crate::runtime::exec::Joined;
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

    /// Leave processes that the container leaves behind to others
    #[arg(long)]
    no_subreaper: bool,

    /// The name of the new container
    #[arg(value_name = "ID")]
    id: String,
}

pub fn run(context: &Context, args: Args) -> anyhow::Result<u8> {
    let warn = &mut |err| context.warn(&err);
    let socket = args.bundle.console_socket.as_deref();
    if args.detach || socket.is_some() {
        let options = args
            .bundle
            .options(context, &args.id, Streams::Passed(socket));
        let created = create::create(&context.root, &options, warn)?;
        started(&created, warn)?;
        if args.detach {
            return Ok(0);
        }
        let exit = process::wait(std::os::fd::AsFd::as_fd(&created.init.pidfd))?;
        return finish(&args, &created, exit.status, warn);
    }
    if !args.no_subreaper {
        process::set_child_subreaper()?;
    }
    let attached = Attached::new()?;
    let make = || attached.stdio();
    let options = args.bundle.options(context, &args.id, Streams::Held(&make));
    let mut created = create::create(&context.root, &options, warn)?;
    let terminal = created.terminal.take();
    let session = attached.session(Joined {
        command: process::Child {
            pid: created.init.pid,
            pidfd: created.init.pidfd.try_clone()?,
        },
        terminal,
    })?;
    started(&created, warn)?;
    let status = session.run()?;
    finish(&args, &created, status, warn)
}

/// What cannot be started is not kept: nobody has asked to have it.
fn started(created: &Created, warn: &mut dyn FnMut(anyhow::Error)) -> anyhow::Result<()> {
    start::start(&created.container).inspect_err(|_| {
        end::delete(&created.container, true, warn).ok();
    })
}

fn finish(
    args: &Args,
    created: &Created,
    status: i32,
    warn: &mut dyn FnMut(anyhow::Error),
) -> anyhow::Result<u8> {
    if !args.keep {
        end::delete(&created.container, true, warn)?;
    }
    Ok(u8::try_from(status).unwrap_or(255))
}
