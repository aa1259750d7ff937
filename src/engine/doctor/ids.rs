//! Which ids a container gets, and how to get more.

use anyhow::Result;

use super::Finding;
use super::read;
use crate::config::ids;
use crate::config::ids::Ids;
use crate::config::ids::user_name;
use crate::error;
use crate::sys::idmap::IdMaps;
use crate::sys::idmap::IdRange;
use crate::sys::idmap::Writer;
use crate::sys::userns;

const NAME: &str = "sub-ids";

/// What images of Docker and of Debian need: ids up to nobody's, 65534.
const ENOUGH: u32 = 65536;

/// Makes a user namespace with these maps.
///
/// Must: be called by a single-threaded process.
pub(super) fn try_maps(ids: &Ids) -> Result<()> {
    userns::run(&ids.maps, 0, || Ok(Vec::new())).map(drop)
}

/// The map that needs no help: root is the caller.
pub(super) fn single() -> IdMaps {
    let uid = rustix::process::geteuid().as_raw();
    ids::single(uid, rustix::process::getegid().as_raw())
}

pub(super) fn finding(ids: &Ids, mapping: Option<Result<()>>) -> Finding {
    if let Some(Err(err)) = mapping {
        return Finding::fail(NAME, error::message(&err), helpers_fix());
    }
    if let Some(reason) = &ids.single_because {
        return Finding::warn(
            NAME,
            format!(
                "{reason}: containers have one id, and changes of user in them are only pretended"
            ),
            fix_for(reason),
        );
    }
    let count = |ranges: &[IdRange]| {
        let counts = ranges.iter().map(|range| u64::from(range.count));
        counts.sum::<u64>()
    };
    let (uids, gids) = (count(&ids.maps.uids), count(&ids.maps.gids));
    let plural = |count: u64, what: &str| match count {
        1 => format!("one {what}"),
        _ => format!("{count} {what}s"),
    };
    let mut what = format!(
        "containers have {} and {}",
        plural(uids, "uid"),
        plural(gids, "gid")
    );
    if ids.maps.writer == Writer::Privileged {
        what += ", those of this namespace";
    }
    if uids.min(gids) < u64::from(ENOUGH) {
        let fix = matches!(ids.maps.writer, Writer::Helpers { .. }).then(range_command);
        let what = format!("{what}, many images need {ENOUGH}");
        return Finding::warn(NAME, what, fix.flatten());
    }
    Finding::ok(NAME, what)
}

/// Both parts may be missing: the ranges and the helpers.
fn fix_for(reason: &str) -> Option<String> {
    let range = reason.contains("/etc/sub").then(range_command).flatten();
    let absent = which("newuidmap").is_none() || which("newgidmap").is_none();
    let helpers = absent.then(install_command);
    let privilege = (range.is_none() && !absent).then(helpers_fix).flatten();
    let commands: Vec<String> = [helpers, range, privilege].into_iter().flatten().collect();
    (!commands.is_empty()).then(|| commands.join(" && "))
}

/// Gives the installed helpers the privilege that their package gives them.
fn helpers_fix() -> Option<String> {
    let paths = [which("newuidmap")?, which("newgidmap")?];
    Some(format!("sudo chmod u+s {} {}", paths[0], paths[1]))
}

fn which(name: &str) -> Option<String> {
    let path = std::env::var_os("PATH")?;
    let mut candidates = std::env::split_paths(&path).map(|dir| dir.join(name));
    let found = candidates.find(|path| path.is_file())?;
    Some(found.display().to_string())
}

/// Gives this user a range that nobody has.
fn range_command() -> Option<String> {
    let user = user_name(rustix::process::geteuid().as_raw())?;
    let taken = ["/etc/subuid", "/etc/subgid"].map(|path| read(path).unwrap_or_default());
    let first = first_free(&taken.join("\n"))?;
    let last = first + (ENOUGH - 1);
    Some(format!(
        "sudo usermod --add-subuids {first}-{last} --add-subgids {first}-{last} {user}"
    ))
}

/// The first id behind all ranges of these subuid(5) files, from 100000 on as shadow has it.
fn first_free(text: &str) -> Option<u32> {
    let ends = text.lines().filter_map(|line| {
        let mut fields = line.trim().split(':').skip(1).map(str::parse::<u32>);
        let start = fields.next()?.ok()?;
        start.checked_add(fields.next()?.ok()?)
    });
    let first = ends.max().unwrap_or(0).max(100_000);
    first.checked_add(ENOUGH)?;
    Some(first)
}

/// How this distribution installs newuidmap and newgidmap.
fn install_command() -> String {
    let release = read("/etc/os-release").unwrap_or_default();
    let value = |key: &str| {
        let line = release.lines().find_map(|line| line.strip_prefix(key));
        line.unwrap_or("").trim_matches('"').to_owned()
    };
    install_for(&format!("{} {}", value("ID="), value("ID_LIKE="))).to_owned()
}

fn install_for(ids: &str) -> &'static str {
    let commands = [
        ("debian", "sudo apt-get install -y uidmap"),
        ("ubuntu", "sudo apt-get install -y uidmap"),
        ("fedora", "sudo dnf install -y shadow-utils"),
        ("rhel", "sudo dnf install -y shadow-utils"),
        ("alpine", "sudo apk add shadow-subids"),
        ("arch", "sudo pacman -S --noconfirm shadow"),
        ("suse", "sudo zypper install -y shadow"),
    ];
    let found = commands
        .iter()
        .find(|(name, _)| ids.split(' ').any(|id| id.contains(name)));
    found.map_or(commands[0].1, |(_, command)| command)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_free_range_is_behind_all_others() {
        let table = [
            ("", Some(100_000)),
            ("ann:100000:65536\nbob:165536:65536\n", Some(231_072)),
            ("ann:1000:10\njunk\n# note:x:y\n", Some(100_000)),
            ("ann:4294900000:67295\n", None),
        ];
        for (text, first) in table {
            assert_eq!(first_free(text), first, "{text:?}");
        }
    }

    #[test]
    fn each_distribution_has_its_command() {
        let table = [
            ("debian ", "sudo apt-get install -y uidmap"),
            ("linuxmint ubuntu debian", "sudo apt-get install -y uidmap"),
            (
                "rocky rhel centos fedora",
                "sudo dnf install -y shadow-utils",
            ),
            (
                "opensuse-leap suse opensuse",
                "sudo zypper install -y shadow",
            ),
        ];
        for (ids, command) in table {
            assert_eq!(install_for(ids), command, "{ids}");
        }
    }
}
