//! A repository of Debian packages for the `debian` image, made once for each version of this file:
//!
//! | package | holds |
//! |---|---|
//! | `cron` and what it needs | Debian's own: a system group, a set-group-ID program, an owner in its archive |
//! | `resident` | a file of uid 1234 in its archive; its postinst makes a user, gives files away, makes a device, becomes that user |
use std::collections::hash_map::DefaultHasher;
use std::fmt::Write as _;
use std::hash::Hasher;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

use super::archive::Entry;
use super::archive::Tar;
use super::place;

const OFFICIAL: [&str; 3] = ["cron", "cron-daemon-common", "sensible-utils"];

const CONTROL: &str = "Package: resident\nVersion: 1\nArchitecture: all\nMaintainer: nobody <nobody@example.org>\n\
    Depends: adduser\nDescription: a user who owns a directory\n";

const POSTINST: &str = r"#!/bin/sh
set -e
adduser --quiet --system --group --home /var/lib/resident resident
useradd --create-home --shell /bin/sh visitor
install -d -o resident -g resident -m 2750 /var/lib/resident/spool
chown -R resident:resident /var/lib/resident
dpkg-statoverride --update --add resident resident 4750 /usr/lib/resident/helper
mknod -m 600 /var/lib/resident/null c 1 3
su -s /bin/sh resident -c 'id -un >/var/lib/resident/spool/who'
setpriv --reuid visitor --regid visitor --init-groups id -Gn >>/var/lib/resident/spool/who
";

/// The directory of the repository, for a line `deb [trusted=yes] copy:/DIRECTORY ./` of sources.list.
pub fn repository() -> &'static Path {
    static REPOSITORY: OnceLock<PathBuf> = OnceLock::new();
    REPOSITORY.get_or_init(|| {
        let mut hasher = DefaultHasher::new();
        hasher.write(include_str!("packages.rs").as_bytes());
        let dir = place::cache().join(format!("packages-{:016x}", hasher.finish()));
        let _lock = place::lock("packages.lock");
        if !dir.exists() {
            remove_others();
            let making = place::cache().join("packages-new");
            std::fs::create_dir(&making).unwrap();
            make(&making);
            std::fs::rename(&making, &dir).unwrap();
        }
        dir
    })
}

fn remove_others() {
    for entry in std::fs::read_dir(place::cache()).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if path.is_dir() && name.starts_with("packages-") {
            std::fs::remove_dir_all(&path).unwrap();
        }
    }
}

fn make(dir: &Path) {
    download(dir);
    make_resident(dir);
    index(dir);
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        std::fs::set_permissions(path, PermissionsExt::from_mode(0o644)).unwrap();
    }
    std::fs::set_permissions(dir, PermissionsExt::from_mode(0o755)).unwrap();
}

fn output(program: &str, args: &[&str], dir: &Path) -> String {
    let output = Command::new(program)
        .args(args)
        .current_dir(dir)
        .env("TMPDIR", dir)
        .output()
        .unwrap_or_else(|error| panic!("cannot execute {program}: {error}"));
    assert!(
        output.status.success(),
        "{program} {}: {}",
        args.join(" "),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

/// With lists and settings of its own: the host may have another release.
fn download(dir: &Path) {
    let apt = dir.join("apt");
    for part in ["lists/partial", "cache/archives/partial", "parts"] {
        std::fs::create_dir_all(apt.join(part)).unwrap();
    }
    std::fs::write(apt.join("status"), "").unwrap();
    let keys = "/usr/share/keyrings/debian-archive-keyring.gpg";
    let source = format!("deb [signed-by={keys}] http://deb.debian.org/debian bookworm main\n");
    std::fs::write(apt.join("sources"), source).unwrap();
    let path = |name: &str| apt.join(name).display().to_string();
    let config = format!(
        "Dir::State::lists \"{}\";\nDir::State::status \"{}\";\nDir::Cache \"{}\";\n\
         Dir::Etc::sourcelist \"{}\";\nDir::Etc::sourceparts \"{}\";\nDir::Etc::preferencesparts \"{}\";\n\
         APT::Sandbox::User \"\";\nAcquire::Languages \"none\";\nAPT::Architecture \"{}\";\n",
        path("lists"),
        path("status"),
        path("cache"),
        path("sources"),
        path("parts"),
        path("parts"),
        output("dpkg", &["--print-architecture"], dir).trim()
    );
    std::fs::write(apt.join("config"), config).unwrap();
    let config = path("config");
    output("apt-get", &["-q", "-c", &config, "update"], dir);
    let mut args = vec!["-q", "-c", &config, "download"];
    args.extend(OFFICIAL);
    output("apt-get", &args, dir);
    std::fs::remove_dir_all(apt).unwrap();
}

fn make_resident(dir: &Path) {
    let mut control = Tar::default();
    control
        .file("control", 0o644, CONTROL.as_bytes())
        .file("postinst", 0o755, POSTINST.as_bytes());
    let mut data = Tar::default();
    for path in ["usr", "usr/lib", "usr/lib/resident"] {
        data.dir(path, 0o755);
    }
    data.file("usr/lib/resident/helper", 0o755, b"#!/bin/sh\n");
    data.entry(&Entry {
        path: b"usr/lib/resident/given",
        mode: 0o640,
        uid: 1234,
        gid: 1234,
        content: b"given\n",
        ..Entry::default()
    });
    std::fs::write(dir.join("debian-binary"), "2.0\n").unwrap();
    std::fs::write(dir.join("control.tar"), control.finish()).unwrap();
    std::fs::write(dir.join("data.tar"), data.finish()).unwrap();
    let members = ["debian-binary", "control.tar", "data.tar"];
    let args = [&["rc", "resident_1_all.deb"], &members[..]].concat();
    output("ar", &args, dir);
    for member in members {
        std::fs::remove_file(dir.join(member)).unwrap();
    }
}

fn index(dir: &Path) {
    let mut packages = String::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        let control = output("dpkg-deb", &["--field", name], dir);
        let sum = output("sha256sum", &[name], dir);
        let (sum, _) = sum.split_once(' ').unwrap();
        let size = path.metadata().unwrap().len();
        write!(
            packages,
            "{control}Filename: ./{name}\nSize: {size}\nSHA256: {sum}\n\n"
        )
        .unwrap();
    }
    std::fs::write(dir.join("Packages"), packages).unwrap();
}
