//! From a specification to what the runtime asks for beside it: ids, namespaces to join, filters.

use std::os::fd::AsFd;
use std::path::Path;
use std::path::PathBuf;

use anyhow::Context;
use anyhow::bail;
use oci_spec::runtime::LinuxIdMapping;
use oci_spec::runtime::LinuxNamespaceType;
use oci_spec::runtime::LinuxSeccomp;
use oci_spec::runtime::LinuxSeccompAction;
use oci_spec::runtime::Spec;

use crate::bundle::agent::Agent;
use crate::config::ids;
use crate::error::Kind;
use crate::error::WithHint;
use crate::error::fail;
use crate::runtime::Filter;
use crate::runtime::Joins;
use crate::runtime::Rootfs;
use crate::runtime::Userns;
use crate::runtime::join;
use crate::runtime::seccomp::Notify;
use crate::sys::idmap;
use crate::sys::idmap::IdMaps;
use crate::sys::idmap::IdRange;
use crate::sys::idmap::Writer;
use crate::sys::namespace;
use crate::sys::userns;

/// What follows from a specification.
pub struct Prepared {
    pub rootfs: Rootfs,
    pub userns: Userns,
    pub ids: IdMaps,
    pub joins: Joins,
    pub filters: Vec<Filter>,
    pub agent: Option<Agent>,
}

impl Prepared {
    /// `bundle` is where relative paths begin.
    pub fn of(spec: &Spec, bundle: &Path) -> anyhow::Result<Prepared> {
        if spec.process().is_none() {
            return Err(fail(Kind::Usage, "process: expected one"));
        }
        check_mounts(spec)?;
        let (userns, ids) = user_namespace(spec)?;
        let seccomp = profile(spec);
        Ok(Prepared {
            rootfs: Rootfs::Directory(rootfs(spec, bundle)?),
            joins: joins(spec)?,
            userns,
            ids,
            filters: filters(seccomp)?,
            agent: seccomp.and_then(Agent::of),
        })
    }

    /// Whether root of the container is, outside, who makes it.
    pub fn root_is_caller(&self) -> bool {
        let root = self.ids.root();
        let uid = idmap::outside(&self.ids.uids, root.uid);
        let gid = idmap::outside(&self.ids.gids, root.gid);
        uid == Some(rustix::process::geteuid().as_raw())
            && gid == Some(rustix::process::getegid().as_raw())
    }
}

pub fn rootfs(spec: &Spec, bundle: &Path) -> anyhow::Result<PathBuf> {
    let root = spec
        .root()
        .as_ref()
        .ok_or_else(|| fail(Kind::Usage, "root: expected one"))?;
    let path = bundle.join(root.path());
    path.canonicalize()
        .with_context(|| format!("cannot use root file system {}", path.display()))
}

/// The namespace of one kind that a specification asks for.
#[derive(Debug, PartialEq, Eq)]
pub enum Asked<'a> {
    Callers,
    New,
    At(&'a Path),
}

pub fn namespace_of(spec: &Spec, kind: LinuxNamespaceType) -> Asked<'_> {
    let linux = spec.linux().as_ref();
    let namespaces = linux.and_then(|linux| linux.namespaces().as_ref());
    let mut all = namespaces.into_iter().flatten();
    match all.find(|namespace| namespace.typ() == kind) {
        None => Asked::Callers,
        Some(found) => found.path().as_deref().map_or(Asked::New, Asked::At),
    }
}

/// Everything of a container is mounted in a namespace that no other process has.
fn check_mounts(spec: &Spec) -> anyhow::Result<()> {
    let found = match namespace_of(spec, LinuxNamespaceType::Mount) {
        Asked::New => return Ok(()),
        Asked::Callers => "none",
        Asked::At(_) => "one with a path",
    };
    let text = format!(
        "linux.namespaces: expected a new namespace of type \"mount\", found {found}: \
         its mounts would be those of others"
    );
    Err(fail(Kind::Unsupported, text))
}

fn user_namespace(spec: &Spec) -> anyhow::Result<(Userns, IdMaps)> {
    match namespace_of(spec, LinuxNamespaceType::User) {
        Asked::Callers => host_ids(),
        Asked::New => Ok((Userns::New, mapped(spec)?)),
        Asked::At(path) => {
            let cannot = || format!("cannot join user namespace {}", path.display());
            let fd = namespace::open(path).with_context(cannot)?;
            if namespace::same(fd.as_fd(), namespace::own("user")?.as_fd())? {
                return host_ids();
            }
            let (uids, gids) = userns::maps_of(fd.as_fd()).with_context(cannot)?;
            let writer = Writer::Privileged;
            Ok((Userns::Join(fd), IdMaps { writer, uids, gids }))
        }
    }
}

/// Those of the user namespace that we are in, which only root of it can share.
fn host_ids() -> anyhow::Result<(Userns, IdMaps)> {
    if !ids::may_map_any_id() {
        let text = "linux.namespaces: a container of an ordinary user needs a user namespace";
        return Err(fail(Kind::Unsupported, text)
            .hint("`rbox oci spec --rootless` writes a configuration that has one"));
    }
    let all = || {
        vec![IdRange {
            inside: 0,
            outside: 0,
            count: u32::MAX,
        }]
    };
    let ids = IdMaps {
        writer: Writer::Privileged,
        uids: all(),
        gids: all(),
    };
    Ok((Userns::Host, ids))
}

fn mapped(spec: &Spec) -> anyhow::Result<IdMaps> {
    let linux = spec.linux().as_ref();
    let ranges = |maps: Option<&Vec<LinuxIdMapping>>, name: &str| {
        let ranges: Vec<IdRange> = maps.into_iter().flatten().map(range).collect();
        if ranges.is_empty() {
            let text = format!("linux.{name}: expected a mapping for the new user namespace");
            return Err(fail(Kind::Usage, text));
        }
        Ok(ranges)
    };
    let uids = ranges(
        linux.and_then(|linux| linux.uid_mappings().as_ref()),
        "uidMappings",
    )?;
    let gids = ranges(
        linux.and_then(|linux| linux.gid_mappings().as_ref()),
        "gidMappings",
    )?;
    let writer = ids::writer(&uids, &gids)
        .map_err(|why| fail(Kind::Unsupported, format!("cannot map these ids: {why}")))?;
    Ok(IdMaps { writer, uids, gids })
}

fn range(map: &LinuxIdMapping) -> IdRange {
    IdRange {
        inside: map.container_id(),
        outside: map.host_id(),
        count: map.size(),
    }
}

fn joins(spec: &Spec) -> anyhow::Result<Joins> {
    let mut joins = Joins::default();
    let linux = spec.linux().as_ref();
    let all = linux.and_then(|linux| linux.namespaces().as_ref());
    for namespace in all.into_iter().flatten() {
        let (Some(path), kind) = (namespace.path(), namespace.typ()) else {
            continue;
        };
        if kind == LinuxNamespaceType::User {
            continue;
        }
        let (_, name) = join::kind(kind);
        namespace::open(path)
            .map_err(Into::into)
            .and_then(|fd| joins.add(kind, fd))
            .with_context(|| format!("cannot join {name} namespace {}", path.display()))?;
    }
    Ok(joins)
}

pub fn profile(spec: &Spec) -> Option<&LinuxSeccomp> {
    spec.linux().as_ref()?.seccomp().as_ref()
}

pub fn filters(profile: Option<&LinuxSeccomp>) -> anyhow::Result<Vec<Filter>> {
    let Some(profile) = profile else {
        return Ok(vec![]);
    };
    let is_notify = |action| action == LinuxSeccompAction::ScmpActNotify;
    if is_notify(profile.default_action()) {
        bail!("linux.seccomp.defaultAction: SCMP_ACT_NOTIFY is possible for single calls only");
    }
    let mut calls = profile.syscalls().iter().flatten();
    let asks = calls.any(|call| is_notify(call.action()));
    if asks && profile.listener_path().is_none() {
        bail!("linux.seccomp.listenerPath: expected one, since calls are left to SCMP_ACT_NOTIFY");
    }
    let mut filter = Filter::of_profile(profile).context("cannot compile linux.seccomp")?;
    if asks {
        filter.notify = Notify::Anything;
    }
    Ok(vec![filter])
}
