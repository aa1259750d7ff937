//! The namespaces that a container shares with others, as they are at its start.

use std::os::fd::AsFd;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::path::PathBuf;

use anyhow::Context;
use oci_spec::runtime::LinuxNamespaceType;

use crate::container::config;
use crate::container::config::Config;
use crate::container::config::namespaces::Namespace;
use crate::container::config::process::Network;
use crate::container::record::Container;
use crate::container::status::State;
use crate::container::status::Status;
use crate::engine::Engine;
use crate::engine::connect::not_running;
use crate::error::Kind;
use crate::error::WithHint;
use crate::error::fail;
use crate::runtime::Joins;
use crate::runtime::Userns;
use crate::runtime::join;
use crate::sys::namespace;
use crate::sys::process;

/// What is joined, as descriptors and, for the specification, as paths.
#[derive(Debug, Default)]
pub struct Shared {
    pub joins: Joins,
    pub paths: Vec<(LinuxNamespaceType, PathBuf)>,
    /// The other container's /dev/shm, as a mount that is attached nowhere.
    pub shm: Option<OwnedFd>,
}

/// Opens them, each from a process that is known to be the right one.
///
/// Must: be called by a single-threaded process.
pub fn open(engine: &Engine, config: &Config) -> anyhow::Result<Shared> {
    let namespaces = &config.process.namespaces;
    let network = match &config.process.network {
        Network::None | Network::Private { .. } | Network::Bridge => Namespace::Private,
        Network::Host => Namespace::Host,
        Network::Container(id) => Namespace::Container(id.clone()),
        Network::Path(path) => Namespace::Path(path.clone()),
    };
    let mut shared = Shared::default();
    for (kind, namespace) in [
        (LinuxNamespaceType::Pid, &namespaces.pid),
        (LinuxNamespaceType::Ipc, &namespaces.ipc),
        (LinuxNamespaceType::Uts, &namespaces.uts),
        (LinuxNamespaceType::Cgroup, &namespaces.cgroup),
        (LinuxNamespaceType::Network, &network),
        (LinuxNamespaceType::Time, &namespaces.time),
    ] {
        match namespace {
            Namespace::Private | Namespace::Host => {}
            Namespace::Container(id) => shared.join_container(engine, kind, id)?,
            Namespace::Path(path) => namespace::open(path)
                .map_err(anyhow::Error::new)
                .and_then(|fd| shared.join(kind, path, fd))
                .with_context(|| format!("cannot join namespace {}", path.display()))?,
        }
    }
    Ok(shared)
}

impl Shared {
    /// The user namespace of the container, of which `chosen` is what it would have without the others.
    pub fn userns(&mut self, config: &Config, chosen: Userns) -> anyhow::Result<Userns> {
        let Some(owner) = self.joins.take_owner() else {
            return Ok(chosen);
        };
        let same = match &chosen {
            Userns::New => config.identity.userns == config::identity::Userns::Default,
            Userns::Join(own) => namespace::same(own.as_fd(), owner.as_fd())?,
            Userns::Within(_) | Userns::Host => false,
        };
        if same {
            return Ok(Userns::Join(owner));
        }
        let text = "the namespaces that it shares belong to another user namespace than its own";
        Err(fail(Kind::Conflict, text).hint("leave out `--userns`, or join that one too"))
    }

    fn join_container(
        &mut self,
        engine: &Engine,
        kind: LinuxNamespaceType,
        id: &str,
    ) -> anyhow::Result<()> {
        let other = Container::find(&engine.dirs, id)?;
        let (_, name) = join::kind(kind);
        let cannot = || {
            format!(
                "cannot join the {name} namespace of container \"{}\"",
                other.name
            )
        };
        let Status::Running(State {
            pid, start_ticks, ..
        }) = other.status()?
        else {
            return Err(not_running(&other)).with_context(cannot);
        };
        let path = PathBuf::from(format!("/proc/{pid}/ns/{name}"));
        let fd = namespace::open(&path).with_context(cannot)?;
        // Looked at after the file was opened: the pid was still its own then.
        let Some(init) = process::open_started(pid, start_ticks) else {
            return Err(not_running(&other)).with_context(cannot);
        };
        self.join(kind, &path, fd).with_context(cannot)?;
        if kind == LinuxNamespaceType::Ipc {
            let shm = join::clone_mount_of(init.as_fd(), Path::new("/dev/shm"));
            self.shm = shm.with_context(|| {
                format!("cannot share /dev/shm of container \"{}\"", other.name)
            })?;
        }
        Ok(())
    }

    fn join(&mut self, kind: LinuxNamespaceType, path: &Path, fd: OwnedFd) -> anyhow::Result<()> {
        if !self.joins.add(kind, fd)? {
            return Ok(());
        }
        self.paths.push((kind, path.to_owned()));
        Ok(())
    }
}
