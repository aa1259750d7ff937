//! `rbox cp`.

use std::io::IsTerminal;
use std::path::PathBuf;

use anyhow::Context;

use crate::cli::output;
use crate::container::record::Container;
use crate::engine::Engine;
use crate::engine::copy;
use crate::engine::copy::End;
use crate::engine::copy::Options;
use crate::error::Kind;
use crate::error::WithHint;
use crate::error::fail;

/// Copy files between a container and the host, or two containers
#[derive(Debug, clap::Args)]
#[command(
    after_help = "A path in a container begins at its root. A directory is copied into a directory that
exists; with /. at its end, its contents are. `-` is an archive (tar) on standard input or output.
Files belong to who copies them on the host, and to the container's user in a container.

Examples:
  rbox cp web:/etc/nginx/nginx.conf .
  rbox cp ./site/. web:/srv
  rbox cp one:/data two:/
  tar cz site | rbox cp - web:/srv
  rbox cp web:/var/log - | tar t"
)]
pub struct Args {
    /// Give what is copied to a container to its user; else its files keep their owners' numbers
    #[arg(short, long, value_name = "BOOL", action = clap::ArgAction::Set, num_args = 0..=1,
        require_equals = true, default_value = "true", default_missing_value = "true",
        value_parser = clap::builder::BoolishValueParser::new())]
    archive: bool,

    /// Copy what a source that is a symbolic link leads to; else the link itself
    #[arg(short = 'L', long, value_name = "BOOL", action = clap::ArgAction::Set, num_args = 0..=1,
        require_equals = true, default_value = "true", default_missing_value = "true",
        value_parser = clap::builder::BoolishValueParser::new())]
    follow_link: bool,

    /// Let files take the place of directories, and directories that of files
    #[arg(long)]
    overwrite: bool,

    /// What is copied: CONTAINER:PATH, a path of the host, or - for an archive
    #[arg(value_name = "SOURCE")]
    from: String,

    /// Where to: CONTAINER:PATH, a path of the host, or - for an archive
    #[arg(value_name = "TARGET")]
    to: String,
}

pub fn run(engine: &Engine, args: &Args) -> anyhow::Result<u8> {
    let (from, to) = (end(engine, &args.from)?, end(engine, &args.to)?);
    if matches!(from, End::Stream) && std::io::stdin().is_terminal() {
        return Err(fail(Kind::Usage, "cannot read an archive from a terminal")
            .hint("redirect standard input: `rbox cp - CONTAINER:PATH <FILE`"));
    }
    if matches!(to, End::Stream) && std::io::stdout().is_terminal() {
        return Err(fail(Kind::Usage, "cannot write an archive to a terminal")
            .hint("redirect standard output: `rbox cp CONTAINER:PATH - >FILE`"));
    }
    let options = Options {
        give_to_user: args.archive,
        follow: args.follow_link,
        overwrite: args.overwrite,
    };
    let passed = copy::copy(engine, &from, &to, options)
        .with_context(|| format!("cannot copy \"{}\" to \"{}\"", args.from, args.to))?;
    if passed.devices > 0 {
        output::print_warning(&format!(
            "{} device{} passed over: nobody without privileges can make one",
            passed.devices,
            if passed.devices == 1 { "" } else { "s" }
        ));
    }
    Ok(0)
}

/// As Docker and Podman take it: a colon makes it a container's, unless the path begins as one of the host.
fn end(engine: &Engine, text: &str) -> anyhow::Result<End> {
    if text == "-" {
        return Ok(End::Stream);
    }
    if text.is_empty() {
        return Err(fail(Kind::Usage, "\"\" is no path"));
    }
    if text.starts_with(['.', '/']) {
        return Ok(End::Host(text.into()));
    }
    let Some((name, path)) = text.split_once(':') else {
        return Ok(End::Host(text.into()));
    };
    let container = Container::find(&engine.dirs, name)
        .map_err(|err| err.hint(format!("a file of the host by this name is `./{text}`")))?;
    let path = if path.is_empty() { "/" } else { path };
    Ok(End::Container(Box::new(container), PathBuf::from(path)))
}
