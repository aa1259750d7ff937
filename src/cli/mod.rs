//! The command line: one command a file, flags to typed arguments, results to text.

mod attach;
mod boot;
mod choose;
mod cleanup;
mod clone;
mod commit;
pub mod complete;
pub mod container;
mod cp;
mod create;
mod diff;
mod dns;
pub mod docs;
mod doctor;
mod events;
mod exec;
mod exists;
mod export;
mod filter;
mod flags;
pub mod format;
mod generate;
mod healthcheck;
mod hello;
mod history;
mod image;
mod images;
mod import;
mod info;
mod init;
mod inspect;
mod kill;
mod load;
mod login;
mod logs;
mod manifest;
mod mount;
mod network;
pub mod oci;
pub mod output;
mod pause;
mod port;
mod progress;
mod prompt;
mod prune;
mod ps;
pub mod pull;
mod push;
mod refused;
mod rename;
mod restart;
mod rm;
mod rmi;
mod run;
mod save;
mod scp;
mod search;
mod session;
mod shorts;
mod start;
mod stats;
mod stop;
mod stores;
mod system;
mod tag;
mod top;
mod untag;
mod update;
mod version;
mod volume;
mod wait;

use std::ffi::OsString;

use anyhow::Context;
use clap::ArgAction;
use clap::Command;
use clap::CommandFactory;
use clap::FromArgMatches;
use clap::Parser;
use clap::Subcommand;

use crate::engine::Engine;
use crate::error::Kind;
use crate::error::fail;
use crate::image::hello as built_in;

/// As `docker --version` and `podman --version` put it.
const VERSION: &str = concat!("version ", env!("CARGO_PKG_VERSION"));

/// Run containers without a daemon and without root
#[derive(Debug, Parser)]
#[command(
    name = "rbox",
    version = VERSION,
    subcommand_required = true,
    arg_required_else_help = true,
    max_term_width = 100
)]
pub struct Cli {
    #[command(flatten)]
    stores: stores::Flags,

    #[command(subcommand)]
    command: Verb,
}

#[derive(Debug, Subcommand)]
#[command(defer = true)]
enum Verb {
    Attach(attach::Args),
    Boot(boot::Args),
    #[command(hide = true, disable_help_flag = true)]
    Checkpoint(refused::Args),
    Cleanup(cleanup::Args),
    Clone(clone::Args),
    Commit(commit::Args),
    Container(container::Args),
    Cp(cp::Args),
    Create(create::Args),
    Diff(diff::Args),
    Dns(dns::Args),
    Doctor(doctor::Doctor),
    Events(events::Args),
    Exec(exec::Args),
    Exists(exists::Args),
    Export(export::Args),
    Generate(generate::Args),
    #[command(hide = true)]
    GenerateDocs(docs::GenerateDocs),
    Healthcheck(healthcheck::Args),
    #[command(name = built_in::COMMAND, hide = true)]
    Hello(hello::Args),
    History(history::Args),
    Image(image::Args),
    Images(images::Args),
    Import(import::Args),
    Info(info::Info),
    Init(init::Args),
    Inspect(inspect::Args),
    Kill(kill::Args),
    Load(load::Args),
    Login(login::Login),
    Logout(login::Logout),
    Logs(logs::Args),
    Manifest(manifest::Args),
    Mount(mount::Mount),
    Network(network::Args),
    Oci(oci::Args),
    Pause(pause::Pause),
    Port(port::Args),
    Prune(prune::Args),
    #[command(visible_alias = "list")]
    Ps(ps::Args),
    Pull(pull::Args),
    Push(push::Args),
    Rename(rename::Args),
    Restart(restart::Args),
    #[command(hide = true, disable_help_flag = true)]
    Restore(refused::Args),
    Rm(rm::Args),
    Rmi(rmi::Args),
    Run(run::Args),
    Save(save::Args),
    Scp(scp::Args),
    #[command(hide = true, disable_help_flag = true)]
    Runlabel(refused::Args),
    Search(search::Args),
    Start(start::Args),
    Stats(stats::Args),
    Stop(stop::Args),
    System(system::Args),
    Tag(tag::Args),
    Top(top::Args),
    #[command(visible_alias = "umount")]
    Unmount(mount::Unmount),
    Unpause(pause::Unpause),
    Untag(untag::Args),
    Update(update::Args),
    Version(version::Version),
    Volume(volume::Args),
    Wait(wait::Args),
}

/// Parses and runs a command line; returns the exit status.
pub fn main(args: Vec<OsString>) -> anyhow::Result<u8> {
    if oci::is_called(&args) {
        return Ok(oci::main(args));
    }
    if args.get(1).is_some_and(|role| role == complete::ROLE) {
        return Ok(complete::answer(command(), &args[2..]));
    }
    let args = container::lift(args);
    let mut command = command_for(args.get(stores::first_word(&args)));
    let args = shorts::spread(&command, args);
    let matches = match command.try_get_matches_from_mut(&args) {
        Ok(matches) => matches,
        Err(err) => return usage(&err, &shorts::path(&command, "rbox", &args)),
    };
    let cli = Cli::from_arg_matches(&matches).map_err(|err| fail(Kind::Usage, err.to_string()))?;
    // A supervisor would keep them for as long as its container runs.
    drop((matches, command, args));
    match cli.command {
        // These must work where the store cannot be opened.
        Verb::Doctor(args) => doctor::run(&args, &mut output::Stdout),
        Verb::GenerateDocs(args) => docs::run(&args, Cli::command()).map(|()| 0),
        Verb::Hello(args) => hello::run(&args),
        Verb::Login(args) => login::login(args),
        Verb::Logout(args) => login::logout(args),
        Verb::Search(args) => search::run(args),
        Verb::Version(args) => version::run(&args, &mut output::Stdout).map(|()| 0),
        verb => {
            let wish = cli.stores.wish(&verb)?;
            let mut engine = Engine::open(&wish)?;
            engine.note = output::print_note;
            engine.warn = output::print_warning_and_hint;
            dispatch(&engine, verb)
        }
    }
}

fn dispatch(engine: &Engine, verb: Verb) -> anyhow::Result<u8> {
    let brings_images = match &verb {
        Verb::Create(_) | Verb::Import(_) | Verb::Load(_) | Verb::Pull(_) | Verb::Run(_) => true,
        Verb::Image(args) => args.brings_images(),
        _ => false,
    };
    if brings_images {
        tell_single_id(engine)?;
    }
    match verb {
        Verb::Attach(args) => attach::run(engine, args),
        Verb::Boot(args) => boot::run(engine, args),
        Verb::Checkpoint(args) | Verb::Restore(args) => refused::checkpoint(&args),
        Verb::Cleanup(args) => cleanup::run(engine, &args),
        Verb::Clone(args) => clone::run(engine, args),
        Verb::Commit(args) => commit::run(engine, &args),
        Verb::Container(args) => container::run(&args),
        Verb::Cp(args) => cp::run(engine, &args),
        Verb::Create(args) => create::run(engine, args),
        Verb::Diff(args) => diff::run(engine, &args),
        Verb::Dns(args) => dns::run(engine, &args),
        Verb::Doctor(_)
        | Verb::GenerateDocs(_)
        | Verb::Hello(_)
        | Verb::Login(_)
        | Verb::Logout(_)
        | Verb::Oci(_)
        | Verb::Search(_)
        | Verb::Version(_) => Ok(0),
        Verb::Events(args) => events::run(engine, args),
        Verb::Exec(args) => exec::run(engine, args),
        Verb::Exists(args) => exists::run(engine, &args),
        Verb::Export(args) => export::run(engine, &args),
        Verb::Generate(args) => generate::run(engine, args),
        Verb::Healthcheck(args) => healthcheck::run(engine, &args),
        Verb::History(args) => history::run(engine, args),
        Verb::Image(args) => image::run(engine, args),
        Verb::Images(args) => images::run(engine, args),
        Verb::Import(args) => import::run(engine, &args),
        Verb::Info(args) => info::run(engine, &args, &mut output::Stdout).map(|()| 0),
        Verb::Init(args) => init::run(engine, &args),
        Verb::Inspect(args) => inspect::run(engine, args),
        Verb::Kill(args) => kill::run(engine, args),
        Verb::Load(args) => load::run(engine, args),
        Verb::Logs(args) => logs::run(engine, args),
        Verb::Manifest(args) => manifest::run(engine, args),
        Verb::Mount(args) => mount::mount(engine, &args),
        Verb::Network(args) => network::run(engine, args),
        Verb::Pause(args) => pause::pause(engine, &args),
        Verb::Port(args) => port::run(engine, &args),
        Verb::Prune(args) => prune::run(engine, &args),
        Verb::Ps(args) => ps::run(engine, args),
        Verb::Pull(args) => pull::run(engine, args),
        Verb::Push(args) => push::run(engine, args),
        Verb::Rename(args) => rename::run(engine, &args),
        Verb::Restart(args) => restart::run(engine, args),
        Verb::Rm(args) => rm::run(engine, args),
        Verb::Rmi(args) => rmi::run(engine, args),
        Verb::Run(args) => run::run(engine, args),
        Verb::Runlabel(args) => refused::runlabel(&args),
        Verb::Save(args) => save::run(engine, &args),
        Verb::Scp(args) => scp::run(engine, &args),
        Verb::Start(args) => start::run(engine, args),
        Verb::Stats(args) => stats::run(engine, args),
        Verb::Stop(args) => stop::run(engine, args),
        Verb::System(args) => system::run(engine, args),
        Verb::Update(args) => update::run(engine, args),
        Verb::Unmount(args) => mount::unmount(engine, &args),
        Verb::Unpause(args) => pause::unpause(engine, &args),
        Verb::Untag(args) => untag::run(engine, &args),
        Verb::Tag(args) => tag::run(engine, args),
        Verb::Top(args) => top::run(engine, args),
        Verb::Volume(args) => volume::run(engine, args),
        Verb::Wait(args) => wait::run(engine, args),
    }
}

/// Says once to each user what containers with one id cannot do.
fn tell_single_id(engine: &Engine) -> anyhow::Result<()> {
    let told = engine.dirs.told_single_id();
    if let Some(reason) = &engine.ids()?.single_because
        && !told.exists()
    {
        output::print_warning(&format!(
            "{reason}: containers have one id; files of other owners count as yours there, and changes of user are only pretended"
        ));
        output::print_hint("`rbox doctor` shows how to get more ids (this is said once)");
        std::fs::write(&told, "").with_context(|| format!("cannot write {}", told.display()))?;
    }
    Ok(())
}

/// The command line as it is parsed: every switch also takes `=true` and `=false`, as those of
/// Docker and Podman do.
pub fn command() -> Command {
    made(Cli::command())
}

/// The same for a line that begins with this word: where it names a command, the arguments of the
/// others are not even made, since nothing of them is parsed and each costs time.
fn command_for(word: Option<&OsString>) -> Command {
    let command = Cli::command();
    let named = word
        .and_then(|word| command.find_subcommand(word))
        .map(|inner| inner.get_name().to_owned());
    match named {
        Some(name) => command.mut_subcommand(name, made),
        None => made(command),
    }
}

/// Has the arguments made that were put off (`defer`).
fn made(mut command: Command) -> Command {
    command.build();
    with_switch_values(command)
}

fn with_switch_values(command: Command) -> Command {
    command
        .mut_args(|arg| match arg.get_action() {
            ArgAction::SetTrue => arg
                .action(ArgAction::Set)
                .num_args(0..=1)
                .require_equals(true)
                .default_value("false")
                .default_missing_value("true")
                .value_parser(clap::builder::BoolishValueParser::new())
                .value_name("BOOL")
                .hide_default_value(true)
                .hide_possible_values(true),
            _ => arg,
        })
        .mut_subcommands(with_switch_values)
}

/// Help and version go to stdout; what is wrong with the line of a command becomes our own kind of error.
fn usage(err: &clap::Error, command: &str) -> anyhow::Result<u8> {
    use clap::error::ErrorKind;
    match err.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            output::print(&err.render().to_string())?;
            Ok(0)
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            output::print(&err.render().to_string())?;
            Ok(125)
        }
        _ => Err(flags::explain(err, command)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        command().debug_assert();
        let ours = Cli::command()
            .disable_help_flag(true)
            .disable_help_subcommand(true);
        assert_eq!(docs::faults(&made(ours)), [""; 0]);
    }

    #[test]
    fn switches_take_values_and_bundle() {
        let parse = |args: &[&str]| command().try_get_matches_from(args).is_ok();
        assert!(parse(&[
            "rbox", "run", "-it", "--rm", "image", "sh", "-c", "--rm=x"
        ]));
        assert!(parse(&["rbox", "run", "--rm=false", "-d=true", "image"]));
        assert!(!parse(&["rbox", "run", "--rm=perhaps", "image"]));
        let run = OsString::from("run");
        let line = ["rbox", "run", "--rm=false", "image"];
        assert!(command_for(Some(&run)).try_get_matches_from(line).is_ok());
    }
}
