//! `exec`: another process in a container, with its namespaces, its control group and its filter.

use std::os::fd::AsFd;
use std::os::fd::OwnedFd;
use std::path::Path;

use anyhow::Context;
use oci_spec::runtime::LinuxNamespaceType;
use oci_spec::runtime::Process;
use oci_spec::runtime::Spec;
use rustix::io::Errno;
use rustix::process::Pid;

use crate::bundle::console;
use crate::bundle::create::After;
use crate::bundle::create::Streams;
use crate::bundle::create::missing_command;
use crate::bundle::create::open_preserved;
use crate::bundle::prepare;
use crate::bundle::prepare::Asked;
use crate::bundle::state::Container;
use crate::bundle::state::Status;
use crate::cgroup::Group;
use crate::error::Kind;
use crate::error::fail;
use crate::runtime::Program;
use crate::runtime::exec;
use crate::runtime::exec::Join;
use crate::runtime::exec::Joined;
use crate::runtime::join;
use crate::sys::SyscallError;
use crate::sys::idmap;
use crate::sys::idmap::Root;
use crate::sys::namespace;

/// What the caller asks for beside the process.
pub struct Options<'a> {
    pub streams: Streams<'a>,
    pub pid_file: Option<&'a Path>,
    pub pidfd_socket: Option<&'a Path>,
    pub preserved: u32,
    /// A group inside that of the container.
    pub group: Option<&'a Path>,
    /// In a container that is paused too, where it waits like all others.
    pub ignore_paused: bool,
}

/// Executes a process in a container. `spec` is that of the container.
///
/// Must: be called by a single-threaded process.
pub fn exec(
    container: &Container,
    spec: &Spec,
    process: &Process,
    options: &Options<'_>,
) -> anyhow::Result<Joined> {
    let status = container.status()?;
    match status {
        Status::Created | Status::Running => {}
        Status::Paused if options.ignore_paused => {}
        Status::Paused => {
            let text = "cannot exec in a paused container (use --ignore-paused to override)";
            return Err(fail(Kind::WrongStatus, text));
        }
        Status::Creating => return Err(fail(Kind::WrongStatus, "container is being created")),
        Status::Stopped => return Err(fail(Kind::WrongStatus, "container not running")),
    }
    let terminal = process.terminal().unwrap_or(false);
    let console = options.streams.console(terminal)?;
    let after = After {
        console,
        pidfd_socket: options.pidfd_socket.map(console::connect).transpose()?,
        pid_file: options.pid_file.map(Path::to_owned),
    };
    let joining = Joining {
        container,
        spec,
        process,
        options,
        status,
    };
    let joined = joining
        .join()
        .map_err(|err| missing_command(err, process))?;
    after.announce(&joined.command, joined.terminal.as_ref())?;
    Ok(joined)
}

struct Joining<'a> {
    container: &'a Container,
    spec: &'a Spec,
    process: &'a Process,
    options: &'a Options<'a>,
    status: Status,
}

impl Joining<'_> {
    fn join(&self) -> anyhow::Result<Joined> {
        let (init, pidfd) = self.container.live()?;
        let group = self.group()?;
        match self.join_in(&pidfd, group.as_ref()) {
            // Linux: a group that has controllers for groups in it takes no processes; init is in one of those.
            Err(err) if group.is_some() && self.options.group.is_none() && is_busy(&err) => {
                let inner = init.pid().map(Group::of_process).transpose()?.flatten();
                self.join_in(&pidfd, inner.as_ref())
            }
            joined => joined,
        }
    }

    fn group(&self) -> anyhow::Result<Option<Group>> {
        let group = self.container.group()?;
        let Some(inner) = self.options.group else {
            return Ok(group);
        };
        let Some(group) = group else {
            let text = "--cgroup: the container has no control group of version 2";
            return Err(fail(Kind::Unsupported, text));
        };
        let inner = inner.strip_prefix("/").unwrap_or(inner);
        if inner.as_os_str().is_empty() {
            return Ok(Some(group));
        }
        let path = group.path().join(inner);
        match Group::open(&path)? {
            Some(found) => Ok(Some(found)),
            None => Err(fail(
                Kind::NotFound,
                format!("--cgroup: there is no control group {}", path.display()),
            )),
        }
    }

    fn join_in(&self, pidfd: &OwnedFd, group: Option<&Group>) -> anyhow::Result<Joined> {
        let state = &self.container.state;
        let filters = prepare::filters(prepare::profile(self.spec))?;
        let preserved = open_preserved(self.options.preserved)?;
        let (userns, root) = self.user_namespace()?;
        let join = Join {
            pidfd: pidfd.as_fd(),
            namespaces: namespaces(self.spec),
            // What it has for streams is the caller's, and stays as it is.
            root_is_caller: true,
            userns,
            root,
            cgroup: group.map(AsFd::as_fd),
            shares_keyring: state.shares_keyring,
            program: Program {
                dies_with_parent: false,
                process: self.process,
                user: None,
                make_workdir: false,
                filters: &filters,
                hooked: None,
                init: false,
                set_home: true,
                preserved: &preserved,
                gate: None,
                linux: self.spec.linux().as_ref(),
            },
        };
        let pass_on = |listener: OwnedFd, pid: Option<Pid>| match &state.agent {
            Some(agent) => {
                let init = state.init.map_or(0, |init| init.pid);
                let pid = pid.map_or(0, Pid::as_raw_pid);
                agent.send(&listener, state, self.status, (init, pid))
            }
            None => Ok(()),
        };
        let terminal = self.process.terminal().unwrap_or(false);
        let stdio = (!terminal).then(|| self.options.streams.stdio());
        exec::exec(&join, stdio.transpose()?, &pass_on)
    }

    /// Whether it is not ours, and who sets things up there.
    fn user_namespace(&self) -> anyhow::Result<(bool, Root)> {
        let Some(init) = self.container.state.init else {
            return Err(fail(Kind::WrongStatus, "container not running"));
        };
        let host = Root {
            uid: 0,
            gid: 0,
            keeps_groups: false,
        };
        if prepare::namespace_of(self.spec, LinuxNamespaceType::User) == Asked::Callers {
            return Ok((false, host));
        }
        let proc = Path::new("/proc").join(init.pid.to_string());
        let theirs = namespace::open(&proc.join("ns/user"));
        let theirs = theirs.map_err(|err| match (self.status, err.errno) {
            // Linux: until its command is executed, its memory belongs to the user namespace of who made it.
            (Status::Created, Errno::ACCESS) => {
                let text = "only root can exec in a container that is not started";
                fail(Kind::Unsupported, text)
            }
            _ => err.into(),
        })?;
        if namespace::same(theirs.as_fd(), namespace::own("user")?.as_fd())? {
            return Ok((false, host));
        }
        let lowest = |file: &str| {
            let path = proc.join(file);
            let text = std::fs::read_to_string(&path)
                .with_context(|| format!("cannot read {}", path.display()))?;
            let ids = idmap::parse(&text);
            anyhow::Ok(ids.iter().map(|range| range.inside).min().unwrap_or(0))
        };
        let root = Root {
            uid: lowest("uid_map")?,
            gid: lowest("gid_map")?,
            keeps_groups: false,
        };
        Ok((true, root))
    }
}

fn is_busy(err: &anyhow::Error) -> bool {
    let failed = err.downcast_ref::<SyscallError>();
    failed.is_some_and(|failed| failed.errno == Errno::BUSY)
}

fn namespaces(spec: &Spec) -> i32 {
    let linux = spec.linux().as_ref();
    let all = linux.and_then(|linux| linux.namespaces().as_ref());
    all.into_iter()
        .flatten()
        .filter(|namespace| namespace.typ() != LinuxNamespaceType::User)
        .map(|namespace| join::kind(namespace.typ()).0)
        .fold(0, |all, one| all | one)
}
