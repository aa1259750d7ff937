//! The image of all rows: Debian's static busybox, as a docker-archive made here, and as an unpacked tree.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use anyhow::Context;
use anyhow::Result;
use serde_json::json;
use sha2::Digest;
use sha2::Sha256;

use crate::archive::add;
use crate::archive::hex;

const BUSYBOX: &str = "/bin/busybox";
const COMMANDS: [&str; 6] = ["true", "sh", "sleep", "echo", "cat", "ls"];
const DIRECTORIES: [&str; 9] = [
    "bin", "dev", "etc", "proc", "sys", "tmp", "root", "run", "var",
];

/// Makes the root file system that the floor and crun use.
pub fn unpacked(root: &Path) -> Result<()> {
    for name in DIRECTORIES {
        fs::create_dir_all(root.join(name))?;
    }
    let busybox = root.join("bin/busybox");
    fs::copy(BUSYBOX, busybox).context("the package busybox-static is needed")?;
    for name in COMMANDS {
        symlink("busybox", root.join("bin").join(name))?;
    }
    Ok(())
}

/// Writes an archive, `docker.io/library/busybox:latest`, that podman and rbox load.
pub fn archive(path: &Path, root: &Path) -> Result<()> {
    let mut layer = tar::Builder::new(Vec::new());
    layer.follow_symlinks(false);
    layer.append_dir_all(".", root)?;
    let layer = layer.into_inner()?;
    let config = json!({
        "architecture": "amd64",
        "os": "linux",
        "created": "2026-01-01T00:00:00Z",
        "config": {"Env": ["PATH=/bin"], "Cmd": ["sh"]},
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{}", hex(&Sha256::digest(&layer)))]},
        "history": [{"created": "2026-01-01T00:00:00Z", "created_by": "bench"}],
    });
    let config = serde_json::to_vec(&config)?;
    let config_name = format!("{}.json", hex(&Sha256::digest(&config)));
    let manifest = json!([{
        "Config": config_name,
        "RepoTags": ["docker.io/library/busybox:latest"],
        "Layers": ["layer.tar"],
    }]);
    let mut archive = tar::Builder::new(fs::File::create(path)?);
    add(&mut archive, "layer.tar", &layer)?;
    add(&mut archive, &config_name, &config)?;
    add(
        &mut archive,
        "manifest.json",
        &serde_json::to_vec(&manifest)?,
    )?;
    archive.finish()?;
    Ok(())
}
