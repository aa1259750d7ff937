//! The options of a mount, understood.
//!
//! Options are those of the runtime specification, all of them; another that is no parameter of the
//! file system is an error. These are rbox's own:
//!
//! | option | of | means |
//! |---|---|---|
//! | `rbox.chown` | bind, tmpfs | everything in it goes to the container's user |
//! | `rbox.copy-up=MARK` | bind | an empty new volume: filled from the image while MARK lies beside the source |
//! | `rbox.fill` | bind | the same where root of the container may write to the volume and not beside it |
//! | `rbox.own=UID:GID` | with `rbox.copy-up` | the owner that the new volume gets |
//! | `rbox.subpath=PATH` | bind, overlay | only what lies there, looked up inside the source |
//! | `rbox.device` | bind | the source must be a device |
//! | `rbox.cover` | bind | where a symbolic link is at the place, it is covered itself and not what it leads to |
//! | `copy-symlink` | bind | a source that is a symbolic link becomes the same link (as in crun) |

use std::path::Path;

use anyhow::bail;
use oci_spec::runtime::Mount;
use rustix::mount::MountPropagationFlags;

use crate::runtime::Bundle;
use crate::runtime::fill::Owner;
use crate::runtime::mounts::is_bind;
use crate::sys::mount;
use crate::sys::mount::Attributes;
use crate::sys::mount::Change;
use crate::sys::mount::Parameter;

/// All of them; what else there is goes to the file system.
pub const NAMES: [&str; 65] = [
    "acl",
    "async",
    "atime",
    "bind",
    "copy-symlink",
    "defaults",
    "dev",
    "diratime",
    "dirsync",
    "exec",
    "idmap",
    "iversion",
    "lazytime",
    "loud",
    "mand",
    "noacl",
    "noatime",
    "nodev",
    "nodiratime",
    "noexec",
    "noiversion",
    "nolazytime",
    "nomand",
    "norelatime",
    "nostrictatime",
    "nosuid",
    "nosymfollow",
    "private",
    "ratime",
    "rbind",
    "rdev",
    "rdiratime",
    "relatime",
    "remount",
    "rexec",
    "ridmap",
    "rnoatime",
    "rnodev",
    "rnodiratime",
    "rnoexec",
    "rnorelatime",
    "rnostrictatime",
    "rnosuid",
    "rnosymfollow",
    "ro",
    "rprivate",
    "rrelatime",
    "rro",
    "rrw",
    "rshared",
    "rslave",
    "rstrictatime",
    "rsuid",
    "rsymfollow",
    "runbindable",
    "rw",
    "shared",
    "silent",
    "slave",
    "strictatime",
    "suid",
    "symfollow",
    "sync",
    "tmpcopyup",
    "unbindable",
];

/// What the options of a mount leave open.
#[derive(Clone, Copy)]
pub struct Style<'a> {
    /// Attributes of a bind mount hold for the mounts below it too: read-only means all of it.
    pub deep: bool,
    /// How a mount propagates that does not say.
    pub propagation: (MountPropagationFlags, bool),
    /// The SELinux label of new file systems.
    pub label: Option<&'a str>,
}

impl<'a> Style<'a> {
    pub fn of(bundle: &Bundle<'a>) -> Style<'a> {
        let linux = bundle.spec.linux().as_ref();
        let propagation = linux.and_then(|linux| linux.rootfs_propagation().as_deref());
        let propagation = match propagation.and_then(mount::propagation) {
            _ if bundle.hardened => MountPropagationFlags::PRIVATE,
            // As with runc: what is unmounted on the host is not kept busy by a container.
            None => MountPropagationFlags::DOWNSTREAM,
            Some((MountPropagationFlags::UNBINDABLE, _)) => MountPropagationFlags::PRIVATE,
            Some((propagation, _)) => propagation,
        };
        Style {
            deep: bundle.hardened,
            propagation: (propagation, true),
            label: linux.and_then(|linux| linux.mount_label().as_deref()),
        }
    }
}

/// Attributes to be set and to be taken away.
pub struct Attrs {
    pub set: Attributes,
    pub clear: Attributes,
}

impl Default for Attrs {
    fn default() -> Self {
        Attrs {
            set: Attributes::empty(),
            clear: Attributes::empty(),
        }
    }
}

/// The options of one mount, understood.
#[derive(Default)]
pub struct Options<'a> {
    /// Said of the mount, and of all mounts below it (`rro`).
    pub own: Attrs,
    pub all: Attrs,
    pub propagation: Option<(MountPropagationFlags, bool)>,
    pub recursive: bool,
    /// What is mounted there already is changed.
    pub remount: bool,
    pub copy_up: bool,
    pub chown: bool,
    pub mark: Option<&'a str>,
    pub fill: bool,
    pub owner: Option<Owner>,
    pub subpath: Option<&'a Path>,
    pub is_device: bool,
    pub copy_link: bool,
    pub cover: bool,
    /// For a file system that is made here.
    pub behaviour: Vec<&'a str>,
    /// For the file system itself.
    pub data: Vec<Parameter<'a>>,
}

impl<'a> Options<'a> {
    pub fn of(mount: &'a Mount) -> anyhow::Result<Options<'a>> {
        let mut options = Options::default();
        for option in mount.options().iter().flatten() {
            options.add(option)?;
        }
        if (is_bind(mount) || options.remount)
            && let Some(unknown) = options.data.first()
        {
            let unknown = match unknown {
                Parameter::String(key, _) | Parameter::Flag(key) => key,
            };
            bail!("unknown mount option \"{unknown}\"");
        }
        Ok(options)
    }

    fn add(&mut self, option: &'a str) -> anyhow::Result<()> {
        if let Some(found) = mount::attribute(option) {
            let attrs = if found.recursive {
                &mut self.all
            } else {
                &mut self.own
            };
            if found.clears {
                attrs.set.remove(found.attribute);
                attrs.clear.insert(found.attribute);
            } else {
                attrs.clear.remove(found.attribute);
                attrs.set.insert(found.attribute);
            }
            // Linux: noatime, relatime and strictatime are values of one field, which is to be
            // cleared whole before one is set (mount_setattr(2)).
            if option.trim_start_matches('r').contains("atime") && !option.contains("dir") {
                attrs.clear.insert(Attributes::MOUNT_ATTR__ATIME);
            }
            return Ok(());
        }
        if let Some(found) = mount::propagation(option) {
            self.propagation = Some(found);
            return Ok(());
        }
        match option.split_once('=').unwrap_or((option, "")) {
            ("bind", "") => self.recursive = false,
            ("rbind", "") => self.recursive = true,
            // What is so without being said; what the kernel does not know any more (mandatory locks) or leaves to each
            // file system (access lists, versions of inodes), and has no parameter for; and see `idmapped`.
            (
                "defaults" | "async" | "mand" | "nomand" | "nolazytime" | "silent" | "loud" | "acl"
                | "noacl" | "iversion" | "noiversion",
                "",
            )
            | ("idmap" | "ridmap", _) => {}
            // Linux: of the file system, which a bind mount shares and does not change.
            ("sync" | "dirsync" | "lazytime", "") => self.behaviour.push(option),
            ("remount", "") => self.remount = true,
            ("tmpcopyup", "") => self.copy_up = true,
            ("rbox.chown", "") => self.chown = true,
            ("rbox.copy-up", mark) => self.mark = Some(mark),
            ("rbox.fill", "") => self.fill = true,
            ("rbox.own", owner) => self.owner = Some(Owner::parse(owner)?),
            ("rbox.subpath", path) => self.subpath = Some(Path::new(path)),
            ("rbox.device", "") => self.is_device = true,
            ("rbox.cover", "") => self.cover = true,
            ("copy-symlink", "") => self.copy_link = true,
            (key, "") if !option.contains('=') => self.data.push(Parameter::Flag(key)),
            (key, value) => self.data.push(Parameter::String(key, value)),
        }
        Ok(())
    }

    /// Whether the ids of the container must be mapped before it can be made.
    pub fn needs_ids(&self, mount: &Mount) -> bool {
        let owned =
            |parameter: &Parameter<'_>| matches!(parameter, Parameter::String("uid" | "gid", _));
        self.chown
            || self.mark.is_some()
            || self.fill
            || self.subpath.is_some()
            || self.data.iter().any(owned)
            || self.follows_place(mount)
            // Linux: devpts takes a gid, which must be mapped when the superblock is made.
            // Groups show as seen from the cgroup namespace in which the mount is made.
            || matches!(mount.typ().as_deref(), Some("devpts" | "overlay" | "cgroup" | "cgroup2"))
    }

    /// Whether it gets the mode of the directory that it covers, as with runc.
    pub fn follows_place(&self, mount: &Mount) -> bool {
        let mode = |parameter: &Parameter<'_>| matches!(parameter, Parameter::String("mode", _));
        mount.typ().as_deref() == Some("tmpfs") && !self.copy_up && !self.data.iter().any(mode)
    }

    pub fn attributes(&self) -> Attributes {
        self.own.set | self.all.set
    }

    /// The changes of a clone or of a mount that is there: of it alone, and of it and all below.
    pub fn changes(&self, deep: bool) -> [(Change<'static>, bool); 2] {
        let all = Change {
            set: self.all.set,
            clear: self.all.clear,
            ..Change::default()
        };
        if deep {
            let atime = self.own.clear & Attributes::MOUNT_ATTR__ATIME;
            let whole = Change {
                set: self.attributes(),
                clear: all.clear | atime,
                ..all
            };
            return [(Change::default(), false), (whole, true)];
        }
        let own = Change {
            set: self.own.set,
            clear: self.own.clear,
            ..Change::default()
        };
        [(own, false), (all, true)]
    }
}

#[cfg(test)]
mod tests {
    use oci_spec::runtime::MountBuilder;

    use super::*;

    #[test]
    fn every_option_is_understood() {
        for name in NAMES {
            let mount = MountBuilder::default()
                .destination("/data")
                .typ("bind")
                .options(vec![name.to_owned()])
                .build()
                .unwrap();
            let options = Options::of(&mount).unwrap_or_else(|err| panic!("{name}: {err}"));
            assert!(options.data.is_empty(), "{name}");
        }
    }

    #[test]
    fn an_unknown_option_of_a_bind_mount_is_refused() {
        let mount = MountBuilder::default()
            .destination("/data")
            .typ("bind")
            .options(vec!["size=5".to_owned()])
            .build()
            .unwrap();
        let err = Options::of(&mount).map(drop).unwrap_err();
        assert_eq!(err.to_string(), "unknown mount option \"size\"");
    }
}
