//! `rbox oci create`.

use std::path::PathBuf;

use crate::bundle::create;
use crate::bundle::create::Options;
use crate::bundle::create::Streams;
use crate::cli::oci::Context;

/// Create a container: all of it is there and its process waits for `start`
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    pub bundle: BundleFlags,

    /// Become no subreaper, as it does not anyway
    #[arg(long)]
    no_subreaper: bool,

    /// The name of the new container
    #[arg(value_name = "ID")]
    pub id: String,
}

/// What `create` and `run` take.
#[derive(Debug, clap::Args)]
pub struct BundleFlags {
    /// The directory with config.json [default: the current directory]
    #[arg(
        short,
        long,
        value_name = "DIR",
        default_value = ".",
        hide_default_value = true
    )]
    pub bundle: PathBuf,

    /// The name of the configuration in the bundle
    #[arg(
        short = 'f',
        long,
        value_name = "FILE",
        default_value = "config.json",
        hide_default_value = true
    )]
    pub config: PathBuf,

    /// Send the container's terminal to who listens on this socket
    #[arg(long, value_name = "SOCKET")]
    pub console_socket: Option<PathBuf>,

    /// Leave the container in the session keyring of the caller
    #[arg(long)]
    pub no_new_keyring: bool,

    /// Move the root file system over that of the host instead of pivoting: for hosts that run in their initramfs
    #[arg(long)]
    pub no_pivot: bool,

    /// Write the pid of the container's process to this file
    #[arg(long, value_name = "FILE")]
    pub pid_file: Option<PathBuf>,

    /// Send a pidfd of the container's process to who listens on this socket
    #[arg(long, value_name = "SOCKET")]
    pub pidfd_socket: Option<PathBuf>,

    /// Give N descriptors, from 3 on, to the container
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    pub preserve_fds: u32,
}

impl BundleFlags {
    pub fn options<'a>(
        &'a self,
        context: &Context,
        id: &'a str,
        streams: Streams<'a>,
    ) -> Options<'a> {
        Options {
            id,
            bundle: &self.bundle,
            streams,
            pid_file: self.pid_file.as_deref(),
            pidfd_socket: self.pidfd_socket.as_deref(),
            config: &self.config,
            groups: context.groups,
            rootless: context.rootless,
            preserved: self.preserve_fds,
            no_pivot: self.no_pivot,
            no_new_keyring: self.no_new_keyring,
        }
    }
}

pub fn run(context: &Context, args: Args) -> anyhow::Result<u8> {
    let streams = Streams::Passed(args.bundle.console_socket.as_deref());
    let options = args.bundle.options(context, &args.id, streams);
    create::create(&context.root, &options, &mut |err| context.warn(&err))?;
    Ok(0)
}
