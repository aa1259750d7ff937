//! The mounts of a specification, one by one: options understood, made detached, attached by descriptor.
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

use std::os::fd::AsFd;
use std::os::fd::AsRawFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;
use std::path::PathBuf;

use anyhow::Context;
use anyhow::bail;
use anyhow::ensure;
use oci_spec::runtime::Mount;
use rustix::fs::FileType;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::mount::MountPropagationFlags;

use crate::runtime::fill;
use crate::runtime::fill::Owner;
use crate::sys;
use crate::sys::mount;
use crate::sys::mount::Attributes;
use crate::sys::mount::Change;
use crate::sys::mount::FileSystem;
use crate::sys::mount::Parameter;
use crate::sys::path;
use crate::sys::path::Target;

/// A mount on its way into the container.
pub enum Made {
    /// Made, detached.
    Mount(OwnedFd),
    /// Opened while the user's own rights held; to be made when the ids are mapped.
    Opened(Vec<OwnedFd>),
    /// A symbolic link of the host, to be made again.
    Link(PathBuf),
    /// To be made when the ids are mapped.
    Later,
}

/// Attributes to be set and to be taken away.
struct Attrs {
    set: Attributes,
    clear: Attributes,
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
struct Options<'a> {
    /// Said of the mount, and of all mounts below it (`rro`).
    own: Attrs,
    all: Attrs,
    propagation: Option<(MountPropagationFlags, bool)>,
    recursive: bool,
    copy_up: bool,
    chown: bool,
    mark: Option<&'a str>,
    fill: bool,
    owner: Option<Owner>,
    subpath: Option<&'a Path>,
    is_device: bool,
    copy_link: bool,
    cover: bool,
    /// For the file system itself.
    data: Vec<Parameter<'a>>,
}

impl<'a> Options<'a> {
    fn of(mount: &'a Mount) -> anyhow::Result<Options<'a>> {
        let mut options = Options::default();
        for option in mount.options().iter().flatten() {
            options.add(option)?;
        }
        if is_bind(mount)
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
            // What is so without being said; and see `idmapped`.
            ("defaults" | "async" | "nomand" | "nolazytime" | "loud", "")
            | ("idmap" | "ridmap", _) => {}
            ("remount", "") => bail!("option \"remount\" is not possible: all mounts are new"),
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
    fn needs_ids(&self, mount: &Mount) -> bool {
        let owned =
            |parameter: &Parameter<'_>| matches!(parameter, Parameter::String("uid" | "gid", _));
        self.chown
            || self.mark.is_some()
            || self.fill
            || self.subpath.is_some()
            || self.data.iter().any(owned)
            // Linux: devpts takes a gid, which must be mapped when the superblock is made.
            // Groups show as seen from the cgroup namespace in which the mount is made.
            || matches!(mount.typ().as_deref(), Some("devpts" | "overlay" | "cgroup" | "cgroup2"))
    }

    fn attributes(&self) -> Attributes {
        self.own.set | self.all.set
    }
}

/// Whether some mount is to see what is mounted on the host later on.
pub fn any_slave(mounts: &[Mount]) -> bool {
    mounts.iter().any(|mount| {
        let mut options = mount.options().iter().flatten();
        options.any(|option| option == "slave" || option == "rslave")
    })
}

pub fn is_bind(mount: &Mount) -> bool {
    mount.typ().as_deref() == Some("bind")
        || mount
            .options()
            .iter()
            .flatten()
            .any(|option| option == "bind" || option == "rbind")
}

/// Whether it is the directory in which the devices are made.
pub fn is_dev(mount: &Mount) -> bool {
    mount.destination() == Path::new("/dev") && !is_bind(mount)
}

fn source(mount: &Mount) -> &Path {
    mount.source().as_deref().unwrap_or(Path::new("/"))
}

/// Makes a mount as far as this can be done before the ids are mapped.
///
/// `owned`: who makes it now is who root of the container will be, and may be its owner.
///
/// Must: run in a mount namespace of our own that still has the host's files.
pub fn prepare(mount: &Mount, owned: bool) -> anyhow::Result<Made> {
    let options = Options::of(mount).with_context(|| cannot(mount))?;
    if is_bind(mount) {
        let from = source(mount);
        return prepare_bind(from, &options)
            .with_context(|| format!("cannot mount \"{}\"", from.display()));
    }
    if mount.typ().as_deref() == Some("overlay") {
        return open_layers(&options).with_context(|| cannot(mount));
    }
    if !owned || options.needs_ids(mount) {
        return Ok(Made::Later);
    }
    make_file_system(mount, &options).map(Made::Mount)
}

fn cannot(mount: &Mount) -> String {
    format!("cannot mount \"{}\"", mount.destination().display())
}

fn prepare_bind(from: &Path, options: &Options<'_>) -> anyhow::Result<Made> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    if options.copy_link {
        let link = rustix::fs::open(from, flags | OFlags::NOFOLLOW, Mode::empty())?;
        if FileType::from_raw_mode(rustix::fs::fstat(&link)?.st_mode) == FileType::Symlink {
            let text = rustix::fs::readlinkat(&link, "", Vec::new())?;
            return Ok(Made::Link(
                std::ffi::OsString::from_vec(text.into_bytes()).into(),
            ));
        }
    }
    if options.mark.is_some() {
        // The volume itself is opened under its lock.
        let above = from.parent().context("a volume has a directory above it")?;
        return Ok(Made::Opened(vec![rustix::fs::open(
            above,
            flags,
            Mode::empty(),
        )?]));
    }
    let opened = rustix::fs::open(from, flags, Mode::empty())?;
    if options.is_device {
        let kind = FileType::from_raw_mode(rustix::fs::fstat(&opened)?.st_mode);
        ensure!(
            matches!(kind, FileType::CharacterDevice | FileType::BlockDevice),
            "it is not a device"
        );
    }
    if options.chown || options.fill || options.subpath.is_some() {
        return Ok(Made::Opened(vec![opened]));
    }
    clone(opened.as_fd(), options).map(Made::Mount)
}

/// A clone of the mount behind `from`, as the options of `mount` want it.
pub fn clone_bind(from: BorrowedFd<'_>, mount: &Mount) -> anyhow::Result<OwnedFd> {
    clone(from, &Options::of(mount)?)
}

/// A clone of the mount behind `from`, with its attributes.
fn clone(from: BorrowedFd<'_>, options: &Options<'_>) -> anyhow::Result<OwnedFd> {
    let tree = match mount::clone_tree(from, c"", options.recursive) {
        // Linux: mounts that came from a namespace of other privilege are locked together, and
        // cannot be cloned one without the other (mount_namespaces(7)).
        Err(err) if err.errno == Errno::INVAL && !options.recursive => {
            bail!("there are mounts below it, and the kernel shows them with it or not at all");
        }
        result => result?,
    };
    // Read-only means all of it: mounts below would otherwise stay writable.
    let change = Change {
        set: options.attributes(),
        clear: options.all.clear | (options.own.clear & Attributes::MOUNT_ATTR__ATIME),
        ..Change::default()
    };
    mount::change(tree.as_fd(), &change, true)?;
    let (propagation, recursive) = options
        .propagation
        .unwrap_or((MountPropagationFlags::PRIVATE, true));
    let change = Change {
        propagation: Some(propagation),
        ..Change::default()
    };
    mount::change(tree.as_fd(), &change, recursive)?;
    Ok(tree)
}

fn make_file_system(mount: &Mount, options: &Options<'_>) -> anyhow::Result<OwnedFd> {
    let made = match (new_file_system(mount, options), mount.typ().as_deref()) {
        (Err(err), Some(kind @ ("proc" | "sysfs"))) if err.errno == Errno::PERM => {
            // Linux: a new procfs or sysfs may be mounted in a user namespace only where one is
            // fully visible already, which in a container with masked paths it is not
            // (mount_too_revealing()), and sysfs only with a network namespace of our own. The one
            // that is there is shown instead; procfs finds /proc/self by the reader's own pid there.
            let path = if kind == "proc" { c"/proc" } else { c"/sys" };
            mount::clone_tree(rustix::fs::CWD, path, true).and_then(|tree| {
                mount::set_attributes(tree.as_fd(), options.attributes(), true)?;
                Ok(tree)
            })
        }
        (made, _) => made,
    };
    made.with_context(|| cannot(mount))
}

fn new_file_system(mount: &Mount, options: &Options<'_>) -> sys::Result<OwnedFd> {
    let fs = FileSystem::open(mount.typ().as_deref().unwrap_or_default())?;
    if let Some(source) = mount.source() {
        fs.set(Parameter::String("source", &source.to_string_lossy()))?;
    }
    for parameter in &options.data {
        fs.set(*parameter)?;
    }
    let mut attributes = options.attributes();
    if is_dev(mount) {
        // The devices are yet to be made in it.
        attributes.remove(Attributes::MOUNT_ATTR_RDONLY);
    }
    fs.mount(attributes)
}

/// Opens what an overlay is made of: the layers, top first, then the upper and the work directory.
fn open_layers(options: &Options<'_>) -> anyhow::Result<Made> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let named = |wanted: &'static str| {
        options
            .data
            .iter()
            .filter_map(move |parameter| match parameter {
                Parameter::String(key, path) if *key == wanted => Some(*path),
                _ => None,
            })
    };
    let paths: Vec<&str> = named("lowerdir+")
        .chain(named("upperdir"))
        .chain(named("workdir"))
        .collect();
    ensure!(
        paths.len() == options.data.len() && paths.len() > 2,
        "an overlay is made of lowerdir+, upperdir and workdir"
    );
    let opened = paths.iter().map(|path| {
        rustix::fs::open(*path, flags, Mode::empty()).with_context(|| format!("cannot open {path}"))
    });
    Ok(Made::Opened(opened.collect::<anyhow::Result<_>>()?))
}

/// Layers are named by their descriptors: no path of the host shows in the container's mountinfo,
/// none is too long for the kernel (255 bytes), and none can be replaced between look and use.
fn overlay(parts: &[OwnedFd], attributes: Attributes) -> sys::Result<OwnedFd> {
    let names: Vec<String> = parts
        .iter()
        .map(|part| format!("/proc/self/fd/{}", part.as_raw_fd()))
        .collect();
    let (lower, own) = names.split_at(names.len() - 2);
    let fs = FileSystem::open("overlay")?;
    fs.set(Parameter::String("source", "overlay"))?;
    for name in lower {
        match fs.set(Parameter::String("lowerdir+", name)) {
            // Linux: before 6.5 all layers go in one option.
            Err(err) if err.errno == Errno::INVAL => {
                fs.set(Parameter::String("lowerdir", &lower.join(":")))?;
                break;
            }
            result => result?,
        }
    }
    fs.set(Parameter::String("upperdir", &own[0]))?;
    fs.set(Parameter::String("workdir", &own[1]))?;
    fs.set(Parameter::Flag("userxattr"))?;
    fs.mount(attributes)
}

/// Makes what is left to be made of a mount, and attaches it. `user` tells the container's user
/// where a mount asks for it.
///
/// Must: run as root of the user namespace, after its ids are mapped.
pub fn attach(
    root: BorrowedFd<'_>,
    mount: &Mount,
    made: Made,
    user: &dyn Fn() -> anyhow::Result<Owner>,
) -> anyhow::Result<()> {
    let options = Options::of(mount)?;
    let tree = match made {
        Made::Mount(tree) => tree,
        Made::Link(text) => return make_link(root, mount.destination(), &text),
        Made::Later => make_file_system(mount, &options)?,
        Made::Opened(parts) if is_bind(mount) => make_bind(root, mount, &parts[0], &options, user)?,
        Made::Opened(parts) => make_overlay(&parts, &options)?,
    };
    if !is_bind(mount) {
        if options.copy_up {
            copy_up(root, mount.destination(), tree.as_fd())?;
        }
        if options.chown {
            fill::chown_tree(tree.as_fd(), user()?)?;
        }
    }
    attach_tree(root, mount, tree.as_fd())
}

fn make_bind(
    root: BorrowedFd<'_>,
    mount: &Mount,
    opened: &OwnedFd,
    options: &Options<'_>,
    user: &dyn Fn() -> anyhow::Result<Owner>,
) -> anyhow::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK;
    let image = || open_of_image(root, mount.destination(), flags).ok();
    let volume;
    let whole = match options.mark {
        None if options.fill => {
            fill::fill_in_place(
                opened.as_fd(),
                image(),
                options.copy_up,
                options.owner,
                user,
            )?;
            opened
        }
        None => opened,
        Some(mark) => {
            let name = source(mount).file_name().unwrap_or_default();
            let new = fill::NewVolume {
                dir: opened.as_fd(),
                name: Path::new(name),
                mark,
                owner: options.owner,
            };
            volume = new.fill(image(), options.copy_up, user)?;
            &volume
        }
    };
    let part;
    let shown = match options.subpath {
        None => whole,
        Some(subpath) => {
            part = open_subpath(whole.as_fd(), subpath)?;
            &part
        }
    };
    if options.chown {
        fill::chown_tree(shown.as_fd(), user()?)?;
    }
    clone(shown.as_fd(), options)
}

/// A directory or file inside another; a link in it cannot lead out (CVE-2017-1002101).
fn open_subpath(whole: BorrowedFd<'_>, subpath: &Path) -> anyhow::Result<OwnedFd> {
    path::open_in_root(whole, subpath, OFlags::PATH)
        .with_context(|| format!("cannot find subpath \"{}\"", subpath.display()))
}

fn make_overlay(parts: &[OwnedFd], options: &Options<'_>) -> anyhow::Result<OwnedFd> {
    let whole = overlay(parts, options.attributes())
        .context("this kernel or file system takes no overlay here")?;
    match options.subpath {
        None => Ok(whole),
        Some(subpath) => {
            let part = open_subpath(whole.as_fd(), subpath)?;
            Ok(mount::clone_tree(part.as_fd(), c"", false)?)
        }
    }
}

/// Copies what is at the place of a new file system into it: of a mount only if its path says so, without
/// any link.
fn copy_up(root: BorrowedFd<'_>, place: &Path, tree: BorrowedFd<'_>) -> anyhow::Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY;
    let there = match path::open_real(root, place, flags) {
        Ok(there) if refuse_kernels(there.as_fd()).is_ok() => Ok(there),
        _ => open_of_image(root, place, flags),
    };
    match there {
        Ok(image) => fill::copy_content(image.as_fd(), tree),
        Err(err) if matches!(err.errno, Errno::NOENT | Errno::NOTDIR | Errno::XDEV) => Ok(()),
        Err(err) => Err(err.into()),
    }
}

/// What the image itself has at a place. A link of it could lead into what is mounted already: procfs
/// and sysfs, whose masked paths are not masked yet, and directories of the host.
fn open_of_image(root: BorrowedFd<'_>, place: &Path, flags: OFlags) -> sys::Result<OwnedFd> {
    match mount::clone_tree(root, c"", false) {
        Ok(bare) => path::open_in_root(bare.as_fd(), place, flags),
        // Linux: what is locked together with mounts below it is not to be had without them.
        Err(_) => path::open_in_mount(root, place, flags),
    }
}

fn make_link(root: BorrowedFd<'_>, place: &Path, text: &Path) -> anyhow::Result<()> {
    let name = place.file_name().context("a link has a name")?;
    let above = place.parent().unwrap_or(Path::new("/"));
    let above = path::open_or_create(root, above, Target::Directory)?;
    match rustix::fs::symlinkat(text, &above, name) {
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

fn attach_tree(root: BorrowedFd<'_>, mount: &Mount, tree: BorrowedFd<'_>) -> anyhow::Result<()> {
    let kind = if path::is_dir(tree)? {
        Target::Directory
    } else {
        Target::File
    };
    let is_kernels = matches!(
        mount.typ().as_deref(),
        Some("proc" | "sysfs" | "devpts" | "mqueue" | "cgroup" | "cgroup2")
    ) || ["/dev", "/proc", "/sys"]
        .iter()
        .any(|kernel| mount.destination().starts_with(kernel));
    let target = if is_kernels {
        // An image that has /proc as a link would otherwise choose where the kernel's own file
        // systems appear (CVE-2019-19921, CVE-2023-28642).
        path::open_or_create_real(root, mount.destination(), kind)?
    } else if Options::of(mount)?.cover {
        path::open_or_create_itself(root, mount.destination(), kind)?
    } else {
        path::open_or_create(root, mount.destination(), kind)?
    };
    ensure!(
        path::is_dir(target.as_fd())? == (kind == Target::Directory),
        "one of source and destination is a directory and the other is not"
    );
    if !is_kernels {
        refuse_kernels(target.as_fd())?;
    }
    // What is mounted there would be under the container, where nobody sees it.
    let (place, top) = (rustix::fs::fstat(&target)?, rustix::fs::fstat(root)?);
    ensure!(
        (place.st_dev, place.st_ino) != (top.st_dev, top.st_ino),
        "it is the root directory of the container"
    );
    mount::attach(tree, target.as_fd())?;
    Ok(())
}

/// A link of the image must not put anything into procfs or sysfs that was not meant to be there: programs
/// believe what they read there, and masked paths would cover it instead of what they are for.
fn refuse_kernels(target: BorrowedFd<'_>) -> anyhow::Result<()> {
    // Linux: PROC_SUPER_MAGIC and SYSFS_MAGIC (linux/magic.h).
    let kind = rustix::fs::fstatfs(target)?.f_type;
    ensure!(kind != 0x9fa0, "a symbolic link leads into /proc");
    ensure!(kind != 0x6265_6572, "a symbolic link leads into /sys");
    Ok(())
}
