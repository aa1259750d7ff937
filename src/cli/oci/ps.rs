//! `rbox oci ps`.

use std::ffi::OsString;
use std::process::Command;

use anyhow::Context as _;

use crate::bundle::end;
use crate::cli::oci::Context;
use crate::cli::output;
use crate::error::Kind;
use crate::error::fail;

/// List the processes of a container
#[derive(Debug, clap::Args)]
#[command(
    after_help = "A table is what the host's `ps` prints, of the container's processes alone; its options can follow
the id, and its output must have a column PID."
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
    options: Vec<OsString>,
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
    let mut command = Command::new("ps");
    if args.options.is_empty() {
        command.arg("-ef");
    }
    let done = command.args(&args.options).output();
    let done = done.context("cannot execute the host's ps")?;
    let text = String::from_utf8_lossy(&done.stdout);
    if !done.status.success() {
        let said = String::from_utf8_lossy(&done.stderr);
        return Err(fail(Kind::Usage, format!("ps: {}", said.trim())));
    }
    output::print(&only(&text, &pids)?)?;
    Ok(0)
}

/// The heading, and the lines of these processes.
fn only(table: &str, pids: &[i32]) -> anyhow::Result<String> {
    let mut lines = table.lines();
    let heading = lines.next().unwrap_or_default();
    let column = heading.split_whitespace().position(|name| name == "PID");
    let column = column.ok_or_else(|| {
        let text = "these options of ps give no column PID, by which processes are told apart";
        fail(Kind::Usage, text)
    })?;
    let is_one = |line: &&str| {
        let cell = line.split_whitespace().nth(column);
        cell.and_then(|cell| cell.parse().ok())
            .is_some_and(|pid| pids.contains(&pid))
    };
    let mut kept = vec![heading];
    kept.extend(lines.filter(is_one));
    Ok(kept.join("\n") + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_filtered_by_its_pids() {
        let table = "UID   PID CMD\nroot    1 init\nroot   12 sleep 1\n";
        let kept = only(table, &[12, 1000]).unwrap();
        assert_eq!(kept, "UID   PID CMD\nroot   12 sleep 1\n");
        assert!(only("UID CMD\n", &[1]).is_err());
    }
}
