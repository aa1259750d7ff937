//! The mounts that the user asked for, as the specification has them.

use std::collections::BTreeMap;
use std::path::Path;
use std::path::PathBuf;

use anyhow::ensure;
use oci_spec::runtime::Mount;

use crate::container::config::Config;
use crate::container::mounts::Options;
use crate::container::mounts::Source;
use crate::container::spec::mounts::build;
use crate::container::spec::mounts::words;

/// A volume as it is on disk.
#[derive(Clone, Debug, Default)]
pub struct Volume {
    /// The directory with its files.
    pub path: PathBuf,
    /// The file beside it that says that it has never been used.
    pub mark: Option<&'static str>,
    /// It has never been used, and root of the container cannot reach the mark.
    pub fill: bool,
    /// The owner that it was made for.
    pub owner: Option<(u32, u32)>,
    /// A file system to mount instead: its type, and its options.
    pub file_system: Option<(String, Vec<String>)>,
    /// Options that every mount of it has.
    pub options: Vec<String>,
}

/// What the mounts of one start need to know of the host.
#[derive(Clone, Debug, Default)]
pub struct Places {
    pub data: PathBuf,
    pub volumes: BTreeMap<String, Volume>,
    /// Upper and work directories of overlays, by the number of the mount.
    pub overlays: BTreeMap<usize, (PathBuf, PathBuf)>,
    /// Devices: where they are on the host, and in the container.
    pub devices: Vec<(PathBuf, PathBuf)>,
    /// Volumes that are filled at this start.
    pub filled: Vec<String>,
    /// Mounts of CDI devices.
    pub extra: Vec<Mount>,
}

/// All of them, devices too.
pub fn mounts(config: &Config, places: &Places) -> anyhow::Result<Vec<Mount>> {
    let asked = config.files.mounts.iter().enumerate();
    let asked = asked.map(|(number, wanted)| {
        let options = &wanted.options;
        let place = &wanted.destination;
        if let Some((upper, work)) = places.overlays.get(&number) {
            let lower: Vec<PathBuf> = match &wanted.source {
                Source::Bind { path } => vec![path.clone()],
                Source::Image { lower, .. } => {
                    lower.iter().map(|dir| places.data.join(dir)).collect()
                }
                Source::Volume { name, .. } => {
                    vec![places.volumes.get(name).cloned().unwrap_or_default().path]
                }
                _ => vec![],
            };
            let contents = match &wanted.source {
                Source::Image { contents, .. } => contents.as_slice(),
                _ => &[],
            };
            let lower = Lower {
                layers: &lower,
                contents,
            };
            return overlay(place, lower, upper, work, options);
        }
        match &wanted.source {
            Source::Bind { path } => build("bind", Some(path), place, bind_options(options)),
            Source::Volume { name, .. } => volume(
                place,
                places.volumes.get(name).cloned().unwrap_or_default(),
                options,
            ),
            Source::Devpts => {
                let mut all = words(&["nosuid", "noexec", "newinstance", "ptmxmode=0666"]);
                all.extend(access(options));
                if !options
                    .data
                    .iter()
                    .any(|option| option.starts_with("mode="))
                {
                    all.push("mode=0620".into());
                }
                all.extend(options.data.iter().cloned());
                build("devpts", None, place, all)
            }
            kind => {
                let mut all = guarded(options, true);
                all.extend(options.data.iter().cloned());
                if !options.no_copy {
                    all.push("tmpcopyup".into());
                }
                if options.chown {
                    all.push("rbox.chown".into());
                }
                build(kind.kind(), None, place, all)
            }
        }
    });
    let mut mounts: Vec<Mount> = asked.collect::<anyhow::Result<_>>()?;
    for (from, place) in &places.devices {
        let options = ["rbind", "rprivate", "nosuid", "noexec", "rbox.device"];
        mounts.push(build("bind", Some(from), place, words(&options))?);
    }
    mounts.extend(places.extra.iter().cloned());
    Ok(mounts)
}

/// What an overlay shows.
struct Lower<'a> {
    layers: &'a [PathBuf],
    /// Where contents are that files of the layers refer to.
    contents: &'a [PathBuf],
}

fn overlay(
    place: &Path,
    lower: Lower<'_>,
    upper: &Path,
    work: &Path,
    options: &Options,
) -> anyhow::Result<Mount> {
    let mut all = guarded(options, false);
    all.extend(
        lower
            .layers
            .iter()
            .map(|dir| format!("lowerdir+={}", dir.display())),
    );
    all.extend(
        lower
            .contents
            .iter()
            .map(|dir| format!("datadir+={}", dir.display())),
    );
    all.push(format!("upperdir={}", upper.display()));
    all.push(format!("workdir={}", work.display()));
    if let Some(subpath) = &options.subpath {
        all.push(format!("rbox.subpath={}", subpath.display()));
    }
    if options.chown {
        all.push("rbox.chown".into());
    }
    build("overlay", None, place, all)
}

fn volume(place: &Path, volume: Volume, options: &Options) -> anyhow::Result<Mount> {
    if let Some((kind, data)) = volume.file_system {
        ensure!(
            options.idmap.is_none() && options.subpath.is_none(),
            "cannot mount \"{}\": a volume in memory has no idmap and no subpath",
            place.display()
        );
        let mut all = guarded(options, false);
        all.extend(data);
        if options.chown {
            all.push("rbox.chown".into());
        }
        return build(&kind, None, place, all);
    }
    let mut all = bind_options(options);
    all.extend(volume.options);
    if volume.fill {
        all.push("rbox.fill".into());
    }
    if let Some(mark) = volume.mark {
        all.push(format!("rbox.copy-up={mark}"));
    }
    if volume.fill || volume.mark.is_some() {
        if !options.no_copy {
            all.push("tmpcopyup".into());
        }
        if let Some((uid, gid)) = volume.owner {
            all.push(format!("rbox.own={uid}:{gid}"));
        }
    }
    build("bind", Some(&volume.path), place, all)
}

fn bind_options(options: &Options) -> Vec<String> {
    let mut all = words(&[if options.non_recursive {
        "bind"
    } else {
        "rbind"
    }]);
    all.push(options.propagation.clone().unwrap_or("rprivate".into()));
    all.extend(guarded(options, false));
    if options.chown {
        all.push("rbox.chown".into());
    }
    if let Some(subpath) = &options.subpath {
        all.push(format!("rbox.subpath={}", subpath.display()));
    }
    if options.keep_link {
        all.push("copy-symlink".into());
    }
    match options.idmap.as_deref() {
        None => {}
        Some("") => all.push("idmap".into()),
        Some(map) => all.push(format!("idmap={map}")),
    }
    all
}

/// What may be done with the files of a mount: no devices and no set-id programs unless it is said.
fn guarded(options: &Options, is_memory: bool) -> Vec<String> {
    let mut all = access(options);
    for (allowed, denial, by_default) in [
        (options.suid, "nosuid", true),
        (options.dev, "nodev", true),
        (options.exec, "noexec", is_memory),
    ] {
        if allowed.map_or(by_default, |allowed| !allowed) {
            all.push(denial.into());
        }
    }
    all
}

fn access(options: &Options) -> Vec<String> {
    words(&[if options.read_only { "ro" } else { "rw" }])
}
