//! Mounts that a user asks for: what they are, and the forms of `-v`, `--mount`, `--tmpfs` and `--device`.

pub mod device;
mod glob;
pub mod mount_flag;
pub mod volume_flag;

use std::path::Component;
use std::path::Path;
use std::path::PathBuf;

use serde::Deserialize;
use serde::Serialize;

use crate::oci::digest::Digest;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    #[serde(flatten)]
    pub source: Source,
    pub destination: PathBuf,
    #[serde(flatten)]
    pub options: Options,
}

/// What is mounted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum Source {
    /// A directory or file of the host.
    Bind {
        path: PathBuf,
    },
    /// A volume; one without a name gets a random one, and goes with its container.
    Volume {
        name: String,
        anonymous: bool,
        /// Driver options and labels that it is made with if it does not exist.
        #[serde(skip)]
        driver_options: Vec<String>,
        #[serde(skip)]
        labels: Vec<String>,
    },
    /// Another image.
    Image {
        reference: String,
        layers: Vec<Digest>,
        /// Relative to the data directory, the top one first.
        lower: Vec<PathBuf>,
        /// As that of a container (`Config::contents`).
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        contents: Vec<PathBuf>,
    },
    Tmpfs,
    Ramfs,
    Devpts,
}

impl Source {
    /// A volume of this name; without one an anonymous volume.
    pub fn volume(name: &str) -> Source {
        Source::Volume {
            name: name.to_owned(),
            anonymous: name.is_empty(),
            driver_options: vec![],
            labels: vec![],
        }
    }

    pub fn kind(&self) -> &'static str {
        match self {
            Source::Bind { .. } => "bind",
            Source::Volume { .. } => "volume",
            Source::Image { .. } => "image",
            Source::Tmpfs => "tmpfs",
            Source::Ramfs => "ramfs",
            Source::Devpts => "devpts",
        }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Options {
    pub read_only: bool,
    /// What is mounted below the source stays away.
    pub non_recursive: bool,
    /// `rslave`… as the runtime specification names it; private if absent.
    pub propagation: Option<String>,
    pub exec: Option<bool>,
    pub dev: Option<bool>,
    pub suid: Option<bool>,
    /// Everything in it is given to the container's user.
    pub chown: bool,
    /// `z` or `Z`.
    pub relabel: bool,
    /// Owners are shown through a map; empty: the container's.
    pub idmap: Option<String>,
    /// Changes go elsewhere.
    pub overlay: Option<Overlay>,
    /// What the image has at the place is not copied into what is new.
    pub no_copy: bool,
    pub subpath: Option<PathBuf>,
    /// A source that is a symbolic link becomes one in the container.
    pub keep_link: bool,
    /// Parameters of the file system.
    pub data: Vec<String>,
}

/// Where the changes of an overlay go: with the container if nowhere else.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Overlay {
    pub upper: Option<PathBuf>,
    pub work: Option<PathBuf>,
}

impl Options {
    /// Takes an option that is one word, in `-v` and in `--mount`; whether it is known.
    fn word(&mut self, word: &str) -> Result<bool, String> {
        match word {
            "ro" | "rro" => self.read_only = true,
            "rw" => self.read_only = false,
            "bind" => self.non_recursive = true,
            "rbind" => self.non_recursive = false,
            "exec" | "noexec" => self.exec = Some(word == "exec"),
            "dev" | "nodev" => self.dev = Some(word == "dev"),
            "suid" | "nosuid" => self.suid = Some(word == "suid"),
            "private" | "rprivate" | "slave" | "rslave" | "unbindable" | "runbindable" => {
                if let Some(other) = self.propagation.replace(word.to_owned()) {
                    return Err(format!("{other} and {word} exclude each other"));
                }
            }
            "shared" | "rshared" => {
                return Err(format!(
                    "{word} is not possible: what is mounted in a container cannot reach the host, since it has a user namespace of its own; use rslave for the other direction"
                ));
            }
            // As in docker and podman: they say how a virtual machine caches, and nothing here.
            "cached" | "consistent" | "delegated" => {}
            _ => return Ok(false),
        }
        Ok(true)
    }
}

/// A path in the container, without `.` and doubled slashes.
pub fn destination(text: &str) -> Result<PathBuf, String> {
    if !text.starts_with('/') {
        return Err(format!("\"{text}\" is not an absolute path"));
    }
    if text.contains('\0') {
        return Err("a path has no NUL byte".into());
    }
    let clean: PathBuf = Path::new(text).components().collect();
    if !clean
        .components()
        .any(|part| matches!(part, Component::Normal(_)))
    {
        return Err(format!(
            "\"{text}\" cannot be covered: it is the root directory of the container"
        ));
    }
    Ok(clean)
}

/// A path of the host.
fn host_path(text: &str) -> Result<PathBuf, String> {
    std::path::absolute(text).map_err(|err| err.to_string())
}

/// Names of volumes are those of containers.
pub fn volume_name(text: &str) -> Result<(), String> {
    if crate::container::name::check(text).is_ok() {
        return Ok(());
    }
    Err(format!(
        "\"{text}\" is no volume name (they match [a-zA-Z0-9][a-zA-Z0-9_.-]*), and a path begins with / or ./"
    ))
}

/// A size for a file system: bytes, perhaps with a unit, or a percentage.
fn size(text: &str) -> Result<String, String> {
    if let Some(percent) = text.strip_suffix('%') {
        let valid = percent.parse::<u8>().is_ok_and(|percent| percent <= 100);
        return valid
            .then(|| text.to_owned())
            .ok_or_else(|| format!("size \"{text}\": expected at most 100%"));
    }
    crate::text::size::parse(text)
        .map(|bytes| bytes.to_string())
        .map_err(|err| err.to_string())
}

fn mode(text: &str) -> Result<String, String> {
    match u32::from_str_radix(text, 8) {
        Ok(mode) if mode <= 0o7777 && !text.starts_with('+') => Ok(format!("{mode:o}")),
        _ => Err(format!("mode \"{text}\": expected octal digits, as 1777")),
    }
}

fn boolean(key: &str, value: Option<&str>) -> Result<bool, String> {
    match value {
        None | Some("true" | "1") => Ok(true),
        Some("false" | "0") => Ok(false),
        Some(value) => Err(format!("{key}=\"{value}\": expected true or false")),
    }
}

/// `DESTINATION[:OPTIONS]` of `--tmpfs`.
pub fn tmpfs(text: &str) -> Result<Mount, String> {
    let (place, words) = text.split_once(':').unwrap_or((text, ""));
    let mut mount = Mount {
        source: Source::Tmpfs,
        destination: destination(place)?,
        options: Options::default(),
    };
    for word in words.split(',').filter(|word| !word.is_empty()) {
        tmpfs_option(&mut mount.options, word)?;
    }
    Ok(mount)
}

fn tmpfs_option(options: &mut Options, option: &str) -> Result<(), String> {
    let (key, value) = match option.split_once('=') {
        Some((key, value)) => (key, Some(value)),
        None => (option, None),
    };
    let id = |value: &str| {
        value
            .parse::<u32>()
            .map_err(|_| format!("{key}=\"{value}\": expected a number"))
    };
    match (key, value) {
        ("size", Some(value)) => options.data.push(format!("size={}", size(value)?)),
        ("mode", Some(value)) => options.data.push(format!("mode={}", mode(value)?)),
        ("nr_inodes" | "nr_blocks", Some(value)) => {
            options.data.push(format!("{key}={}", size(value)?));
        }
        ("uid" | "gid", Some(value)) => options.data.push(format!("{key}={}", id(value)?)),
        ("noswap", None) => options.data.push("noswap".into()),
        ("tmpcopyup", None) => options.no_copy = false,
        ("notmpcopyup", None) => options.no_copy = true,
        ("U" | "chown", value) => options.chown = boolean(key, value)?,
        (word, None) if !matches!(word, "bind" | "rbind") && options.word(word)? => {}
        _ => {
            return Err(format!(
                "unknown option \"{option}\": expected ro, rw, exec, noexec, dev, nodev, suid, nosuid, size=, mode=, uid=, gid=, nr_inodes=, nr_blocks=, noswap, tmpcopyup, notmpcopyup or U"
            ));
        }
    }
    Ok(())
}

/// `CONTAINER[:OPTIONS]` of `--volumes-from`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VolumesFrom {
    pub container: String,
    pub read_only: Option<bool>,
    pub relabel: bool,
}

pub fn volumes_from(text: &str) -> Result<VolumesFrom, String> {
    let (container, words) = text.split_once(':').unwrap_or((text, ""));
    if container.is_empty() {
        return Err("expected the name or id of a container".into());
    }
    let mut from = VolumesFrom {
        container: container.to_owned(),
        read_only: None,
        relabel: false,
    };
    for word in words.split(',').filter(|word| !word.is_empty()) {
        match word {
            "ro" | "rw" => from.read_only = Some(word == "ro"),
            "z" => from.relabel = true,
            _ => {
                return Err(format!("unknown option \"{word}\": expected ro, rw or z"));
            }
        }
    }
    Ok(from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn destinations_are_absolute_and_not_the_root() {
        assert_eq!(destination("//a/./b/"), Ok(PathBuf::from("/a/b")));
        for wrong in ["", "a", "./a", "/", "//", "/.", "/.."] {
            assert!(destination(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn tmpfs_options_are_those_of_the_kernel_and_podman() {
        let data = |text| tmpfs(text).map(|mount| mount.options.data);
        assert_eq!(
            data("/a:size=1m,mode=0700,uid=1"),
            Ok(["size=1048576", "mode=700", "uid=1"]
                .map(String::from)
                .to_vec())
        );
        assert_eq!(data("/a:size=50%"), Ok(vec!["size=50%".into()]));
        for wrong in [
            "a",
            "/a:x",
            "/a:size=",
            "/a:size=x",
            "/a:mode=9",
            "/a:uid=-1",
            "/a:size",
            "/a:rshared",
            "/a:size=101%",
        ] {
            assert!(tmpfs(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn volumes_of_another_container() {
        let from = volumes_from("web:ro,z").unwrap();
        assert_eq!(
            (from.container.as_str(), from.read_only, from.relabel),
            ("web", Some(true), true)
        );
        for wrong in ["", ":ro", "web:x"] {
            assert!(volumes_from(wrong).is_err(), "{wrong}");
        }
    }
}
