//! `rbox system prune`.

use crate::cli::choose;
use crate::cli::choose::Wanted;
use crate::cli::images::filter::Filters;
use crate::cli::network;
use crate::cli::output;
use crate::cli::volume;
use crate::engine::Engine;
use crate::engine::images;
use crate::engine::networks;
use crate::engine::remove;
use crate::engine::sweep;
use crate::engine::usage;
use crate::engine::volumes;
use crate::error;
use crate::error::Kind;
use crate::error::fail;
use crate::text::size;

/// Remove what is not used: containers that do not run, networks, images without a name, leftovers
#[derive(Debug, clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "one a switch")]
#[command(after_help = "Volumes with a name are for `rbox volume prune --all`.

Examples:
  rbox system prune
  rbox system prune --all --volumes --force
  rbox system prune --filter until=24h")]
pub struct Args {
    /// All images that no container uses, those with a name too
    #[arg(short, long)]
    all: bool,

    /// Refused: rbox makes no containers for builds
    #[arg(long, hide = true)]
    build: bool,

    /// Only what killed commands have left, and neither containers nor images
    #[arg(long, conflicts_with_all = ["all", "filter", "volumes"])]
    external: bool,

    /// Only those that fit: until=, label=, label!=
    #[arg(long, value_name = "KEY=VALUE")]
    filter: Vec<String>,

    /// Do not ask
    #[arg(short, long)]
    force: bool,

    /// Anonymous volumes that no container uses too
    #[arg(long)]
    volumes: bool,
}

pub fn run(engine: &Engine, args: &Args) -> anyhow::Result<u8> {
    if args.build {
        let text = "--build: rbox makes no containers for builds";
        return Err(fail(Kind::Unsupported, text));
    }
    check(&args.filter)?;
    if !args.force && !output::confirmed(&warning(args))? {
        return Ok(0);
    }
    let before = usage::measure(engine, drop)?.total();
    let mut errors = Vec::new();
    if !args.external {
        heading(
            "Deleted Containers",
            &containers(engine, args, &mut errors)?,
        )?;
    }
    sweep::sweep(engine)?;
    if !args.external {
        let keys = network::filter::OF_PRUNE;
        let filters = network::filter::Filters::parse(engine, &args.filter, keys)?;
        let removed = networks::prune(engine, |network| filters.fit(network), false)?;
        heading("Deleted Networks", &removed)?;
    }
    if args.volumes {
        let filters = volume::filter::Filters::parse(engine, &args.filter)?;
        let wanted = |volume: &crate::volume::Volume| volume.anonymous && filters.fit(volume);
        heading("Deleted Volumes", &volumes::prune(engine, wanted, false)?)?;
    }
    if args.external {
        images::collect(engine)?;
    } else {
        let filters = Filters::parse(engine, &args.filter)?;
        let outcome = images::prune(engine, args.all, |images| filters.choose(engine, images))?;
        let ids: Vec<String> = outcome
            .deleted
            .iter()
            .map(|id| id.hex().to_owned())
            .collect();
        heading("Deleted Images", &ids)?;
        errors.extend(outcome.errors);
    }
    let after = usage::measure(engine, drop)?.total();
    output::print_line(&format!(
        "Total reclaimed space: {}",
        size::human_with(before.saturating_sub(after), 4, "")
    ))?;
    output::each_of(errors, Err)
}

/// What all kinds of things can be filtered by.
fn check(words: &[String]) -> anyhow::Result<()> {
    for word in words {
        let (key, _) = crate::cli::filter::split(word)?;
        if !["label", "label!", "until"].contains(&key) {
            let keys = "one of the keys label, label!, until";
            return Err(crate::cli::filter::expected(word, keys));
        }
    }
    Ok(())
}

fn warning(args: &Args) -> String {
    if args.external {
        return "WARNING! This command removes what killed commands have left.\n".into();
    }
    let mut text = "WARNING! This command removes:\n\t- all stopped containers\n".to_owned();
    text.push_str("\t- all networks not used by at least one container\n");
    if args.volumes {
        text.push_str("\t- all anonymous volumes not used by at least one container\n");
    }
    text.push_str(if args.all {
        "\t- all images without at least one container associated with them\n"
    } else {
        "\t- all dangling images\n"
    });
    text + "\n"
}

fn heading(title: &str, lines: &[String]) -> anyhow::Result<()> {
    if lines.is_empty() {
        return Ok(());
    }
    output::print_line(&format!("{title}\n{}", lines.join("\n")))
}

/// The ids of those that were removed.
fn containers(
    engine: &Engine,
    args: &Args,
    errors: &mut Vec<anyhow::Error>,
) -> anyhow::Result<Vec<String>> {
    let wanted = Wanted {
        filters: &args.filter,
        all: true,
        ..Wanted::default()
    };
    let mut removed = Vec::new();
    for one in choose::choose(engine, wanted, |status| !status.is_running())? {
        let container = match one.container(engine) {
            Ok(container) => container,
            Err(err) => {
                errors.push(err);
                continue;
            }
        };
        match remove::remove(engine, &container, false, false) {
            // It was started, or removed by somebody else, since the look at it.
            Err(err) if matches!(error::kind(&err), Some(Kind::Conflict | Kind::NotFound)) => {}
            Err(err) => errors.push(err),
            Ok(()) => removed.push(container.config.id),
        }
    }
    Ok(removed)
}
