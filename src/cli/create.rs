//! `rbox create`, and what `run` shares with it.

use crate::cli::flags::ContainerFlags;
use crate::cli::output;
use crate::cli::pull;
use crate::container::record::Container;
use crate::engine;
use crate::engine::Engine;
use crate::engine::remove;
use crate::error::Kind;
use crate::error::WithHint;
use crate::error::fail;

/// Create a container without starting it
#[derive(Debug, clap::Args)]
#[command(
    disable_help_flag = true,
    after_help = "Examples:
  rbox create --name web -v ./site:/srv:ro busybox httpd -f -h /srv
  rbox start web"
)]
pub struct Args {
    /// Refused: a container has streams when it starts
    #[arg(short, long, value_name = "STREAM", hide = true)]
    attach: Vec<String>,

    #[command(flatten)]
    container: ContainerFlags,
}

pub fn run(engine: &Engine, args: Args) -> anyhow::Result<u8> {
    if let Some(stream) = args.attach.first() {
        let text = format!("--attach=\"{stream}\": a container has streams when it starts");
        return Err(fail(Kind::Unsupported, text).hint("`rbox start --attach` joins them then"));
    }
    let container = create(engine, args.container)?;
    output::print_line(&container.config.id)?;
    Ok(0)
}

/// The container that the flags describe, its image pulled where it is missing.
pub fn create(engine: &Engine, flags: ContainerFlags) -> anyhow::Result<Container> {
    let (policy, quiet) = (flags.pull, flags.quiet);
    let (registry, platform) = (flags.registry.clone(), flags.platform.clone());
    let has_image = !flags.is_of_directory();
    let replaced = flags.replaced().map(str::to_owned);
    let request = flags.into_request()?;
    engine::create::check(engine, &request)?;
    if !has_image {
        replace(engine, replaced)?;
        return engine::create::create(engine, None, request);
    }
    let image = pull::for_container(engine, &request.image, policy, &registry, &platform, quiet)?;
    replace(engine, replaced)?;
    engine::create::create(engine, Some(&image), request)
}

/// Removes the container of that very name, when all else is there.
fn replace(engine: &Engine, name: Option<String>) -> anyhow::Result<()> {
    if let Some(name) = name
        && let Some(container) = Container::by_name(&engine.dirs, &name)?
    {
        remove::remove(engine, &container, true, false)?;
    }
    Ok(())
}
