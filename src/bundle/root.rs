//! The directory of `--root`: one directory a container, found by its id.

use std::fs::DirBuilder;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::path::PathBuf;

use anyhow::Context;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::fs::RenameFlags;
use rustix::io::Errno;
use rustix::process::Pid;

use crate::bundle::state;
use crate::bundle::state::Container;
use crate::bundle::state::Process;
use crate::error::Kind;
use crate::error::WithHint;
use crate::error::fail;
use crate::sys::process;
use crate::sys::userns;

/// What directories without a name yet begin with; no id can.
const UNNAMED: char = ':';

/// Where the state of containers is.
#[derive(Debug)]
pub struct Root {
    path: PathBuf,
}

impl Root {
    pub fn new(path: PathBuf) -> Root {
        Root { path }
    }

    /// Where it is if nobody says: with the user's own files, if this is a user or, as under a rootless podman, root
    /// of a user's namespace (but not somebody who calls himself root, as in a container).
    pub fn default_path() -> PathBuf {
        let run = std::env::var_os("XDG_RUNTIME_DIR").filter(|run| !run.is_empty());
        let is_user = || {
            let called_root = || std::env::var_os("USER").is_some_and(|name| name == "root");
            !rustix::process::geteuid().is_root() || (!userns::is_initial() && !called_root())
        };
        match run {
            Some(run) if is_user() => PathBuf::from(run).join("rbox/oci"),
            _ => "/run/rbox/oci".into(),
        }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn dir_of(&self, id: &str) -> PathBuf {
        self.path.join(id)
    }

    /// The container with this id.
    pub fn find(&self, id: &str) -> anyhow::Result<Container> {
        check_id(id)?;
        match Container::read(&self.dir_of(id), id)? {
            Some(container) => Ok(container),
            None => Err(missing(id)),
        }
    }

    /// All containers, by their ids; what cannot be read is passed to `skip`.
    pub fn list(&self, skip: &mut dyn FnMut(anyhow::Error)) -> anyhow::Result<Vec<Container>> {
        let mut found = Vec::new();
        for name in self.names()? {
            if check_id(&name).is_err() {
                continue;
            }
            match Container::read(&self.dir_of(&name), &name) {
                Ok(container) => found.extend(container),
                Err(err) => skip(err),
            }
        }
        found.sort_by(|one, other| one.state.id.cmp(&other.state.id));
        Ok(found)
    }

    fn names(&self) -> anyhow::Result<Vec<String>> {
        let cannot = || format!("cannot read directory {}", self.path.display());
        let entries = match std::fs::read_dir(&self.path) {
            Err(err) if err.kind() == std::io::ErrorKind::NotFound => return Ok(vec![]),
            entries => entries.with_context(cannot)?,
        };
        let mut names = Vec::new();
        for entry in entries {
            let name = entry.with_context(cannot)?.file_name();
            names.extend(name.into_string().ok());
        }
        Ok(names)
    }

    /// Makes a directory that has no name yet.
    pub fn make_unnamed(&self, us: Process) -> anyhow::Result<Unnamed> {
        let name = format!("{UNNAMED}{}-{}", us.pid, us.start);
        let path = self.path.join(name);
        let make = |path: &Path| rustix::fs::mkdir(path, Mode::RWXU);
        match make(&path) {
            Err(Errno::NOENT) => {
                let mut builder = DirBuilder::new();
                builder.recursive(true).mode(0o700).create(&self.path)?;
                make(&path)
            }
            result => result,
        }
        .with_context(|| format!("cannot make a directory in {}", self.path.display()))?;
        let fd = open_dir(&path)?;
        Ok(Unnamed {
            path,
            fd,
            kept: false,
        })
    }

    /// Removes what creators and deleters that were killed have left.
    pub fn sweep(&self) -> anyhow::Result<()> {
        for name in self.names()? {
            let dir = self.path.join(&name);
            let is_rest = match name.strip_prefix(UNNAMED) {
                Some(maker) => Process::parse(maker).is_some_and(|maker| !maker.is_alive()),
                None => check_id(&name).is_ok() && matches!(Container::read(&dir, &name), Ok(None)),
            };
            if is_rest {
                state::remove_rest(&dir)?;
            }
        }
        Ok(())
    }
}

/// A directory on its way to be a container's; removed if it does not become one.
pub struct Unnamed {
    path: PathBuf,
    pub fd: OwnedFd,
    kept: bool,
}

impl Unnamed {
    /// Gives it the container's name, which somebody else may have.
    pub fn name(&mut self, root: &Root, id: &str) -> anyhow::Result<PathBuf> {
        let to = root.dir_of(id);
        let cwd = rustix::fs::CWD;
        let rename =
            || rustix::fs::renameat_with(cwd, &self.path, cwd, &to, RenameFlags::NOREPLACE);
        let mut renamed = rename();
        if renamed == Err(Errno::EXIST) && matches!(Container::read(&to, id), Ok(None)) {
            state::remove_rest(&to)?;
            renamed = rename();
        }
        match renamed {
            Ok(()) => {
                self.kept = true;
                Ok(to)
            }
            Err(Errno::EXIST) => Err(taken(&to, id)),
            Err(errno) => Err(errno).with_context(|| format!("cannot make {}", to.display())),
        }
    }
}

impl Drop for Unnamed {
    fn drop(&mut self) {
        if !self.kept {
            std::fs::remove_dir_all(&self.path).ok();
        }
    }
}

fn taken(dir: &Path, id: &str) -> anyhow::Error {
    let text = "container with given ID already exists";
    match Container::read(dir, id) {
        Ok(Some(container)) if !container.is_abandoned() => fail(Kind::Conflict, text),
        _ => fail(
            Kind::Conflict,
            format!("{text}: it was left behind by a process that was killed"),
        )
        .hint(format!("`rbox oci delete --force {id}` removes it")),
    }
}

pub fn missing(id: &str) -> anyhow::Error {
    fail(Kind::NotFound, format!("container \"{id}\" does not exist"))
}

/// The ids that runc takes: none of them leads out of the directory, or is that of somebody else.
pub fn check_id(id: &str) -> anyhow::Result<()> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"_+-.".contains(&byte);
    let whole = !id.is_empty() && id.len() <= 255 && id.bytes().all(fits);
    if whole && id != "." && id != ".." {
        return Ok(());
    }
    let text =
        format!("invalid container ID format: \"{id}\": expected up to 255 of A-Z a-z 0-9 _ + - .");
    Err(fail(Kind::Usage, text))
}

pub fn open_dir(path: &Path) -> anyhow::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty())
        .with_context(|| format!("cannot open {}", path.display()))
}

impl Process {
    pub fn current() -> anyhow::Result<Process> {
        Process::of(rustix::process::getpid())
    }

    pub fn of(pid: Pid) -> anyhow::Result<Process> {
        let start = process::start_ticks(pid).context("cannot read /proc/PID/stat")?;
        Ok(Process {
            pid: pid.as_raw_pid(),
            start,
        })
    }

    fn parse(text: &str) -> Option<Process> {
        let (pid, start) = text.split_once('-')?;
        Some(Process {
            pid: pid.parse().ok()?,
            start: start.parse().ok()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_one_name() {
        for id in ["a", "A-b_c.d+e", "...", "-x", &"a".repeat(255)] {
            assert!(check_id(id).is_ok(), "{id}");
        }
        for id in [
            "",
            ".",
            "..",
            "a/b",
            "../a",
            "a b",
            ":1-2",
            "é",
            "a\n",
            &"a".repeat(256),
        ] {
            assert!(check_id(id).is_err(), "{id}");
        }
    }
}
