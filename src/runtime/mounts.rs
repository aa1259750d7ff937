//! The mounts of a specification, one by one: made detached, attached by descriptor.

use std::os::fd::AsFd;
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

use crate::runtime::fill;
use crate::runtime::fill::Owner;
use crate::runtime::mount_options::Options;
use crate::runtime::mount_options::Style;
use crate::runtime::overlays;
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
pub fn prepare(mount: &Mount, owned: bool, style: Style<'_>) -> anyhow::Result<Made> {
    let options = Options::of(mount).with_context(|| cannot(mount))?;
    if options.remount {
        return Ok(Made::Later);
    }
    if is_bind(mount) {
        let from = source(mount);
        return prepare_bind(from, &options, style)
            .with_context(|| format!("cannot mount \"{}\"", from.display()));
    }
    if mount.typ().as_deref() == Some("overlay") {
        return overlays::open(&options).with_context(|| cannot(mount));
    }
    if !owned || options.needs_ids(mount) {
        return Ok(Made::Later);
    }
    let made = make_file_system(mount, &options, style);
    made.map(Made::Mount).with_context(|| cannot(mount))
}

fn cannot(mount: &Mount) -> String {
    format!("cannot mount \"{}\"", mount.destination().display())
}

fn prepare_bind(from: &Path, options: &Options<'_>, style: Style<'_>) -> anyhow::Result<Made> {
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
    clone(opened.as_fd(), options, style).map(Made::Mount)
}

/// A clone of the mount behind `from`, as the options of `mount` want it.
pub fn clone_bind(
    from: BorrowedFd<'_>,
    mount: &Mount,
    style: Style<'_>,
) -> anyhow::Result<OwnedFd> {
    clone(from, &Options::of(mount)?, style)
}

/// A clone of the mount behind `from`, with its attributes.
fn clone(from: BorrowedFd<'_>, options: &Options<'_>, style: Style<'_>) -> anyhow::Result<OwnedFd> {
    let tree = match mount::clone_tree(from, c"", options.recursive) {
        // Linux: mounts that came from a namespace of other privilege are locked together, and
        // cannot be cloned one without the other (mount_namespaces(7)).
        Err(err) if err.errno == Errno::INVAL && !options.recursive => {
            bail!("there are mounts below it, and the kernel shows them with it or not at all");
        }
        result => result?,
    };
    change(tree.as_fd(), options, style.deep)?;
    let (propagation, recursive) = options.propagation.unwrap_or(style.propagation);
    let propagation = Change {
        propagation: Some(propagation),
        ..Change::default()
    };
    mount::change(tree.as_fd(), &propagation, recursive)?;
    Ok(tree)
}

fn change(tree: BorrowedFd<'_>, options: &Options<'_>, deep: bool) -> anyhow::Result<()> {
    for (change, recursive) in options.changes(deep) {
        if change.set.is_empty() && change.clear.is_empty() {
            continue;
        }
        match mount::change(tree, &change, recursive) {
            // Linux: an attribute that came from a namespace of other privilege is locked, and is not taken away
            // (mount_namespaces(7)). "rw" is said of nearly every mount, and here it stays read-only.
            Err(err) if err.errno == Errno::PERM && !change.clear.is_empty() => {
                let clear = Attributes::empty();
                mount::change(tree, &Change { clear, ..change }, recursive)?;
            }
            changed => changed?,
        }
    }
    Ok(())
}

/// Changes what is mounted at a place, as mount(8) does with the option of this name.
fn remount(
    root: BorrowedFd<'_>,
    mount: &Mount,
    options: &Options<'_>,
    deep: bool,
) -> anyhow::Result<()> {
    let there = match path::open_in_root(root, mount.destination(), OFlags::PATH) {
        Err(err) if err.errno == Errno::NOENT => bail!("nothing is mounted there"),
        there => there?,
    };
    change(there.as_fd(), options, deep).context("nothing is mounted there that can be changed")?;
    if let Some((propagation, recursive)) = options.propagation {
        let propagation = Change {
            propagation: Some(propagation),
            ..Change::default()
        };
        mount::change(there.as_fd(), &propagation, recursive)?;
    }
    Ok(())
}

fn make_file_system(
    mount: &Mount,
    options: &Options<'_>,
    style: Style<'_>,
) -> anyhow::Result<OwnedFd> {
    let made = new_file_system(mount, options, style);
    let shown = match (&made, mount.typ().as_deref()) {
        // Linux: a new procfs or sysfs may be mounted in a user namespace only where one is fully visible already,
        // which in a container with masked paths it is not (mount_too_revealing()), sysfs only with a network
        // namespace of our own, and cgroup2 with a cgroup namespace. The one that is there is shown instead; procfs
        // finds /proc/self by the reader's own pid there.
        (Err(err), Some(kind)) if err.errno == Errno::PERM => match kind {
            "proc" => Some(c"/proc"),
            "sysfs" => Some(c"/sys"),
            "cgroup" | "cgroup2" => Some(hosts_groups()),
            _ => None,
        },
        _ => None,
    };
    let made = match shown {
        None => made,
        Some(path) => mount::clone_tree(rustix::fs::CWD, path, true).and_then(|tree| {
            mount::set_attributes(tree.as_fd(), options.attributes(), true)?;
            Ok(tree)
        }),
    };
    Ok(made?)
}

/// Where the host has its tree of control groups of version 2.
fn hosts_groups() -> &'static std::ffi::CStr {
    // Linux: CGROUP2_SUPER_MAGIC (linux/magic.h).
    let is_unified = |path| rustix::fs::statfs(path).is_ok_and(|fs| fs.f_type == 0x6367_7270);
    if is_unified(c"/sys/fs/cgroup") {
        c"/sys/fs/cgroup"
    } else {
        c"/sys/fs/cgroup/unified"
    }
}

fn new_file_system(mount: &Mount, options: &Options<'_>, style: Style<'_>) -> sys::Result<OwnedFd> {
    let kind = match mount.typ().as_deref().unwrap_or_default() {
        // The older version has a tree for each controller, and nothing here that uses them.
        "cgroup" => "cgroup2",
        kind => kind,
    };
    let fs = FileSystem::open(kind)?;
    if let Some(source) = mount.source() {
        fs.set(Parameter::String("source", &source.to_string_lossy()))?;
    }
    for parameter in &options.data {
        fs.set(*parameter)?;
    }
    for flag in &options.behaviour {
        fs.set(Parameter::Flag(flag))?;
    }
    if let Some(label) = style
        .label
        .filter(|_| matches!(kind, "tmpfs" | "mqueue" | "devpts"))
    {
        fs.set(Parameter::String("context", label))?;
    }
    let mut attributes = options.attributes();
    if is_dev(mount) {
        // The devices are yet to be made in it.
        attributes.remove(Attributes::MOUNT_ATTR_RDONLY);
    }
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
    style: Style<'_>,
    user: &dyn Fn() -> anyhow::Result<Owner>,
) -> anyhow::Result<()> {
    let options = Options::of(mount)?;
    let tree = match made {
        Made::Mount(tree) => tree,
        Made::Link(text) => return make_link(root, mount.destination(), &text),
        Made::Later if options.remount => return remount(root, mount, &options, style.deep),
        Made::Later => make_later(root, mount, style)?,
        Made::Opened(parts) if is_bind(mount) => {
            make_bind(root, mount, &parts[0], &options, style, user)?
        }
        Made::Opened(parts) => overlays::make(&parts, &options)?,
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

fn make_later(root: BorrowedFd<'_>, mount: &Mount, style: Style<'_>) -> anyhow::Result<OwnedFd> {
    let mut options = Options::of(mount)?;
    let mode;
    let flags = OFlags::PATH | OFlags::DIRECTORY;
    if !style.deep
        && options.follows_place(mount)
        && let Ok(place) = path::open_in_root(root, mount.destination(), flags)
    {
        mode = format!("{:o}", rustix::fs::fstat(&place)?.st_mode & 0o7777);
        options.data.push(Parameter::String("mode", &mode));
    }
    make_file_system(mount, &options, style)
}

fn make_bind(
    root: BorrowedFd<'_>,
    mount: &Mount,
    opened: &OwnedFd,
    options: &Options<'_>,
    style: Style<'_>,
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
    clone(shown.as_fd(), options, style)
}

/// A directory or file inside another; a link in it cannot lead out (CVE-2017-1002101).
pub fn open_subpath(whole: BorrowedFd<'_>, subpath: &Path) -> anyhow::Result<OwnedFd> {
    path::open_in_root(whole, subpath, OFlags::PATH)
        .with_context(|| format!("cannot find subpath \"{}\"", subpath.display()))
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
