//! `rbox start`.

use crate::cli::attach;
use crate::cli::choose;
use crate::cli::choose::Wanted;
use crate::cli::flags;
use crate::cli::flags::DetachFlags;
use crate::cli::flags::ProxyFlags;
use crate::cli::output;
use crate::cli::run;
use crate::cli::session::Wishes;
use crate::container::config::sdnotify::SdNotify;
use crate::engine::Engine;
use crate::engine::activation::Activation;
use crate::engine::start;
use crate::engine::start::Options;
use crate::error::Kind;
use crate::error::fail;

/// Start containers that exist
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  rbox start web db
  rbox start -ai shell
  rbox start --all --filter label=tier=test")]
pub struct Args {
    /// All that do not run
    #[arg(long, conflicts_with_all = ["latest", "containers"])]
    all: bool,

    /// Stay with the container: its output, signals, exit status
    #[arg(short, long)]
    attach: bool,

    #[command(flatten)]
    keys: DetachFlags,

    #[command(flatten)]
    proxy: ProxyFlags,

    /// Those that fit, such as status=exited or label=KEY=VALUE
    #[arg(short, long, value_name = "KEY=VALUE")]
    filter: Vec<String>,

    /// Pass standard input to the container
    #[arg(short, long)]
    interactive: bool,

    /// The container that was created last
    #[arg(short, long, conflicts_with_all = ["containers", "filter"])]
    latest: bool,

    /// Who says to a service manager that the containers are ready, instead of what they were created
    /// with: container, conmon, healthy or ignore
    #[arg(long, value_name = "WHO", value_parser = flags::sdnotify)]
    sdnotify: Option<SdNotify>,

    /// Names or ids
    #[arg(
        required_unless_present_any = ["all", "latest", "filter"],
        value_name = "CONTAINER"
    )]
    containers: Vec<String>,
}

pub fn run(engine: &Engine, args: Args) -> anyhow::Result<u8> {
    let wanted = Wanted {
        names: &args.containers,
        filters: &args.filter,
        all: args.all,
        latest: args.latest,
        ..Wanted::default()
    };
    let mut chosen = choose::choose(engine, wanted, |status| !status.is_running())?;
    let activation = Activation::of_caller().told_by(args.sdnotify);
    let stays = args.attach || args.interactive;
    if !stays && args.proxy.is_given() {
        return Err(fail(Kind::Usage, "--sig-proxy needs --attach"));
    }
    // The oldest first: others may use it.
    wanted.order(&mut chosen);
    if stays {
        let [one] = chosen.as_slice() else {
            return Err(fail(Kind::Usage, "only one container can be attached to"));
        };
        let container = one.container(engine)?;
        let keys = args.keys.keys()?;
        let stdin = args.interactive && container.config.process.interactive;
        if container.status()?.is_running() {
            return attach::attach(&container, stdin, keys, args.proxy);
        }
        let wishes = Wishes::all(stdin, args.proxy.or(true), keys);
        let preserved = activation.preserve(vec![])?;
        return run::foreground(engine, &container, wishes, &preserved, &activation);
    }
    output::each(&chosen, |one| {
        let container = one.container(engine)?;
        if !container.runs()? {
            let preserved = activation.preserve(vec![])?;
            let options = Options {
                preserved: &preserved,
                activation: &activation,
                ..Options::in_background()
            };
            start::start(engine, &container, options)?;
        }
        output::print_line(one.label())
    })
}
