//! `rbox manifest push`.

use crate::cli::flags::RegistryFlags;
use crate::cli::push;
use crate::cli::push::FormFlags;
use crate::engine::Engine;
use crate::engine::images;
use crate::image::compress::Format;
use crate::image::lists;
use crate::image::names;
use crate::image::registry::push::Extent;
use crate::store::lock::Lock;

/// Push a list, with its images, to a registry or into files
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Images that are not in the store are copied from the registry that has them.

Examples:
  rbox manifest push app registry.lan:5000/app:1.2
  rbox manifest push app oci-archive:app.tar
  rbox manifest push --rm --add-compression zstd app registry.lan:5000/app:1.2"
)]
pub struct Args {
    /// Push each image once more, with its layers in these forms
    #[arg(long, value_name = "FORMAT", value_delimiter = ',', value_parser = push::compression)]
    add_compression: Vec<Format>,

    /// Push all images; with =false those for this machine alone
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true,
        default_value = "true", default_missing_value = "true", action = clap::ArgAction::Set,
        hide_default_value = true, hide_possible_values = true)]
    all: bool,

    /// Accept http, and any certificate
    #[arg(long)]
    insecure: bool,

    /// Remove the list once it is pushed
    #[arg(short = 'p', long, visible_alias = "purge")]
    rm: bool,

    #[command(flatten)]
    form: FormFlags,

    #[command(flatten)]
    registry: RegistryFlags,

    /// The list
    #[arg(value_name = "LIST")]
    list: String,

    /// Where to; without it, where its name says
    #[arg(value_name = "DESTINATION")]
    destination: Option<String>,
}

pub fn run(engine: &Engine, args: &Args) -> anyhow::Result<u8> {
    let mut options = args.form.options(&args.registry)?;
    if args.insecure {
        options.access.tls_verify = Some(false);
    }
    let list = lists::find(&engine.dirs, &args.list)?;
    let to = push::destination(args.destination.as_deref())?;
    let extent = Extent {
        all: args.all,
        more: args.add_compression.clone(),
    };
    push::push_list(engine, &args.form, &list, to, &options, &extent)?;
    if args.rm {
        let _lock = Lock::shared(&engine.dirs.lock_file())?;
        names::remove(&engine.dirs, &list.reference)?;
        images::record(engine, "remove", &list.digest, &list.reference.to_string());
    }
    Ok(0)
}
