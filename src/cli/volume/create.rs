//! `rbox volume create`.

use crate::cli::output;
use crate::container::mounts;
use crate::container::name;
use crate::engine::Engine;
use crate::engine::volumes;
use crate::error::Kind;
use crate::error::fail;
use crate::volume::Volume;

/// Create a volume and print its name
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Keep the volume by this driver; there is only local
    #[arg(short, long, default_value = "local", value_parser = driver)]
    driver: String,

    /// Give it to this group of the containers that use it
    #[arg(long, value_name = "ID")]
    gid: Option<u32>,

    /// Take the volume of this name if there is one
    #[arg(long)]
    ignore: bool,

    /// Set a label
    #[arg(short, long, value_name = "KEY[=VALUE]")]
    label: Vec<String>,

    /// Set an option of the driver: type=tmpfs, or type=none with device=PATH and o=bind; o=…
    #[arg(short, long, value_name = "KEY=VALUE")]
    opt: Vec<String>,

    /// Give it to this user of the containers that use it
    #[arg(long, value_name = "ID")]
    uid: Option<u32>,

    /// The name; without one a random one
    #[arg(value_name = "NAME")]
    name: Option<String>,
}

fn driver(text: &str) -> Result<String, String> {
    if text == "local" {
        Ok(text.to_owned())
    } else {
        Err("there is only the driver local".into())
    }
}

pub fn run(engine: &Engine, args: Args) -> anyhow::Result<u8> {
    let name = match args.name {
        Some(name) => {
            mounts::volume_name(&name).map_err(|text| fail(Kind::Usage, text))?;
            name
        }
        None => name::random_id()?,
    };
    let mut volume = Volume::named(&name);
    volume.labels = volumes::pairs(&args.label, "--label")?;
    volume.options = volumes::pairs(&args.opt, "--opt")?;
    volume.uid = args.uid;
    volume.gid = args.gid;
    volumes::create(engine, &volume, args.ignore)?;
    output::print_line(&volume.name)?;
    Ok(0)
}
