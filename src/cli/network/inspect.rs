//! `rbox network inspect`.

use serde_json::Value;

use crate::cli::format;
use crate::cli::network::view;
use crate::cli::output;
use crate::engine::Engine;
use crate::error::Kind;
use crate::error::fail;
use crate::network::record;

/// Print all that is known of networks, and who is on them now
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  rbox network inspect lan
  rbox network inspect -f '{{range .Containers}}{{.Name}} {{.IPv4Address}}{{println}}{{end}}' lan")]
pub struct Args {
    /// Print in another form: json, or a Go template
    #[arg(short, long, value_name = "FORMAT", default_value = "json")]
    format: String,

    /// Refused: it tells of swarms
    #[arg(short, long, hide = true)]
    verbose: bool,

    /// Names, or ids
    #[arg(value_name = "NETWORK", required = true)]
    networks: Vec<String>,
}

pub fn run(engine: &Engine, args: Args) -> anyhow::Result<u8> {
    if args.verbose {
        let text = "--verbose: it tells of the services of swarms, and rbox has none";
        return Err(fail(Kind::Unsupported, text));
    }
    let mut failed: Option<anyhow::Error> = None;
    let mut networks = Vec::new();
    for given in &args.networks {
        match record::find(&engine.dirs, given) {
            Ok(network) => networks.push(network),
            Err(err) => {
                if let Some(earlier) = failed.replace(err) {
                    output::print_error(&earlier);
                }
            }
        }
    }
    let all = || {
        networks
            .iter()
            .map(|network| view::with_containers(engine, network))
    };
    if args.format == "json" {
        let values: Vec<Value> = all().collect();
        output::print_line(&serde_json::to_string_pretty(&values)?)?;
    } else if view::is_json_line(&args.format) {
        for value in all() {
            output::print_line(&value.to_string())?;
        }
    } else {
        for network in &networks {
            let value = view::fields_with_containers(engine, network);
            let mut text = format::one(&value, &args.format)?;
            if !text.ends_with('\n') {
                text.push('\n');
            }
            output::print(&text)?;
        }
    }
    match failed {
        Some(err) => Err(err),
        None => Ok(0),
    }
}
