//! `create`: an image and what the user asks for become the record of a container.

use std::collections::BTreeMap;
use std::path::Path;
use std::path::PathBuf;

use anyhow::Context;
use jiff::Timestamp;

use crate::container::config::Config;
use crate::container::config::Network;
use crate::container::config::Seccomp;
use crate::container::config::Volume;
use crate::container::name;
use crate::container::record::Container;
use crate::engine::Engine;
use crate::engine::sweep;
use crate::error::Kind;
use crate::error::WithHint;
use crate::error::fail;
use crate::image;
use crate::image::Image;
use crate::store::atomic::Durability;
use crate::store::lock::Lock;
use crate::text::signal;

/// What the user asks for. Absent is what the image says.
#[derive(Clone, Debug)]
pub struct Request {
    pub image: String,
    pub command: Vec<String>,
    pub entrypoint: Option<Vec<String>>,
    pub name: Option<String>,
    pub env: Vec<String>,
    pub workdir: Option<String>,
    pub user: Option<String>,
    pub hostname: Option<String>,
    pub labels: BTreeMap<String, String>,
    pub network: Network,
    pub volumes: Vec<Volume>,
    pub terminal: bool,
    pub interactive: bool,
    pub remove: bool,
    pub read_only: bool,
    pub seccomp: Seccomp,
    pub shm_size: Option<u64>,
    pub no_new_privileges: bool,
    pub stop_signal: Option<i32>,
    pub stop_timeout: Option<u32>,
}

/// Bytes of /dev/shm, as in Docker and Podman.
const DEFAULT_SHM_SIZE: u64 = 64 << 20;

/// Creates a container of an image that is in the store.
pub fn create(engine: &Engine, image: &Image, request: Request) -> anyhow::Result<Container> {
    let dirs = &engine.dirs;
    let cannot = match &request.name {
        Some(name) => format!("cannot create container \"{name}\""),
        None => "cannot create container".to_owned(),
    };
    let given_name = request.name.clone();
    let durability = if request.remove {
        // It does not outlive this boot; the kernel need not wait for the disk.
        Durability::Volatile
    } else {
        Durability::Durable
    };
    sweep::sweep(engine)?;
    let _references = Lock::shared(&dirs.lock_file())?;
    let config = config(engine, image, request).context(cannot.clone())?;
    if let Some(name) = given_name {
        name::check(&name).context(cannot.clone())?;
        let container = Container::at(dirs, name, config);
        container.create(dirs, durability).context(cannot)?;
        return Ok(container);
    }
    loop {
        let container = Container::at(dirs, name::random()?, config.clone());
        match container.create(dirs, durability) {
            Err(err) if crate::error::kind(&err) == Some(Kind::Conflict) => {}
            result => return result.map(|()| container).context(cannot),
        }
    }
}

fn config(engine: &Engine, image: &Image, request: Request) -> anyhow::Result<Config> {
    let ids = engine.ids()?;
    let tag = ids.maps.tag();
    // Also says so where a layer has been unpacked for other ids.
    let lower = image::layers::lowerdirs(&engine.dirs, image, &tag)?;
    let id = name::random_id()?;
    let from_image = image.config.untrusted();
    let (entrypoint, command) = match request.entrypoint {
        // An entrypoint of the user's makes the image's command meaningless.
        Some(entrypoint) => (entrypoint, request.command),
        None if request.command.is_empty() => {
            (from_image.entrypoint.clone(), from_image.cmd.clone())
        }
        None => (from_image.entrypoint.clone(), request.command),
    };
    if entrypoint.is_empty() && command.is_empty() {
        return Err(fail(
            Kind::Usage,
            format!(
                "image \"{}\" has no command, and none was given",
                request.image
            ),
        )
        .hint(format!("give one: `rbox run {} COMMAND`", request.image)));
    }
    // The image's word is taken where it is a signal at all.
    let stop_signal = request
        .stop_signal
        .or_else(|| signal::parse(&from_image.stop_signal).ok())
        .unwrap_or(libc::SIGTERM);
    let hostname = request.hostname.unwrap_or_else(|| match request.network {
        Network::None => id[..12].to_owned(),
        Network::Host => rustix::system::uname()
            .nodename()
            .to_string_lossy()
            .into_owned(),
    });
    for volume in &request.volumes {
        check_volume(volume)?;
    }
    Ok(Config {
        created: Timestamp::now(),
        image: image
            .names
            .first()
            .map_or(request.image, ToString::to_string),
        image_id: image.id.to_string(),
        layers: image.layers.clone(),
        lower,
        ids: tag,
        entrypoint,
        command,
        env: merge_env(&from_image.env, request.env),
        workdir: absolute(
            &request
                .workdir
                .unwrap_or_else(|| from_image.working_dir.clone()),
        ),
        user: request.user.unwrap_or_else(|| from_image.user.clone()),
        hostname,
        labels: {
            let mut labels: BTreeMap<String, String> = from_image
                .labels
                .iter()
                .map(|(key, value)| (key.clone(), value.clone()))
                .collect();
            labels.extend(request.labels);
            labels
        },
        network: request.network,
        volumes: request.volumes,
        terminal: request.terminal,
        interactive: request.interactive,
        remove: request.remove,
        read_only: request.read_only,
        seccomp: request.seccomp,
        shm_size: request.shm_size.unwrap_or(DEFAULT_SHM_SIZE),
        no_new_privileges: request.no_new_privileges,
        stop_signal,
        stop_timeout: request.stop_timeout.unwrap_or(10),
        id,
    })
}

/// The image's variables, each replaced by the user's of the same name. An entry of the image
/// without `=` is dropped: nothing is looked up on the host for it (CVE-2020-14370).
fn merge_env(image: &[String], user: Vec<String>) -> Vec<String> {
    let name = |variable: &str| variable.split('=').next().map(str::to_owned);
    let mut env: Vec<String> = Vec::new();
    let image = image.iter().filter(|variable| variable.contains('='));
    for variable in image.cloned().chain(user) {
        match env.iter_mut().find(|known| name(known) == name(&variable)) {
            Some(known) => *known = variable,
            None => env.push(variable),
        }
    }
    env
}

fn absolute(workdir: &str) -> String {
    if workdir.starts_with('/') {
        workdir.to_owned()
    } else {
        format!("/{workdir}")
    }
}

fn check_volume(volume: &Volume) -> anyhow::Result<()> {
    match volume.source.try_exists() {
        Ok(true) => Ok(()),
        Ok(false) => Err(fail(
            Kind::NotFound,
            format!("volume source {} does not exist", volume.source.display()),
        )
        .hint(format!("make it: `mkdir -p {}`", volume.source.display()))),
        Err(err) => Err(err).with_context(|| format!("cannot use {}", volume.source.display())),
    }
}

/// The directories of a container's own file system.
pub fn overlay_dirs(data: &Path) -> [PathBuf; 3] {
    [data.join("upper"), data.join("work"), data.join("merged")]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_users_variables_win_and_the_images_never_reach_the_host() {
        let image = ["A=1", "SECRET", "B=2", "S*"].map(String::from);
        let user = vec!["B=3".to_owned(), "C=4".to_owned(), "C=5".to_owned()];
        assert_eq!(merge_env(&image, user), ["A=1", "B=3", "C=5"]);
    }

    #[test]
    fn a_working_directory_is_absolute() {
        assert_eq!(absolute(""), "/");
        assert_eq!(absolute("srv"), "/srv");
        assert_eq!(absolute("/srv"), "/srv");
    }
}
