//! Flags that say what the container sees of files beside those of its image.

use std::path::PathBuf;

use clap::Args;

use crate::container::config::files::Rootfs;
use crate::container::mounts;
use crate::container::mounts::Mount;
use crate::container::mounts::VolumesFrom;
use crate::container::mounts::device;
use crate::container::mounts::device::Asked;
use crate::container::mounts::mount_flag;
use crate::container::mounts::mount_flag::Mounts;
use crate::container::mounts::volume_flag;
use crate::engine::create::files::ImageVolumes;
use crate::engine::create::files::Systemd;
use crate::engine::create::files::Wish;
use crate::error::Kind;
use crate::error::WithHint;
use crate::error::fail;
use crate::text::size;

#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Files and devices")]
pub struct FilesFlags {
    /// Look for CDI files in this directory [default: /etc/cdi and /var/run/cdi]
    #[arg(long, value_name = "DIR")]
    cdi_spec_dir: Vec<PathBuf>,

    /// Give these directories of the container /etc/hosts, /etc/hostname and /etc/resolv.conf too
    #[arg(long, value_name = "DIR", value_delimiter = ',', value_parser = mounts::destination)]
    chrootdirs: Vec<PathBuf>,

    /// Show a device of the host, or one that a CDI file describes
    #[arg(long, value_name = "DEVICE[:PATH[:rwm]]", value_parser = device::parse)]
    device: Vec<Asked>,

    /// Show GPUs: all, or their names in the CDI files of nvidia.com/gpu
    #[arg(long, value_name = "GPU", value_delimiter = ',', value_parser = gpu)]
    gpus: Vec<Asked>,

    /// Make the volumes that the image names: anonymous, tmpfs, or ignore for none
    #[arg(long, value_name = "KIND", default_value = "anonymous", value_parser = image_volume)]
    image_volume: ImageVolumes,

    /// Mount something: type=bind|devpts|glob|image|ramfs|tmpfs|volume and its options
    #[arg(long, value_name = "type=TYPE,KEY=VALUE…", value_parser = mount_flag::parse)]
    mount: Vec<Mounts>,

    /// Make the root file system read-only
    #[arg(long)]
    read_only: bool,

    /// Leave /run, /tmp, /var/tmp, /dev and /dev/shm writable where the root file system is not
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true,
        default_value = "true", default_missing_value = "true", action = clap::ArgAction::Set,
        hide_default_value = true, hide_possible_values = true)]
    read_only_tmpfs: bool,

    /// Take a directory instead of an image: PATH, or PATH:O to leave it as it is
    #[arg(long)]
    pub rootfs: bool,

    /// Set the size of /dev/shm [default: 64m]
    #[arg(long, value_name = "BYTES", value_parser = size::parse)]
    shm_size: Option<u64>,

    /// Set the size of each tmpfs that systemd gets
    #[arg(long, value_name = "BYTES", value_parser = size::parse)]
    shm_size_systemd: Option<u64>,

    /// Set up for systemd: true if the command is an init, always, or false
    #[arg(long, value_name = "WHEN", default_value = "true", value_parser = systemd)]
    systemd: Systemd,

    /// Mount a file system in memory
    #[arg(long, value_name = "PATH[:OPTIONS]", value_parser = mounts::tmpfs)]
    tmpfs: Vec<Mount>,

    /// Mount a directory or file of the host, or a volume
    #[arg(short, long, value_name = "[SOURCE:]PATH[:OPTIONS]", value_parser = volume_flag::parse)]
    volume: Vec<Mount>,

    /// Mount what another container has of volumes and directories of the host
    #[arg(long, value_name = "CONTAINER[:OPTIONS]", value_parser = mounts::volumes_from)]
    volumes_from: Vec<VolumesFrom>,
}

impl FilesFlags {
    /// `image` is the word that names the image, or with `--rootfs` the directory.
    pub fn into_wish(self, image: &str) -> anyhow::Result<Wish> {
        let mut mounts: Vec<Mount> = self.volume;
        mounts.extend(self.mount.into_iter().flat_map(|mounts| mounts.0));
        mounts.extend(self.tmpfs);
        let mut devices = self.device;
        devices.extend(self.gpus);
        Ok(Wish {
            mounts,
            volumes_from: self.volumes_from,
            image_volumes: self.image_volume,
            devices,
            cdi_dirs: self.cdi_spec_dir,
            read_only: self.read_only,
            read_only_tmpfs: self.read_only_tmpfs,
            shm_size: self.shm_size,
            systemd: self.systemd,
            systemd_size: self.shm_size_systemd,
            chroot_dirs: self.chrootdirs,
            rootfs: if self.rootfs {
                Some(rootfs(image)?)
            } else {
                None
            },
        })
    }
}

/// `PATH`, or `PATH:O`.
fn rootfs(text: &str) -> anyhow::Result<Rootfs> {
    let (path, options) = text.split_once(':').unwrap_or((text, ""));
    let mut overlay = false;
    for option in options.split(',').filter(|option| !option.is_empty()) {
        match option.split_once('=').unwrap_or((option, "")) {
            ("O", "") => overlay = true,
            ("idmap", _) => {
                return Err(fail(
                    Kind::Unsupported,
                    format!(
                        "--rootfs \"{text}\": option idmap is not possible: a root file system is mounted by the container's own ids, and only the owner of a file system may map its ids"
                    ),
                )
                .hint("use `-v PATH:PATH:idmap` as root for what must have other owners"));
            }
            _ => {
                return Err(fail(
                    Kind::Usage,
                    format!("--rootfs \"{text}\": unknown option \"{option}\", expected O"),
                ));
            }
        }
    }
    Ok(Rootfs {
        path: std::path::absolute(path)?,
        overlay,
    })
}

fn gpu(text: &str) -> Result<Asked, String> {
    let name = if device::is_cdi_name(text) {
        text.to_owned()
    } else {
        format!("nvidia.com/gpu={text}")
    };
    if device::is_cdi_name(&name) {
        Ok(Asked::Cdi(name))
    } else {
        Err("expected all, or the name of a GPU in a CDI file".into())
    }
}

fn image_volume(text: &str) -> Result<ImageVolumes, String> {
    match text {
        // The old name of podman's.
        "anonymous" | "bind" => Ok(ImageVolumes::Anonymous),
        "tmpfs" => Ok(ImageVolumes::Tmpfs),
        "ignore" => Ok(ImageVolumes::Ignore),
        _ => Err("expected anonymous, bind, tmpfs or ignore".into()),
    }
}

fn systemd(text: &str) -> Result<Systemd, String> {
    match text {
        "true" => Ok(Systemd::Auto),
        "false" => Ok(Systemd::Never),
        "always" => Ok(Systemd::Always),
        _ => Err("expected true, false or always".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gpus_are_cdi_devices() {
        assert_eq!(gpu("all"), Ok(Asked::Cdi("nvidia.com/gpu=all".into())));
        assert_eq!(gpu("a.b/c=0"), Ok(Asked::Cdi("a.b/c=0".into())));
        assert!(gpu("").is_err() && gpu("a b").is_err());
    }

    #[test]
    fn a_root_file_system_is_a_path() {
        let read = |text| rootfs(text).map(|rootfs| (rootfs.path, rootfs.overlay));
        assert_eq!(read("/a").unwrap(), ("/a".into(), false));
        assert_eq!(read("/a:O").unwrap(), ("/a".into(), true));
        assert!(read("/a:x").is_err() && read("/a:O,idmap").is_err() && read("").is_err());
    }
}
