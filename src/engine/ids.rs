//! The ids of a container: chosen when it is created (`create::identity`), found again here when it is
//! started, joined or looked at.

use std::os::fd::AsFd;
use std::os::fd::OwnedFd;
use std::path::Path;

use anyhow::Context;
use rustix::fs::Mode;
use rustix::fs::OFlags;

use crate::config::ids::Account;
use crate::config::ids::Ids;
use crate::config::mapping;
use crate::container::config::Config;
use crate::container::config::Identity;
use crate::container::config::identity::Userns;
use crate::container::mounts::Source;
use crate::container::record::Container;
use crate::container::status::Status;
use crate::engine::connect::not_running;
use crate::error::Kind;
use crate::error::WithHint;
use crate::error::fail;
use crate::runtime;
use crate::runtime::Wanted;
use crate::runtime::accounts::Accounts;
use crate::store::dirs::Dirs;
use crate::store::helper::Helper;
use crate::sys::idmap;
use crate::sys::idmap::IdMaps;
use crate::sys::idmap::IdRange;
use crate::sys::process;
use crate::sys::userns as namespace;

/// What is mapped in a container of this identity.
pub fn of(identity: &Identity) -> anyhow::Result<IdMaps> {
    match identity.userns.maps() {
        Some(maps) => Ok(maps.clone()),
        None => Ok(Ids::detect()?.maps),
    }
}

/// Names the owners of files on disk for a container with `maps`, where containers of the user have
/// `default` otherwise.
pub fn tag(default: &IdMaps, maps: &IdMaps) -> String {
    if default.is_single() || !maps.is_single() {
        return maps.tag();
    }
    // One id of several: the others keep their own files.
    let map = |ranges: &[IdRange]| {
        ranges
            .first()
            .map(|range| format!("{}:{}", range.inside, range.outside))
    };
    format!(
        "one:{}/{}",
        map(&maps.uids).unwrap_or_default(),
        map(&maps.gids).unwrap_or_default()
    )
}

/// The user namespace for the start of a container.
pub fn userns(dirs: &Dirs, config: &Config) -> anyhow::Result<runtime::Userns> {
    match &config.identity.userns {
        Userns::Default | Userns::Own { .. } => Ok(runtime::Userns::New),
        Userns::Host => Ok(runtime::Userns::Host),
        Userns::Container { id, .. } => {
            let other = Container::find(dirs, id)
                .with_context(|| format!("cannot join the user namespace of container \"{id}\""))?;
            of_container(&other).map(runtime::Userns::Join)
        }
        Userns::Path { path, .. } => open(path).map(runtime::Userns::Join),
    }
}

/// A user namespace that is joined must have the ids that the container was created for: its files on disk
/// belong to these.
///
/// Must: be called by a single-threaded process.
pub fn check_joined(userns: &runtime::Userns, maps: &IdMaps) -> anyhow::Result<()> {
    let runtime::Userns::Join(userns) = userns else {
        return Ok(());
    };
    let (uids, gids) = namespace::maps_of(userns.as_fd())?;
    let same = |one: &[IdRange], other: &[IdRange]| mapping::tidy(one) == mapping::tidy(other);
    if same(&uids, &maps.uids) && same(&gids, &maps.gids) {
        return Ok(());
    }
    Err(fail(
        Kind::Conflict,
        "the user namespace that it joins has other ids than it was created with",
    )
    .hint("create it with `--userns=container:NAME` of the one that it shares namespaces with"))
}

/// The user namespace of a running container.
pub fn of_container(other: &Container) -> anyhow::Result<OwnedFd> {
    let cannot = || {
        format!(
            "cannot join the user namespace of container \"{}\"",
            other.name
        )
    };
    let Status::Running(state) = other.status()? else {
        return Err(not_running(other)).with_context(cannot);
    };
    let init = process::open_started(state.pid, state.start_ticks)
        .ok_or_else(|| not_running(other))
        .with_context(cannot)?;
    let userns = open(Path::new(&format!("/proc/{}/ns/user", state.pid))).with_context(cannot)?;
    // The pid was that container's all the time that it took to open the file.
    anyhow::ensure!(
        crate::sys::poll::readable([Some(init.as_fd())], Some(std::time::Duration::ZERO))?
            == [false],
        not_running(other)
    );
    Ok(userns)
}

/// A user namespace by the path of its file.
pub fn open(path: &Path) -> anyhow::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    rustix::fs::open(path, flags, Mode::empty())
        .with_context(|| format!("cannot open user namespace {}", path.display()))
}

/// The user of the container's first process.
pub fn wanted(identity: &Identity) -> Wanted<'_> {
    Wanted {
        user: &identity.user,
        groups: &identity.groups,
        keep_groups: identity.keep_groups,
    }
}

/// What its passwd and group files may lack.
pub fn accounts(config: &Config) -> Option<Accounts> {
    let identity = &config.identity;
    let numeric = identity.user.starts_with(|c: char| c.is_ascii_digit());
    if identity.no_passwd || !numeric && identity.users.is_empty() {
        return None;
    }
    let workdir = if config.process.workdir.is_empty() {
        "/"
    } else {
        &config.process.workdir
    };
    // As Podman has it: the home of a user of the host is his own only where it is mounted.
    let home = |home: &str| {
        let mounted = config.files.mounts.iter().any(|mount| {
            matches!(mount.source, Source::Bind { .. })
                && Path::new(home).starts_with(&mount.destination)
        });
        if mounted { home } else { workdir }.to_owned()
    };
    let users = identity.users.iter().map(|user| Account {
        home: home(&user.home),
        ..user.clone()
    });
    Some(Accounts {
        user: identity.user.clone(),
        users: users.collect(),
        passwd_entry: identity.passwd_entry.clone(),
        group_entry: identity.group_entry.clone(),
        home: workdir.to_owned(),
        required: identity.passwd_entry.is_some()
            || identity.group_entry.is_some()
            || identity.users.iter().any(|user| user.group.is_none()),
    })
}

/// Whether root of a container with these ids is, outside, the user.
pub fn root_is_us(maps: &IdMaps) -> bool {
    let root = maps.root();
    let (uid, gid) = (rustix::process::geteuid(), rustix::process::getegid());
    idmap::outside(&maps.uids, root.uid) == Some(uid.as_raw())
        && idmap::outside(&maps.gids, root.gid) == Some(gid.as_raw())
}

/// Makes directories in `parent` that belong to root of a container with these ids.
pub fn make_dirs(
    parent: &Path,
    names: &[&str],
    default: &IdMaps,
    maps: &IdMaps,
) -> anyhow::Result<()> {
    if root_is_us(maps) {
        for name in names {
            make_dir(&parent.join(name))?;
        }
        return Ok(());
    }
    if names.iter().all(|name| parent.join(name).exists()) {
        return Ok(());
    }
    let root = maps.root();
    let uid = idmap::outside(&maps.uids, root.uid).unwrap_or(u32::MAX);
    let gid = idmap::outside(&maps.gids, root.gid).unwrap_or(u32::MAX);
    let owner = idmap::inside(&default.uids, uid).zip(idmap::inside(&default.gids, gid));
    let (uid, gid) = owner.ok_or_else(|| not_ours(uid, gid))?;
    let (uid, gid) = (uid.to_string(), gid.to_string());
    let args = [&[uid.as_str(), &gid], names].concat();
    let cannot = || format!("cannot make directories in {}", parent.display());
    let helper = Helper::start("own", parent, &args).with_context(cannot)?;
    helper.finish().with_context(cannot)?;
    Ok(())
}

fn not_ours(uid: u32, gid: u32) -> anyhow::Error {
    fail(
        Kind::Unsupported,
        format!("its root is {uid}:{gid} of the host, which are not your ids"),
    )
    .hint("`rbox doctor` shows the ids that you have")
}

fn make_dir(path: &Path) -> anyhow::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let cannot = || format!("cannot make {}", path.display());
    match std::fs::create_dir(path) {
        Err(err) if err.kind() == std::io::ErrorKind::AlreadyExists => return Ok(()),
        made => made.with_context(cannot)?,
    }
    // What the umask took would be missing from the root directory of the container.
    let mode = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(path, mode).with_context(cannot)
}
