//! `rbox volume ls`.

use serde_json::Value;

use crate::cli::format;
use crate::cli::output;
use crate::cli::volume::filter::Filters;
use crate::cli::volume::inspect;
use crate::engine::Engine;
use crate::volume;

/// List volumes
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only those that fit: dangling=, driver=, label=, name=, opt=, scope=, until=, since=, anonymous=
    #[arg(short, long, value_name = "KEY=VALUE")]
    filter: Vec<String>,

    /// Print in another form: json, or a Go template
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,

    /// Print no heading
    #[arg(short = 'n', long)]
    noheading: bool,

    /// Print names alone
    #[arg(short, long)]
    quiet: bool,
}

const DEFAULT: &str = "table {{.Driver}}\t{{.Name}}";
const HEADERS: [(&str, &str); 1] = [("Name", "VOLUME NAME")];

pub fn run(engine: &Engine, args: Args) -> anyhow::Result<u8> {
    let filters = Filters::parse(engine, &args.filter)?;
    let mut damaged = Vec::new();
    let mut volumes = volume::list(&engine.dirs, |err| damaged.push(err))?;
    output::print_damaged(&damaged);
    volumes.retain(|volume| filters.fit(volume));
    if args.quiet && args.format.is_none() {
        for volume in &volumes {
            output::print_line(&volume.name)?;
        }
        return Ok(0);
    }
    let values: Vec<Value> = volumes
        .iter()
        .map(|volume| inspect::describe(engine, volume))
        .collect::<anyhow::Result<_>>()?;
    let format = args.format.as_deref();
    if format == Some("json") {
        output::print_line(&serde_json::to_string_pretty(&values)?)?;
        return Ok(0);
    }
    let text = format::list(&values, format, DEFAULT, &HEADERS, !args.noheading)?;
    output::print(&text)?;
    Ok(0)
}
