//! `rbox version`.

use std::io::Write;

use anyhow::Result;
use clap::Args;
use serde_json::json;

use crate::cli::format;
use crate::engine::info;

/// Show the version of rbox
#[derive(Args, Debug)]
pub struct Version {
    /// Print as json or by a Go template
    #[arg(short, long, value_name = "json|TEMPLATE")]
    format: Option<String>,
}

pub fn run(args: &Version, out: &mut dyn Write) -> Result<()> {
    let version = info::version();
    let text = match &args.format {
        Some(format) => format::one(&json!({ "Client": version }), format)?,
        None => format!(
            "Client:       rbox\nVersion:      {}\nOS/Arch:      {}\n",
            version.version, version.os_arch
        ),
    };
    Ok(out.write_all(text.as_bytes())?)
}
