//! `rbox oci`: the command line of an OCI runtime, as runc has it, for podman, containerd, Docker and their like. Also
//! when the program is called `runc` or `crun`.
//!
//! Errors are one line on standard error, and the last line of the `--log` file, which is what callers show. The status
//! is 1; of `exec` 255, as with runc.

mod attached;
mod checkpoint;
mod create;
mod delete;
mod events;
mod exec;
mod features;
mod kill;
mod list;
mod log;
mod pause;
mod ps;
mod resume;
mod run;
mod spec;
mod start;
mod state;
mod update;

use std::ffi::OsStr;
use std::ffi::OsString;
use std::path::Path;
use std::path::PathBuf;

use clap::Command;
use clap::CommandFactory;
use clap::FromArgMatches;
use clap::Parser;
use clap::Subcommand;
use regex::Regex;

use crate::bundle::Container;
use crate::bundle::Root;
use crate::bundle::create::Groups;
use crate::cli::flags;
use crate::cli::made;
use crate::cli::oci::log::Log;
use crate::cli::output;
use crate::cli::shorts;
use crate::cli::with_switch_values;
use crate::error;
use crate::error::Kind;
use crate::error::fail;
use crate::oci::runtime::VERSION_MAX;

/// The command of rbox that this is.
pub const COMMAND: &str = "oci";

/// What runc's callers find in `--version`: whose command line this is, and the version that it is like.
const RUNC: &str = "1.4.0";
const CRUN: &str = "1.24";

/// Run containers from OCI bundles, as runc does
#[derive(Debug, clap::Args)]
#[command(
    subcommand_required = true,
    arg_required_else_help = true,
    disable_version_flag = true,
    after_help = "Podman, containerd and Docker use it under the name of runc or crun, or one of these after `rbox-`, as a link to rbox:
  ln -s rbox /usr/local/bin/rbox-runc
  podman --runtime /usr/local/bin/rbox-runc run --rm alpine true"
)]
pub struct Args {
    #[command(flatten)]
    globals: Globals,

    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Args)]
pub struct Globals {
    /// Who makes control groups, as crun calls it: cgroupfs, systemd (as --systemd-cgroup), or disabled for none
    #[arg(long, value_name = "MANAGER", default_value = "cgroupfs", hide_default_value = true,
        value_parser = ["cgroupfs", "systemd", "disabled"])]
    cgroup_manager: String,

    /// Log debug messages too
    #[arg(long)]
    debug: bool,

    /// Append errors to this file
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,

    /// Write the log as text or json
    #[arg(long, value_name = "FORMAT", default_value = "text", value_parser = ["text", "json"])]
    log_format: String,

    /// Keep the state of containers in this directory [default: /run/rbox/oci]
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,

    /// Say whether control groups are only tried for, as they are for an ordinary user
    #[arg(long, value_name = "auto|BOOL", default_value = "auto", value_parser = ["auto", "true", "false"])]
    rootless: String,

    /// Have systemd make control groups: linux.cgroupsPath is SLICE:PREFIX:NAME then
    #[arg(long)]
    systemd_cgroup: bool,
}

#[derive(Debug, Subcommand)]
#[command(defer = true)]
enum Verb {
    #[command(hide = true, disable_help_flag = true)]
    Checkpoint(checkpoint::Args),
    Create(create::Args),
    Delete(delete::Args),
    Events(events::Args),
    Exec(exec::Args),
    Features(features::Args),
    Kill(kill::Args),
    List(list::Args),
    Pause(pause::Args),
    Ps(ps::Args),
    #[command(hide = true, disable_help_flag = true)]
    Restore(checkpoint::Args),
    Resume(resume::Args),
    Run(run::Args),
    Spec(spec::Args),
    Start(start::Args),
    State(state::Args),
    Update(update::Args),
}

/// The same as a program of its own, without what other commands of rbox would cost.
#[derive(Debug, Parser)]
#[command(
    name = "rbox oci",
    about = "Run containers from OCI bundles, as runc does",
    max_term_width = 100
)]
struct Program {
    #[command(flatten)]
    args: Args,
}

/// What every command gets.
pub struct Context {
    root: Root,
    log: Log,
    groups: Groups,
    rootless: bool,
}

impl Context {
    fn find(&self, id: &str) -> anyhow::Result<Container> {
        self.root.find(id)
    }

    /// Those whose names fit a regular expression.
    fn fitting(&self, pattern: &str) -> anyhow::Result<Vec<Container>> {
        let pattern = Regex::new(pattern).map_err(|_| {
            let text = format!("ID=\"{pattern}\": expected a regular expression");
            fail(Kind::Usage, text)
        })?;
        let mut all = self.root.list(&mut |err| self.warn(&err))?;
        all.retain(|one| pattern.is_match(&one.state.id));
        Ok(all)
    }

    /// Something that went wrong and was passed over.
    fn warn(&self, err: &anyhow::Error) {
        let message = error::message(err);
        self.log.warning(&message);
        if !self.log.is_open() {
            output::print_warning(&message);
        }
    }
}

/// By which name this was called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Called {
    Rbox,
    Runc,
    Crun,
}

/// The words after the name of the runtime, if this is a call of it.
pub fn is_called(args: &[OsString]) -> bool {
    called(args).is_some()
}

fn called(args: &[OsString]) -> Option<Called> {
    let name = args.first().map(Path::new).and_then(Path::file_name);
    let name = name.and_then(OsStr::to_str);
    // A link in a directory of PATH need not hide another runtime.
    match name.map(|name| name.strip_prefix("rbox-").unwrap_or(name)) {
        Some("runc") => Some(Called::Runc),
        Some("crun") => Some(Called::Crun),
        _ if args.get(1).is_some_and(|word| word == COMMAND) => Some(Called::Rbox),
        _ => None,
    }
}

/// Parses and runs such a call; returns the exit status, having said what went wrong.
pub fn main(args: Vec<OsString>) -> u8 {
    let called = called(&args).unwrap_or(Called::Rbox);
    let skipped = if called == Called::Rbox { 2 } else { 1 };
    let mut words: Vec<OsString> = vec!["rbox oci".into()];
    words.extend(args.into_iter().skip(skipped));
    if matches!(
        words.get(1).and_then(|word| word.to_str()),
        Some("--version" | "-v")
    ) {
        return report(&Log::none(), 1, version(called));
    }
    let args = match parse(words) {
        Ok(Some(args)) => args,
        Ok(None) => return 0,
        Err(err) => return report(&Log::none(), 1, Err(err)),
    };
    let globals = args.globals;
    let log = match Log::open(globals.log.as_deref(), &globals.log_format, globals.debug) {
        Ok(log) => log,
        Err(err) => return report(&Log::none(), 1, Err(err)),
    };
    let failed = args.verb.status_of_failure();
    let context = Context {
        root: Root::new(globals.root.unwrap_or_else(Root::default_path)),
        log,
        groups: match globals.cgroup_manager.as_str() {
            "disabled" => Groups::None,
            "systemd" => Groups::Systemd,
            _ if globals.systemd_cgroup => Groups::Systemd,
            _ => Groups::Cgroupfs,
        },
        rootless: globals.rootless == "true",
    };
    context.log.debug(|| {
        let words: Vec<_> = std::env::args_os().collect();
        format!("rbox {}: {words:?}", env!("CARGO_PKG_VERSION"))
    });
    let done = args.verb.run(&context);
    report(&context.log, failed, done)
}

fn report(log: &Log, failed: u8, done: anyhow::Result<u8>) -> u8 {
    done.unwrap_or_else(|err| {
        log.error(&error::message(&err));
        output::print_plain_error(&err);
        failed
    })
}

/// `None`: the help was asked for, and printed.
fn parse(words: Vec<OsString>) -> anyhow::Result<Option<Args>> {
    let mut command = command_for(&words);
    let words = shorts::spread(&command, words);
    let matches = match command.try_get_matches_from_mut(&words) {
        Ok(matches) => matches,
        Err(err) => return help_or_error(&err, &shorts::path(&command, "rbox oci", &words)),
    };
    let program = Program::from_arg_matches(&matches);
    let program = program.map_err(|err| fail(Kind::Usage, err.to_string()))?;
    Ok(Some(program.args))
}

/// The command line; of commands that are not among the words the arguments are not made, which costs time.
fn command_for(words: &[OsString]) -> Command {
    let is_meant = |inner: &Command| words.iter().any(|word| word == inner.get_name());
    let command = Program::command();
    let asks_help = words.iter().any(|word| word == "--help" || word == "-h");
    if asks_help || !command.get_subcommands().any(is_meant) {
        return made(command);
    }
    with_switch_values(command.mut_subcommands(
        |inner| {
            if is_meant(&inner) { made(inner) } else { inner }
        },
    ))
}

fn help_or_error(err: &clap::Error, command: &str) -> anyhow::Result<Option<Args>> {
    use clap::error::ErrorKind;
    match err.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            output::print(&err.render().to_string())?;
            Ok(None)
        }
        _ => Err(flags::explain(err, command)),
    }
}

/// As callers of runc and crun read it: a line with the version, others with a name and a colon.
fn version(called: Called) -> anyhow::Result<u8> {
    let own = env!("CARGO_PKG_VERSION");
    let first = match called {
        Called::Rbox => format!("rbox version {own}"),
        Called::Runc => format!("runc version {RUNC}\ncommit: rbox-{own}"),
        Called::Crun => format!("crun version {CRUN}\ncommit: rbox-{own}"),
    };
    output::print_line(&format!("{first}\nspec: {VERSION_MAX}"))?;
    Ok(0)
}

impl Verb {
    fn status_of_failure(&self) -> u8 {
        match self {
            Verb::Exec(_) => 255,
            _ => 1,
        }
    }

    fn run(self, context: &Context) -> anyhow::Result<u8> {
        match self {
            Verb::Checkpoint(args) | Verb::Restore(args) => checkpoint::run(&args),
            Verb::Create(args) => create::run(context, args),
            Verb::Delete(args) => delete::run(context, &args),
            Verb::Events(args) => events::run(context, &args),
            Verb::Exec(args) => exec::run(context, args),
            Verb::Features(_) => features::run(),
            Verb::Kill(args) => kill::run(context, &args),
            Verb::List(args) => list::run(context, &args),
            Verb::Pause(args) => pause::run(context, &args),
            Verb::Ps(args) => ps::run(context, &args),
            Verb::Resume(args) => resume::run(context, &args),
            Verb::Run(args) => run::run(context, args),
            Verb::Spec(args) => spec::run(&args),
            Verb::Start(args) => start::run(context, &args),
            Verb::State(args) => state::run(context, &args),
            Verb::Update(args) => update::run(context, args),
        }
    }
}
