//! Overlays among the mounts of a specification. Layers are opened with the rights of who makes the container, and
//! named by their descriptors: no path of the host shows in the container's mountinfo, none is too long for the kernel
//! (255 bytes), and none can be replaced between look and use.

use std::os::fd::AsFd;
use std::os::fd::AsRawFd;
use std::os::fd::OwnedFd;

use anyhow::Context;
use anyhow::ensure;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::runtime::mount_options::Options;
use crate::runtime::mounts::Made;
use crate::runtime::mounts::open_subpath;
use crate::sys;
use crate::sys::mount;
use crate::sys::mount::FileSystem;
use crate::sys::mount::Parameter;

/// The layers that the options name, top first, and what is on top of them.
struct Layers<'a> {
    lower: Vec<&'a str>,
    /// Below them, with contents alone.
    contents: Vec<&'a str>,
    own: Option<(&'a str, &'a str)>,
    /// They are named one by one, as rbox does it for its own.
    one_by_one: bool,
    others: Vec<Parameter<'a>>,
}

impl<'a> Layers<'a> {
    fn of(options: &Options<'a>) -> anyhow::Result<Layers<'a>> {
        let (mut lower, mut contents) = (Vec::new(), Vec::new());
        let (mut upper, mut work) = (None, None);
        let (mut one_by_one, mut others) = (false, Vec::new());
        for parameter in &options.data {
            match parameter {
                Parameter::String("lowerdir+", path) => {
                    one_by_one = true;
                    lower.push(*path);
                }
                Parameter::String("datadir+", path) => contents.push(*path),
                Parameter::String("lowerdir", paths) => lower.extend(paths.split(':')),
                Parameter::String("upperdir", path) => upper = Some(*path),
                Parameter::String("workdir", path) => work = Some(*path),
                other => others.push(*other),
            }
        }
        ensure!(!lower.is_empty(), "an overlay needs lowerdir");
        ensure!(
            upper.is_some() == work.is_some(),
            "an overlay needs both upperdir and workdir, or none"
        );
        Ok(Layers {
            lower,
            contents,
            own: upper.zip(work),
            one_by_one,
            others,
        })
    }
}

/// Opens what an overlay is made of: the layers, top first, contents, then the upper and the work directory.
pub fn open(options: &Options<'_>) -> anyhow::Result<Made> {
    let layers = Layers::of(options)?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let own = layers
        .own
        .into_iter()
        .flat_map(|(upper, work)| [upper, work]);
    let below = layers.lower.iter().chain(&layers.contents).copied();
    let opened = below.chain(own).map(|path| {
        rustix::fs::open(path, flags, Mode::empty()).with_context(|| format!("cannot open {path}"))
    });
    Ok(Made::Opened(opened.collect::<anyhow::Result<_>>()?))
}

/// Makes it of what was opened.
pub fn make(parts: &[OwnedFd], options: &Options<'_>) -> anyhow::Result<OwnedFd> {
    let layers = Layers::of(options)?;
    let whole = join(parts, &layers, options)
        .context("this kernel or file system takes no overlay here")?;
    match options.subpath {
        None => Ok(whole),
        Some(subpath) => {
            let part = open_subpath(whole.as_fd(), subpath)?;
            Ok(mount::clone_tree(part.as_fd(), c"", false)?)
        }
    }
}

fn join(parts: &[OwnedFd], layers: &Layers<'_>, options: &Options<'_>) -> sys::Result<OwnedFd> {
    let names: Vec<String> = parts
        .iter()
        .map(|part| format!("/proc/self/fd/{}", part.as_raw_fd()))
        .collect();
    let (lower, rest) = names.split_at(layers.lower.len());
    let (contents, own) = rest.split_at(layers.contents.len());
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
    for name in contents {
        fs.set(Parameter::String("datadir+", name))?;
    }
    if let [upper, work] = own {
        fs.set(Parameter::String("upperdir", upper))?;
        fs.set(Parameter::String("workdir", work))?;
    }
    if layers.one_by_one {
        fs.set(Parameter::Flag("userxattr"))?;
    }
    for other in &layers.others {
        fs.set(*other)?;
    }
    fs.mount(options.attributes())
}
