//! Names for the shell, read from the directories of the store: no lock, no writing, and
//! what cannot be read is left out.

use std::os::fd::AsFd;
use std::path::Path;

use crate::container::name;
use crate::network::record;
use crate::oci::reference::Reference;
use crate::store::dirs::Dirs;
use crate::sys;

/// Which containers an argument takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    All,
    Running,
    Stopped,
}

impl Which {
    fn takes(self, runs: impl FnOnce() -> bool) -> bool {
        match self {
            Which::All => true,
            Which::Running => runs(),
            Which::Stopped => !runs(),
        }
    }
}

/// Names of volumes.
pub fn volumes(dirs: &Dirs, begun: &str) -> Vec<String> {
    let mut found = entries(&dirs.volumes());
    found.retain(|name| !name.starts_with('.') && name.starts_with(begun));
    found
}

/// Names of networks.
pub fn networks(dirs: &Dirs, begun: &str) -> Vec<String> {
    let mut found = record::names(dirs).unwrap_or_default();
    found.retain(|name| name.starts_with(begun));
    found
}

/// Names of containers, and their ids where one is begun.
pub fn containers(dirs: &Dirs, begun: &str, which: Which) -> Vec<String> {
    let mut found = Vec::new();
    for entry in entries(&dirs.names()) {
        if !entry.starts_with(begun) {
            continue;
        }
        // names/web is a link to ../containers/ID.
        let target = std::fs::read_link(dirs.names().join(&entry)).unwrap_or_default();
        let id = target.file_name().unwrap_or_default().to_string_lossy();
        if which.takes(|| runs(dirs, &id)) {
            found.push(entry);
        }
    }
    if name::is_id_prefix(begun) {
        let ids = entries(&dirs.containers()).into_iter();
        let ids = ids.filter(|id| id.starts_with(begun) && name::is_id(id));
        // Who has typed more than a short id gets the whole one.
        let shown = |id: &str| match begun.len() {
            0..=name::SHORT_ID => name::short(id).to_owned(),
            _ => id.to_owned(),
        };
        let ids = ids.filter(|id| which.takes(|| runs(dirs, id)));
        found.extend(ids.map(|id| shown(&id)));
    }
    found
}

/// The supervisor holds its container's run lock for life.
fn runs(dirs: &Dirs, id: &str) -> bool {
    let lock = std::fs::File::open(dirs.run_containers().join(id).join("lock"));
    lock.is_ok_and(|file| sys::lock::is_held(file.as_fd()).unwrap_or(false))
}

/// References of images, as they are usually typed.
pub fn images(dirs: &Dirs, begun: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in entries(&dirs.image_refs()) {
        // A reference that is too long for a file name is only in its record.
        if entry.starts_with("%long-") {
            continue;
        }
        let full = percent_decoded(&entry);
        let familiar = full
            .parse::<Reference>()
            .map(|reference| reference.familiar());
        let familiar = familiar.unwrap_or_else(|_| full.clone());
        // `:latest` need not be typed, nor `localhost/`.
        let short = familiar.strip_suffix(":latest").unwrap_or(&familiar);
        let local = short.strip_prefix("localhost/").unwrap_or(short);
        let fits = [short, &familiar, &full, local]
            .into_iter()
            .find(|name| name.starts_with(begun));
        found.extend(fits.map(str::to_owned));
    }
    found
}

/// Records of references are files named by the reference, its odd bytes as %XX.
fn percent_decoded(name: &str) -> String {
    let mut parts = name.split('%');
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        match part
            .get(..2)
            .and_then(|hex| u8::from_str_radix(hex, 16).ok())
        {
            Some(byte) => {
                bytes.push(byte);
                bytes.extend_from_slice(&part.as_bytes()[2..]);
            }
            None => bytes.extend([b"%", part.as_bytes()].concat()),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Names in a directory of the store; unfinished ones begin with a dot.
fn entries(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| !name.starts_with('.'))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::temp::tests::scratch;

    fn sorted(mut names: Vec<String>) -> Vec<String> {
        names.sort();
        names
    }

    #[test]
    fn containers_are_found_by_name_and_by_id() {
        let base = scratch("complete");
        let dirs = Dirs::at(base.path()).unwrap();
        let id = format!("ab12{}", "0".repeat(60));
        std::fs::create_dir(dirs.containers().join(&id)).unwrap();
        std::fs::create_dir(dirs.containers().join(".tmp-1")).unwrap();
        for name in ["web", "wiki", "abc"] {
            let target = format!("../containers/{id}");
            std::os::unix::fs::symlink(target, dirs.names().join(name)).unwrap();
        }
        let all = |begun: &str| sorted(containers(&dirs, begun, Which::All));
        assert_eq!(all(""), ["abc", "web", "wiki"]);
        assert_eq!(all("w"), ["web", "wiki"]);
        assert_eq!(all("ab"), ["ab1200000000", "abc"]);
        assert_eq!(all(&id[..20]), [id.as_str()]);
        assert_eq!(all("x"), [""; 0]);
        assert_eq!(containers(&dirs, "w", Which::Running), [""; 0]);
        assert_eq!(containers(&dirs, "we", Which::Stopped), ["web"]);
    }

    #[test]
    fn a_container_whose_lock_is_held_runs() {
        let base = scratch("complete-runs");
        let dirs = Dirs::at(base.path()).unwrap();
        let id = "c".repeat(64);
        let place = dirs.run_containers().join(&id);
        std::fs::create_dir(&place).unwrap();
        let lock = std::fs::File::create(place.join("lock")).unwrap();
        assert!(!runs(&dirs, &id));
        assert!(sys::lock::try_exclusive(lock.as_fd()).unwrap());
        assert!(runs(&dirs, &id));
    }

    #[test]
    fn images_are_found_by_what_is_typed() {
        let base = scratch("complete-images");
        let dirs = Dirs::at(base.path()).unwrap();
        for name in [
            "docker.io%2Flibrary%2Fbusybox:latest",
            "docker.io%2Flibrary%2Fdebian%3A12",
            "localhost:5000%2Fapp:v1",
            "localhost%2Fmine:latest",
            "%long-0123",
        ] {
            std::fs::write(dirs.image_refs().join(name), "").unwrap();
        }
        let found = |begun: &str| sorted(images(&dirs, begun));
        assert_eq!(
            found(""),
            [
                "busybox",
                "debian:12",
                "localhost/mine",
                "localhost:5000/app:v1"
            ]
        );
        assert_eq!(found("mi"), ["mine"]);
        assert_eq!(found("busybox:"), ["busybox:latest"]);
        assert_eq!(
            found("docker.io/l"),
            [
                "docker.io/library/busybox:latest",
                "docker.io/library/debian:12"
            ]
        );
    }

    #[test]
    fn file_names_are_decoded() {
        let table = [
            ("plain", "plain"),
            ("a%2Fb%3ac", "a/b:c"),
            ("100%", "100%"),
            ("%zz%2", "%zz%2"),
            ("%é", "%é"),
        ];
        for (name, text) in table {
            assert_eq!(percent_decoded(name), text);
        }
    }
}
