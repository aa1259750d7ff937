//! Flags that say what the container sees of files beside those of its image.

use std::path::PathBuf;

use clap::Args;

use crate::container::config::files::Volume;
use crate::engine::create::files::Wish;
use crate::text::size;

#[derive(Clone, Debug, Args)]
pub struct FilesFlags {
    /// Make the root file system read-only
    #[arg(long)]
    read_only: bool,

    /// Set the size of /dev/shm [default: 64m]
    #[arg(long, value_name = "BYTES", value_parser = size::parse)]
    shm_size: Option<u64>,

    /// Show a directory or file of the host in the container
    #[arg(short, long, value_name = "HOST:CONTAINER[:OPTIONS]", value_parser = volume)]
    volume: Vec<Volume>,
}

impl FilesFlags {
    pub fn into_wish(self) -> anyhow::Result<Wish> {
        Ok(Wish {
            volumes: self.volume,
            read_only: self.read_only,
            shm_size: self.shm_size,
        })
    }
}

fn volume(text: &str) -> Result<Volume, String> {
    let parts: Vec<&str> = text.split(':').collect();
    let (source, destination, options) = match parts.as_slice() {
        [source, destination] => (*source, *destination, ""),
        [source, destination, options] => (*source, *destination, *options),
        _ => return Err("expected HOST:CONTAINER or HOST:CONTAINER:OPTIONS".into()),
    };
    if !source.starts_with(['/', '.']) {
        return Err(format!(
            "named volumes are not supported yet: expected a path instead of \"{source}\""
        ));
    }
    if !destination.starts_with('/') {
        return Err(format!("\"{destination}\" is not an absolute path"));
    }
    let mut read_only = false;
    for option in options.split(',').filter(|option| !option.is_empty()) {
        match option {
            "ro" => read_only = true,
            "rw" | "rbind" | "rprivate" | "private" | "nosuid" | "nodev" => {}
            _ => {
                return Err(format!(
                    "option \"{option}\" is not supported yet: use ro or rw"
                ));
            }
        }
    }
    let source = std::path::absolute(source).map_err(|err| err.to_string())?;
    Ok(Volume {
        source,
        destination: PathBuf::from(destination),
        read_only,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn volumes_have_two_or_three_parts() {
        let read = |text| volume(text).map(|volume| (volume.source, volume.read_only));
        assert_eq!(read("/a:/b"), Ok(("/a".into(), false)));
        assert_eq!(read("/a:/b:ro"), Ok(("/a".into(), true)));
        for wrong in ["/a", "a:/b", "/a:b", "/a:/b:ro:x", "/a:/b:zzz"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
