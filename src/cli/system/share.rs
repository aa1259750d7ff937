//! `rbox system share`.

use std::path::PathBuf;

use crate::store::additional;

/// Make a store of images for all users of this machine
#[derive(Debug, clap::Args)]
#[command(
    after_help = "You alone put images there and remove them, with `rbox --imagestore PATH` before a command. Others name it in additionalimagestores of storage.conf, or with `rbox --storage-opt additionalimagestore=PATH`, and use its images without copying them.

Examples:
  sudo rbox system share /srv/images
  sudo rbox --imagestore /srv/images pull debian
  rbox --storage-opt additionalimagestore=/srv/images run debian true"
)]
pub struct Args {
    /// A directory that is empty or does not exist
    path: PathBuf,
}

pub fn run(args: &Args) -> anyhow::Result<u8> {
    additional::make(&args.path)?;
    Ok(0)
}
