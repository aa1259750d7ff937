//! `rbox clone`.

use crate::cli::flags::LimitFlags;
use crate::cli::output;
use crate::container::record::Container;
use crate::engine;
use crate::engine::Engine;
use crate::engine::clone::Request;
use crate::engine::remove;
use crate::engine::start;
use crate::engine::start::Options;
use crate::error::Kind;
use crate::error::WithHint;
use crate::error::fail;
use crate::image;

/// Create a container with the settings of another
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Volumes are those of the original; what it has changed of its own files stays there.

Examples:
  rbox clone web
  rbox clone --run --memory 1g web bigger
  rbox clone --destroy --force --run web web2 localhost/web:today"
)]
pub struct Args {
    /// Remove the original
    #[arg(long)]
    destroy: bool,

    /// With --destroy: kill the original if it runs
    #[arg(short, long, requires = "destroy")]
    force: bool,

    /// Name the new container [default: the original's name and -clone]
    #[arg(long, conflicts_with = "new_name")]
    name: Option<String>,

    /// Refused: rbox has no pods
    #[arg(long, value_name = "POD", hide = true)]
    pod: Option<String>,

    /// Start the new container
    #[arg(long)]
    run: bool,

    #[command(flatten)]
    limits: LimitFlags,

    /// Name or id of the original
    #[arg(value_name = "CONTAINER")]
    container: String,

    /// The name of the new container
    #[arg(value_name = "NAME")]
    new_name: Option<String>,

    /// Another image, which is in the store
    #[arg(value_name = "IMAGE")]
    image: Option<String>,
}

pub fn run(engine: &Engine, args: Args) -> anyhow::Result<u8> {
    if let Some(pod) = args.pod {
        let text = format!("--pod=\"{pod}\": rbox has no pods");
        return Err(fail(Kind::Unsupported, text));
    }
    let original = Container::find(&engine.dirs, &args.container)?;
    if args.destroy && !args.force && original.status()?.is_running() {
        let text = format!(
            "cannot destroy container \"{}\": it is running",
            original.name
        );
        return Err(fail(Kind::Conflict, text).hint("stop it first, or use `--force`"));
    }
    let image = args.image.as_deref();
    let image = image
        .map(|name| image::find(&engine.dirs, name))
        .transpose()?;
    let request = Request {
        name: args.name.or(args.new_name),
        image: image.as_ref(),
        limits: args.limits.into_limits()?,
    };
    let container = engine::clone::clone(engine, &original, request)?;
    if args.destroy {
        remove::remove(engine, &original, args.force, false)?;
    }
    if args.run {
        start::start(engine, &container, Options::in_background())?;
    }
    output::print_line(&container.config.id)?;
    Ok(0)
}
