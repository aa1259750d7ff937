//! `rbox network ls`.

use serde_json::Value;
use serde_json::json;

use crate::cli::format;
use crate::cli::network::filter;
use crate::cli::network::filter::Filters;
use crate::cli::network::view;
use crate::cli::output;
use crate::container::name;
use crate::engine::Engine;
use crate::network::record;
use crate::network::record::Network;

/// List networks
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  rbox network ls --filter dangling=true
  rbox network ls --format '{{.Name}}: {{range .Subnets}}{{.Subnet}} {{end}}'")]
pub struct Args {
    /// Only those that fit: dangling=, driver=, id=, label=, label!=, name=, scope=, type=, until=
    #[arg(short, long, value_name = "KEY=VALUE")]
    filter: Vec<String>,

    /// Print in another form: json, or a Go template
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,

    /// Print whole ids
    #[arg(long)]
    no_trunc: bool,

    /// Print no heading
    #[arg(short = 'n', long)]
    noheading: bool,

    /// Print names alone
    #[arg(short, long)]
    quiet: bool,
}

const DEFAULT: &str = "table {{.ID}}\t{{.Name}}\t{{.Driver}}";
const HEADERS: [(&str, &str); 1] = [("ID", "NETWORK ID")];

pub fn run(engine: &Engine, args: Args) -> anyhow::Result<u8> {
    let filters = Filters::parse(engine, &args.filter, filter::OF_LS)?;
    let mut damaged = Vec::new();
    let mut networks = record::all(&engine.dirs, |err| damaged.push(err))?;
    networks.retain(|network| filters.fit(network));
    output::print_damaged(&damaged);
    let format = args.format.as_deref();
    if args.quiet && format.is_none() {
        for network in &networks {
            output::print_line(&network.name)?;
        }
        return Ok(0);
    }
    if format == Some("json") {
        let values: Vec<Value> = networks.iter().map(view::json).collect();
        output::print_line(&serde_json::to_string_pretty(&values)?)?;
        return Ok(0);
    }
    if format.is_some_and(view::is_json_line) {
        for network in &networks {
            output::print_line(&view::json(network).to_string())?;
        }
        return Ok(0);
    }
    let fields = |network: &Network| {
        let mut value = view::fields(network);
        if !args.no_trunc {
            value["ID"] = json!(name::short(&network.id));
        }
        value
    };
    let values: Vec<Value> = networks.iter().map(fields).collect();
    let text = format::list(&values, format, DEFAULT, &HEADERS, !args.noheading)?;
    output::print(&text)?;
    Ok(0)
}
