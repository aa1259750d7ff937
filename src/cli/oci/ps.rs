//! `rbox oci ps`.

use crate::bundle::end;
use crate::cli::oci::Context;
use crate::cli::output;
use crate::cli::top;
use crate::cli::top::Shape;
use crate::engine::processes::Process;

/// List the processes of a container
#[derive(Debug, clap::Args)]
#[command(
    after_help = "The table is that of ps(1), read from /proc: no program is executed. Options of it can follow the id: \
-e -f -F -j -l -o LIST, aux, ax, --no-headers."
)]
pub struct Args {
    /// Print a table, or json: the pids as the host counts them
    #[arg(short, long, value_name = "FORMAT", default_value = "table", value_parser = ["table", "json"])]
    format: String,

    /// The container
    #[arg(value_name = "ID")]
    id: String,

    /// Options of ps(1) [default: -ef]
    #[arg(
        value_name = "PS-OPTION",
        trailing_var_arg = true,
        allow_hyphen_values = true
    )]
    options: Vec<String>,
}

pub fn run(context: &Context, args: &Args) -> anyhow::Result<u8> {
    let container = context.find(&args.id)?;
    container.live()?;
    let pids: Vec<i32> = end::processes(&container)?
        .into_iter()
        .map(rustix::process::Pid::as_raw_pid)
        .collect();
    if args.format == "json" {
        output::print_line(&serde_json::to_string(&pids)?)?;
        return Ok(0);
    }
    let shape = Shape::of_ps(&args.options)?;
    let processes: Vec<Process> = pids.into_iter().filter_map(Process::of).collect();
    output::print(&top::table(&processes, &shape, None))?;
    Ok(0)
}
