//! `rbox oci list`.

use crate::bundle::Container;
use crate::cli::oci::Context;
use crate::cli::oci::state::Printed;
use crate::cli::output;
use crate::config::ids;
use crate::text::table::Table;
use crate::text::time;

/// List the containers of this root directory
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Print a table or json
    #[arg(short, long, value_name = "FORMAT", default_value = "table", value_parser = ["table", "json"])]
    format: String,

    /// Print ids alone
    #[arg(short, long)]
    quiet: bool,
}

pub fn run(context: &Context, args: &Args) -> anyhow::Result<u8> {
    context.root.sweep()?;
    let all = context.root.list(&mut |err| context.warn(&err))?;
    if args.quiet {
        for one in &all {
            output::print_line(&one.state.id)?;
        }
        return Ok(0);
    }
    let printed = all.iter().map(|one| {
        let mut printed = Printed::of(one)?;
        printed.owner = owner(one)?;
        Ok(printed)
    });
    let printed = printed.collect::<anyhow::Result<Vec<_>>>()?;
    if args.format == "json" {
        output::print_line(&serde_json::to_string(&printed)?)?;
        return Ok(0);
    }
    let mut table = Table::with_heading(["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"]);
    for one in &printed {
        table.row([
            one.id.to_owned(),
            one.pid.to_string(),
            one.status.to_owned(),
            one.bundle.display().to_string(),
            time::rfc3339_nano(one.created, &jiff::tz::TimeZone::UTC),
            one.owner.clone(),
        ]);
    }
    output::print(&table.render())?;
    Ok(0)
}

fn owner(container: &Container) -> anyhow::Result<String> {
    let uid = rustix::fs::fstat(&container.fd)?.st_uid;
    Ok(ids::user_name(uid).unwrap_or_else(|| uid.to_string()))
}
