//! `rbox pull`, and how `run` and `create` come by their image.

use clap::Args as ClapArgs;

use crate::cli::flags::PlatformFlags;
use crate::cli::flags::RegistryFlags;
use crate::cli::output;
use crate::cli::progress::Bars;
use crate::engine::Engine;
use crate::engine::images;
use crate::error;
use crate::error::Kind;
use crate::error::WithHint;
use crate::error::fail;
use crate::image;
use crate::image::Image;
use crate::image::registry::PullOptions;
use crate::oci::reference::Reference;

/// Pull images from a registry
#[derive(Debug, ClapArgs)]
#[command(after_help = "Examples:
  rbox pull debian
  rbox pull --tls-verify=false registry.lan:5000/team/app:1.2")]
pub struct Args {
    /// Show no progress
    #[arg(short, long)]
    quiet: bool,

    #[command(flatten)]
    platform: PlatformFlags,

    #[command(flatten)]
    registry: RegistryFlags,

    /// References, such as debian:12 or registry.lan:5000/app@sha256:…
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Policy {
    /// Also when it is in the store
    Always,
    /// When it is not in the store
    Missing,
    /// Use the store alone
    Never,
    /// Also when it is in the store, if the registry has another one
    Newer,
}

pub fn run(engine: &Engine, args: Args) -> anyhow::Result<u8> {
    let options = PullOptions {
        access: args.registry.access(),
        platform: args.platform.platform()?,
    };
    output::each(&args.images, |name| {
        let image = pull(engine, name, &options, args.quiet)?;
        output::print_line(image.id.hex())
    })
}

fn pull(engine: &Engine, name: &str, options: &PullOptions, quiet: bool) -> anyhow::Result<Image> {
    let reference: Reference = name.parse()?;
    let bars = Bars::new(quiet);
    let image = image::pull(&engine.dirs, &reference, options, &bars);
    bars.clear();
    let image = image?;
    images::record(engine, "pull", &image.id, name);
    Ok(image)
}

const BUILT_IN: &str = "hello";

/// The image that a new container is made of.
pub fn for_container(
    engine: &Engine,
    name: &str,
    policy: Policy,
    registry: &RegistryFlags,
    platform: &PlatformFlags,
    quiet: bool,
) -> anyhow::Result<Image> {
    // The image that rbox brings along, unless there is another one of that name.
    if name == BUILT_IN && policy != Policy::Never {
        let other = image::find(&engine.dirs, name).is_ok_and(|image| {
            !image
                .names
                .iter()
                .any(|name| name.to_string() == image::hello::REFERENCE)
        });
        if !other {
            return images::built_in(engine);
        }
    }
    let found = match image::find(&engine.dirs, name) {
        Ok(image) => Some(image),
        Err(err) if error::kind(&err) == Some(Kind::NotFound) => None,
        Err(err) => return Err(err),
    };
    let options = PullOptions {
        access: registry.access(),
        platform: platform.platform()?,
    };
    match (policy, found) {
        (Policy::Missing | Policy::Never, Some(image)) => Ok(image),
        (Policy::Never, None) => Err(fail(
            Kind::NotFound,
            format!("image \"{name}\" is not in the store, and --pull=never forbids to pull it"),
        )
        .hint(format!("get it with `rbox pull {name}`"))),
        (Policy::Newer, Some(image)) => Ok(pull(engine, name, &options, quiet).unwrap_or(image)),
        _ => pull(engine, name, &options, quiet),
    }
}
