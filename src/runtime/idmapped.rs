//! Mounts that show owners through an id map of their own (`idmap`). Made by the caller of the runtime,
//! who alone has the rights for it: the kernel asks for CAP_SYS_ADMIN where the file system was mounted.

use std::os::fd::AsFd;
use std::os::fd::OwnedFd;

use anyhow::Context;
use anyhow::bail;
use anyhow::ensure;
use oci_spec::runtime::LinuxIdMapping;
use oci_spec::runtime::Mount;
use rustix::fs::Mode;
use rustix::fs::OFlags;

use crate::runtime::Bundle;
use crate::runtime::Userns;
use crate::runtime::mount_options::Style;
use crate::runtime::mounts;
use crate::sys::idmap::IdMaps;
use crate::sys::idmap::IdRange;
use crate::sys::idmap::Writer;
use crate::sys::mount;
use crate::sys::mount::Change;
use crate::sys::process;
use crate::sys::process::Side;
use crate::sys::signal;

/// One a mount of the specification, for those that have a map or ask for one; empty if none has it.
///
/// Must: be called by a single-threaded process.
pub fn prepare(bundle: &Bundle<'_>) -> anyhow::Result<Vec<Option<OwnedFd>>> {
    let all = bundle.spec.mounts().as_deref().unwrap_or_default();
    if !all.iter().any(|mount| wanted(mount).is_some()) {
        return Ok(vec![]);
    }
    let made = all.iter().map(|mount| {
        let Some(wanted) = wanted(mount) else {
            return Ok(None);
        };
        let made = make(mount, &wanted, bundle);
        made.map(Some)
            .with_context(|| format!("cannot mount \"{}\"", mount.destination().display()))
    });
    made.collect()
}

/// What a mount asks for.
struct Wanted<'a> {
    /// The maps that `idmap=MAPS` spells.
    maps: &'a str,
    /// Those of `uidMappings` and `gidMappings`, which come before.
    given: Option<IdMaps>,
    /// The mounts below it too.
    recursive: bool,
}

fn wanted(mount: &Mount) -> Option<Wanted<'_>> {
    let given = mount
        .uid_mappings()
        .as_ref()
        .zip(mount.gid_mappings().as_ref());
    let given = given.map(|(uids, gids)| IdMaps {
        writer: Writer::Privileged,
        uids: uids.iter().map(range).collect(),
        gids: gids.iter().map(range).collect(),
    });
    let mut options = mount.options().iter().flatten();
    let option = options.find_map(
        |option| match option.split_once('=').unwrap_or((option, "")) {
            (name @ ("idmap" | "ridmap"), maps) => Some((name == "ridmap", maps)),
            _ => None,
        },
    );
    let (recursive, maps) = match option {
        None if given.is_none() => return None,
        option => option.unwrap_or_default(),
    };
    Some(Wanted {
        maps,
        given,
        recursive,
    })
}

fn range(map: &LinuxIdMapping) -> IdRange {
    IdRange {
        inside: map.container_id(),
        outside: map.host_id(),
        count: map.size(),
    }
}

fn make(mount: &Mount, wanted: &Wanted<'_>, bundle: &Bundle<'_>) -> anyhow::Result<OwnedFd> {
    if bundle.ids.writer != Writer::Privileged {
        bail!(
            "option \"idmap\" needs root: the kernel lets only the owner of a file system map its ids"
        );
    }
    ensure!(
        mounts::is_bind(mount),
        "option \"idmap\" is possible for a bind mount only"
    );
    let maps = match &wanted.given {
        Some(given) => given.clone(),
        None if matches!(bundle.userns, Userns::Host) => {
            bail!("option \"idmap\" needs uidMappings and gidMappings, or a user namespace")
        }
        None => parse(wanted.maps, bundle.ids)?,
    };
    let userns = user_namespace(&maps)?;
    let source = mount.source().as_deref().context("it has no source")?;
    let opened = rustix::fs::open(source, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
        .with_context(|| format!("cannot open {}", source.display()))?;
    let tree = mounts::clone_bind(opened.as_fd(), mount, Style::of(bundle))?;
    let change = Change {
        idmap: Some(userns.as_fd()),
        ..Change::default()
    };
    mount::change(tree.as_fd(), &change, wanted.recursive)
        .context("this file system takes no id map of its own")?;
    Ok(tree)
}

/// A user namespace that maps ids so.
fn user_namespace(maps: &IdMaps) -> anyhow::Result<OwnedFd> {
    match process::clone(libc::CLONE_NEWUSER).context("cannot make a user namespace")? {
        Side::Child => loop {
            rustix::event::pause();
        },
        Side::Parent(child) => {
            let pid = child.pid.as_raw_pid();
            let opened = maps.write(pid.cast_unsigned()).and_then(|()| {
                let path = format!("/proc/{pid}/ns/user");
                rustix::fs::open(&path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
                    .with_context(|| format!("cannot open {path}"))
            });
            signal::send(child.pidfd.as_fd(), libc::SIGKILL)?;
            process::wait(child.pidfd.as_fd())?;
            opened
        }
    }
}

/// `uids=0-1-10#10-11-10;gids=0-100-10`: an id of the file system, one of the host, how many. With `@`
/// the second is an id of the container. Empty: as the container's ids are mapped.
fn parse(text: &str, container: &IdMaps) -> anyhow::Result<IdMaps> {
    let mut maps = container.clone();
    for part in text.split(';').filter(|part| !part.is_empty()) {
        let (kind, ranges) = part.split_once('=').unwrap_or((part, ""));
        let (own, target) = match kind {
            "uids" => (&container.uids, &mut maps.uids),
            "gids" => (&container.gids, &mut maps.gids),
            _ => bail!("id map \"{text}\": expected uids=… or gids=…"),
        };
        let (ranges, relative) = match ranges.strip_prefix('@') {
            Some(ranges) => (ranges, true),
            None => (ranges, false),
        };
        *target = ranges
            .split('#')
            .map(|range| {
                let mut range = triplet(range)
                    .with_context(|| format!("id map \"{text}\": expected ID-ID-COUNT"))?;
                if relative {
                    range.outside = outside(own, range.outside)
                        .with_context(|| format!("id map \"{text}\": the container lacks an id"))?;
                }
                Ok(range)
            })
            .collect::<anyhow::Result<_>>()?;
    }
    Ok(maps)
}

fn triplet(text: &str) -> Option<IdRange> {
    let numbers: Vec<u32> = text
        .split('-')
        .map(|number| number.parse().ok())
        .collect::<Option<_>>()?;
    match numbers.as_slice() {
        [inside, outside, count] if *count > 0 => Some(IdRange {
            inside: *inside,
            outside: *outside,
            count: *count,
        }),
        _ => None,
    }
}

fn outside(ranges: &[IdRange], id: u32) -> Option<u32> {
    let range = ranges
        .iter()
        .find(|range| id >= range.inside && id - range.inside < range.count)?;
    range.outside.checked_add(id - range.inside)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_are_triplets() {
        let whole = [IdRange {
            inside: 0,
            outside: 1000,
            count: 100,
        }];
        let container = IdMaps {
            writer: Writer::Privileged,
            uids: whole.to_vec(),
            gids: whole.to_vec(),
        };
        let read = |text| parse(text, &container).map(|maps| (maps.uids, maps.gids));
        let range = |inside, outside, count| IdRange {
            inside,
            outside,
            count,
        };
        assert_eq!(read("").unwrap(), (whole.to_vec(), whole.to_vec()));
        assert_eq!(
            read("uids=0-1-10#10-11-10;gids=@0-5-10").unwrap(),
            (
                vec![range(0, 1, 10), range(10, 11, 10)],
                vec![range(0, 1005, 10)]
            )
        );
        for wrong in [
            "x",
            "uids",
            "uids=1",
            "uids=1-2",
            "uids=1-2-0",
            "uids=1-2-3-4",
            "uids=@0-100-1",
            "uids=a-b-c",
        ] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
