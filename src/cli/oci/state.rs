//! `rbox oci state`.

use std::collections::BTreeMap;
use std::path::Path;

use jiff::Timestamp;
use serde::Serialize;

use crate::bundle::Container;
use crate::bundle::Status;
use crate::cli::oci::Context;
use crate::cli::output;

/// Print the state of a container as JSON
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The container
    #[arg(value_name = "ID")]
    id: String,
}

/// The state of the specification, and what runc adds to it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Printed<'a> {
    oci_version: &'a str,
    pub id: &'a str,
    /// 0 once it has ended.
    pub pid: i32,
    pub status: &'static str,
    pub bundle: &'a Path,
    rootfs: &'a Path,
    pub created: Timestamp,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: &'a BTreeMap<String, String>,
    pub owner: String,
}

impl Printed<'_> {
    pub fn of(container: &Container) -> anyhow::Result<Printed<'_>> {
        let state = &container.state;
        let status = container.status()?;
        let init = state.init.filter(|_| status != Status::Stopped);
        Ok(Printed {
            oci_version: &state.oci_version,
            id: &state.id,
            pid: init.map_or(0, |init| init.pid),
            status: status.name(),
            bundle: &state.bundle,
            rootfs: &state.rootfs,
            created: state.created,
            annotations: &state.annotations,
            owner: String::new(),
        })
    }
}

pub fn run(context: &Context, args: &Args) -> anyhow::Result<u8> {
    let container = context.find(&args.id)?;
    let printed = Printed::of(&container)?;
    output::print_line(&serde_json::to_string_pretty(&printed)?)?;
    Ok(0)
}
