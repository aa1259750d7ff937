//! One group of version 2: a directory of the cgroup2 file system, held open.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;
use std::path::Component;
use std::path::Path;
use std::path::PathBuf;
use std::thread::sleep;
use std::time::Duration;
use std::time::Instant;

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use rustix::fs::AtFlags;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::process::Pid;

use crate::cgroup::Hierarchy;
use crate::sys::Call;
use crate::sys::process::retry;

/// Linux: CGROUP2_SUPER_MAGIC (linux/magic.h).
const CGROUP2_MAGIC: i64 = 0x6367_7270;

/// For how long a group that is being emptied may be in the way of its removal.
const REMOVAL_LIMIT: Duration = Duration::from_secs(2);

/// A group that exists, or did when it was opened.
#[derive(Debug)]
pub struct Group {
    path: PathBuf,
    fd: OwnedFd,
}

impl Group {
    /// Makes the group in the directory `path`, below where the tree is mounted, and those above it that are
    /// missing; one that exists is taken as it is. On the way each controller is enabled that this user may
    /// enable: what is missing in the end is an error only of who wants to set it (`apply`). A group that gives
    /// controllers to groups in it cannot have processes of its own.
    pub fn create(path: &Path) -> Result<Group> {
        let context = || format!("cannot make control group {path:?}");
        let (mut group, rest) = Group::mount_of(path).with_context(context)?;
        for name in rest {
            // EACCES above what is ours, EBUSY where processes are: see `apply::missing`.
            let _ = group.enable_all();
            group = group.make_child(name).with_context(context)?;
        }
        Ok(group)
    }

    /// The group in the directory `path`, if there is one.
    pub fn open(path: &Path) -> Result<Option<Group>> {
        let context = || format!("cannot open control group {path:?}");
        let (mut group, rest) = Group::mount_of(path).with_context(context)?;
        for name in rest {
            group = match group.open_child(name) {
                Err(Errno::NOENT) => return Ok(None),
                child => child.with_context(context)?,
            };
        }
        Ok(Some(group))
    }

    /// The group that a process is in; none where that is outside of the tree that is mounted here, or there is
    /// no tree or no process.
    pub fn of_process(pid: Pid) -> Result<Option<Group>> {
        let text = std::fs::read_to_string(format!("/proc/{}/cgroup", pid.as_raw_nonzero()));
        let path = text
            .ok()
            .and_then(|text| Hierarchy::detect().directory(&text));
        path.map_or(Ok(None), |path| Group::open(&path))
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Moves a process, with all its threads, into this group. Linux: a group has processes or controllers for
    /// groups in it, not both, but for the root (cgroups(7), "no internal processes").
    pub fn add(&self, pid: Pid) -> Result<()> {
        let value = pid.as_raw_nonzero().to_string();
        let written = match self.write("cgroup.procs", &value) {
            // Linux: the group is "domain invalid", below one that is threaded; only as a threaded one it may
            // have processes (cgroups(7)).
            Err(Errno::OPNOTSUPP) => self
                .write("cgroup.type", "threaded")
                .and_then(|()| self.write("cgroup.procs", &value)),
            written => written,
        };
        written.with_context(|| {
            format!(
                "cannot move process {value} into control group {:?}",
                self.path
            )
        })
    }

    /// The controllers that this group has.
    pub fn controllers(&self) -> Result<Vec<String>> {
        let text = self.read("cgroup.controllers").with_context(|| {
            format!(
                "cannot read the controllers of control group {:?}",
                self.path
            )
        })?;
        Ok(text.split_whitespace().map(str::to_owned).collect())
    }

    /// Gives the groups in this one each controller that it has itself.
    pub fn enable_all(&self) -> Result<()> {
        let available = self.controllers()?;
        let enabled = self.read("cgroup.subtree_control").unwrap_or_default();
        let missing: Vec<&String> = available
            .iter()
            .filter(|name| !enabled.split_whitespace().any(|enabled| enabled == *name))
            .collect();
        if missing.is_empty() {
            return Ok(());
        }
        self.check_empty()?;
        let all = missing.iter().fold(String::new(), |mut all, name| {
            let _ = write!(all, "+{name} ");
            all
        });
        if self.write("cgroup.subtree_control", all.trim_end()).is_ok() {
            return Ok(());
        }
        // Linux: all or nothing; a controller that cannot be enabled must not take the others along.
        missing.iter().try_for_each(|name| self.enable(name))
    }

    /// Linux: some controllers can be enabled where processes are, but that makes the group threaded, and those in
    /// it invalid for other processes (cgroups(7), "thread mode"). The root, which has no type, is free of that.
    fn check_empty(&self) -> Result<()> {
        let has_type = self.open_file("cgroup.type").is_ok();
        if has_type && !self.members("cgroup.procs").unwrap_or_default().is_empty() {
            bail!("{}", self.occupants());
        }
        Ok(())
    }

    /// Gives the groups in this one a controller.
    pub fn enable(&self, controller: &str) -> Result<()> {
        let context = || {
            format!(
                "cannot enable the controller \"{controller}\" below control group {:?}",
                self.path
            )
        };
        self.check_empty().with_context(context)?;
        match self.write("cgroup.subtree_control", &format!("+{controller}")) {
            Err(Errno::BUSY) => Err(anyhow::anyhow!("{}", self.occupants())).with_context(context),
            written => written.with_context(context),
        }
    }

    /// Why a controller cannot be enabled.
    fn occupants(&self) -> String {
        let mut pids = self.members("cgroup.procs").unwrap_or_default();
        pids.sort_unstable();
        let more = pids.len().saturating_sub(3);
        let mut names: Vec<String> = pids
            .iter()
            .take(3)
            .map(|pid| {
                let command = std::fs::read_to_string(format!("/proc/{pid}/comm"));
                format!("{pid} ({})", command.unwrap_or_default().trim_end())
            })
            .collect();
        if more > 0 {
            names.push(format!("{more} more"));
        }
        if names.is_empty() {
            Errno::BUSY.to_string()
        } else {
            format!("processes are in it: {}", names.join(", "))
        }
    }

    /// Removes the group and the groups in it, which must be without processes; those that are just ending are
    /// waited for, for a bounded time. A group that is gone already is fine.
    pub fn remove(self) -> Result<()> {
        let limit = Instant::now() + REMOVAL_LIMIT;
        let context = || format!("cannot remove control group {:?}", self.path);
        let Some((above, name)) = self.path.parent().zip(self.path.file_name()) else {
            bail!("{}: it is the root", context());
        };
        let above = match open_directory(rustix::fs::CWD, above.as_os_str()) {
            Err(Errno::NOENT) => return Ok(()),
            above => above.with_context(context)?,
        };
        remove_below(above.as_fd(), name, limit).with_context(context)
    }

    /// The groups in this one.
    pub(super) fn children(&self) -> rustix::io::Result<Vec<Group>> {
        let mut children = Vec::new();
        for name in directories(self.fd.as_fd())? {
            match self.open_child(&name) {
                Err(Errno::NOENT | Errno::NODEV) => {}
                child => children.push(child?),
            }
        }
        Ok(children)
    }

    /// The numbers in a file, such as the processes in `cgroup.procs`.
    pub(super) fn members(&self, file: &str) -> rustix::io::Result<Vec<i32>> {
        let text = self.read(file)?;
        Ok(text.lines().filter_map(|line| line.parse().ok()).collect())
    }

    /// Writes a file of the group; the kernel takes a value only whole.
    pub(super) fn write(&self, file: &str, value: &str) -> rustix::io::Result<()> {
        let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = retry(|| rustix::fs::openat(&self.fd, file, flags, Mode::empty()))?;
        retry(|| rustix::io::write(&fd, value.as_bytes()))?;
        Ok(())
    }

    /// The text of a file of the group.
    pub(super) fn read(&self, file: &str) -> rustix::io::Result<String> {
        let fd = self.open_file(file)?;
        read_all(fd.as_fd())
    }

    pub(super) fn open_file(&self, file: &str) -> rustix::io::Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        retry(|| rustix::fs::openat(&self.fd, file, flags, Mode::empty()))
    }

    /// The topmost group that `path` leads through, which is where the tree is mounted, and what is left of the
    /// path.
    fn mount_of(path: &Path) -> Result<(Group, Vec<&OsStr>)> {
        let mut names = Vec::new();
        for component in path.components() {
            match component {
                Component::RootDir => {}
                Component::Normal(name) => names.push(name),
                _ => bail!("expected an absolute path without \"..\""),
            }
        }
        let mut reached = PathBuf::from("/");
        for (index, name) in names.iter().enumerate() {
            reached.push(name);
            let fd = match open_directory(rustix::fs::CWD, reached.as_os_str()) {
                Err(Errno::NOENT) => break,
                fd => fd.call(|| format!("openat({reached:?})"))?,
            };
            let kind = rustix::fs::fstatfs(&fd).call(|| "fstatfs".into())?.f_type;
            if kind == CGROUP2_MAGIC {
                let group = Group { path: reached, fd };
                return Ok((group, names.split_off(index + 1)));
            }
        }
        bail!("it is not below a mount of control groups of version 2");
    }

    fn make_child(&self, name: &OsStr) -> rustix::io::Result<Group> {
        match rustix::fs::mkdirat(&self.fd, name, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(Errno::EXIST) => self.open_child(name),
            Err(errno) => Err(errno),
        }
    }

    fn open_child(&self, name: &OsStr) -> rustix::io::Result<Group> {
        Ok(Group {
            fd: open_directory(self.fd.as_fd(), name)?,
            path: self.path.join(name),
        })
    }
}

/// For clone3(2) with CLONE_INTO_CGROUP.
impl AsFd for Group {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Opens a directory that is not a symbolic link.
fn open_directory(dir: BorrowedFd<'_>, name: &OsStr) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    retry(|| rustix::fs::openat(dir, name, flags, Mode::empty()))
}

/// The names of the directories in a directory.
fn directories(dir: BorrowedFd<'_>) -> rustix::io::Result<Vec<std::ffi::OsString>> {
    use std::os::unix::ffi::OsStrExt;
    let mut names = Vec::new();
    for entry in rustix::fs::Dir::read_from(dir)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        let is_directory = entry.file_type() == rustix::fs::FileType::Directory;
        if is_directory && name != b"." && name != b".." {
            names.push(OsStr::from_bytes(name).to_owned());
        }
    }
    Ok(names)
}

/// Removes a group, depth first.
fn remove_below(above: BorrowedFd<'_>, name: &OsStr, limit: Instant) -> rustix::io::Result<()> {
    let mut pause = Duration::from_millis(1);
    loop {
        match retry(|| rustix::fs::unlinkat(above, name, AtFlags::REMOVEDIR)) {
            Ok(()) | Err(Errno::NOENT) => return Ok(()),
            // Linux: groups in it, or processes that have not quite gone.
            Err(Errno::BUSY) if Instant::now() < limit => {}
            Err(errno) => return Err(errno),
        }
        match open_directory(above, name) {
            Err(Errno::NOENT) => return Ok(()),
            Err(errno) => return Err(errno),
            Ok(dir) => {
                let names = directories(dir.as_fd())?;
                for name in &names {
                    remove_below(dir.as_fd(), name, limit)?;
                }
                if names.is_empty() {
                    sleep(pause);
                    pause = (pause * 2).min(Duration::from_millis(50));
                }
            }
        }
    }
}

/// Files of control groups are read until their end; their sizes are not told.
fn read_all(fd: BorrowedFd<'_>) -> rustix::io::Result<String> {
    let mut text = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        match retry(|| rustix::io::read(fd, &mut buffer))? {
            0 => return Ok(String::from_utf8_lossy(&text).into_owned()),
            count => text.extend_from_slice(&buffer[..count]),
        }
    }
}
