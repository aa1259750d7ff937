//! `rbox rmi`.

use crate::cli::output;
use crate::engine::Engine;
use crate::engine::images;
use crate::engine::images::Removal;
use crate::engine::variants;
use crate::error;
use crate::error::Kind;
use crate::image;
use crate::image::lists;
use crate::image::names;
use crate::oci::platform::Platform;

/// Podman's exit statuses for what kept an image from being removed.
const MISSING: u8 = 1;
const IN_USE: u8 = 2;

/// Remove images: their names, and with the last name the image
#[derive(Debug, clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "one a switch")]
#[command(
    after_help = "What other images or containers use is kept. The exit status is 2 where containers use an image, and 1 where one does not exist.

Examples:
  rbox rmi busybox
  rbox rmi --all --force"
)]
pub struct Args {
    /// All images
    #[arg(short, long, conflicts_with = "images")]
    all: bool,

    /// The containers that use an image too, and all names of one that is given by its id; pass over what does not exist
    #[arg(short, long)]
    force: bool,

    /// Pass over what does not exist
    #[arg(short, long)]
    ignore: bool,

    /// Keep images without a name that these were made from
    #[arg(long)]
    no_prune: bool,

    /// Of an image that is in the store for several platforms, those for these; its name stays while there is another
    #[arg(long, value_name = "OS/ARCH[/VARIANT]", value_delimiter = ',')]
    platform: Vec<Platform>,

    /// Names or ids
    #[arg(required_unless_present = "all", value_name = "IMAGE")]
    images: Vec<String>,
}

pub fn run(engine: &Engine, args: Args) -> anyhow::Result<u8> {
    let removal = Removal {
        force: args.force,
        all_names: args.force || args.all,
        with_parents: !args.no_prune,
    };
    let mut wanted = chosen(engine, &args)?;
    if args.force || args.ignore {
        wanted.retain(|name| is_there(engine, name));
    }
    let outcome = if args.platform.is_empty() {
        images::remove(engine, &wanted, removal)
    } else {
        variants::remove(engine, &wanted, &args.platform, removal)
    };
    for name in &outcome.untagged {
        output::print_line(&format!("Untagged: {name}"))?;
    }
    for id in &outcome.deleted {
        output::print_line(&format!("Deleted: {}", id.hex()))?;
    }
    let errors = outcome.errors;
    errors.iter().for_each(output::print_error);
    Ok(status(&errors))
}

fn chosen(engine: &Engine, args: &Args) -> anyhow::Result<Vec<String>> {
    if !args.all {
        return Ok(args.images.clone());
    }
    let all = names::all_with_lists(&engine.dirs.alone(), |err| output::print_damaged(&[err]))?;
    let all = all.into_iter().flat_map(|named| {
        if named.image.is_list() {
            let names = named.names.into_iter();
            names.map(|name| name.reference.to_string()).collect()
        } else {
            vec![named.image.id.to_string()]
        }
    });
    Ok(all.collect())
}

/// What is wrong with it is for the removal.
fn is_there(engine: &Engine, name: &str) -> bool {
    if lists::name_of(&engine.dirs, name).is_ok_and(|list| list.is_some()) {
        return true;
    }
    let found = image::find(&engine.dirs, name);
    !found.is_err_and(|err| error::kind(&err) == Some(Kind::NotFound))
}

fn status(errors: &[anyhow::Error]) -> u8 {
    let kinds: Vec<Option<Kind>> = errors.iter().map(error::kind).collect();
    if kinds.is_empty() {
        0
    } else if kinds.contains(&Some(Kind::Conflict)) {
        IN_USE
    } else if kinds.iter().all(|kind| *kind == Some(Kind::NotFound)) {
        MISSING
    } else {
        125
    }
}
