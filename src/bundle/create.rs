//! `create`: from a bundle to a container that waits for its start.

use std::cell::RefCell;
use std::io::Write;
use std::os::fd::AsFd;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::path::PathBuf;

use anyhow::Context;
use anyhow::anyhow;
use jiff::Timestamp;
use oci_spec::runtime::LinuxNamespaceType;
use oci_spec::runtime::Spec;
use rustix::process::Pid;

use crate::bundle::console;
use crate::bundle::end;
use crate::bundle::prepare::Asked;
use crate::bundle::prepare::Prepared;
use crate::bundle::prepare::namespace_of;
use crate::bundle::root;
use crate::bundle::root::Root;
use crate::bundle::state;
use crate::bundle::state::Container;
use crate::bundle::state::Process;
use crate::bundle::state::State;
use crate::bundle::state::Status;
use crate::cgroup::place;
use crate::cgroup::place::Plan;
use crate::cgroup::place::Wish;
use crate::config::hooks::Stage;
use crate::error;
use crate::error::Kind;
use crate::error::fail;
use crate::oci::runtime as runtime_spec;
use crate::runtime;
use crate::runtime::Bundle;
use crate::runtime::Placement;
use crate::runtime::Preserved;
use crate::runtime::Rootfs;
use crate::runtime::Running;
use crate::runtime::Stdio;
use crate::runtime::gate;
use crate::runtime::gate::Gate;
use crate::runtime::resctrl;
use crate::sys::fd;
use crate::sys::process::Child;

/// What the caller asks for beside the bundle.
pub struct Options<'a> {
    pub id: &'a str,
    pub bundle: &'a Path,
    pub streams: Streams<'a>,
    pub pid_file: Option<&'a Path>,
    /// Who gets a pidfd of the process.
    pub pidfd_socket: Option<&'a Path>,
    /// In the bundle.
    pub config: &'a Path,
    pub groups: Groups,
    /// They are tried for: without them the container runs all the same.
    pub rootless: bool,
    /// Descriptors from 3 on, after those of socket activation.
    pub preserved: u32,
    pub no_pivot: bool,
    pub no_new_keyring: bool,
}

/// Who makes control groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Groups {
    Cgroupfs,
    Systemd,
    None,
}

/// The standard streams of the container's process.
pub enum Streams<'a> {
    /// Our own, or a terminal whose master goes to who listens on the socket.
    Passed(Option<&'a Path>),
    /// What is made for it, or a terminal whose master the caller gets.
    Held(&'a dyn Fn() -> anyhow::Result<Stdio>),
}

impl Streams<'_> {
    fn console_path(&self) -> Option<&Path> {
        match self {
            Streams::Passed(path) => *path,
            Streams::Held(_) => None,
        }
    }

    /// Connects early: where nobody listens nothing is to be made.
    pub fn console(&self, terminal: bool) -> anyhow::Result<Option<OwnedFd>> {
        match self {
            Streams::Passed(path) => {
                console::check(terminal, *path)?;
                path.map(console::connect).transpose()
            }
            Streams::Held(_) => Ok(None),
        }
    }

    pub fn stdio(&self) -> anyhow::Result<Stdio> {
        match self {
            Streams::Passed(_) => own_streams(),
            Streams::Held(make) => make(),
        }
    }
}

/// What was created.
pub struct Created {
    pub container: Container,
    pub init: Child,
    pub terminal: Option<OwnedFd>,
}

/// Creates a container. What is left out of what its specification asks for is passed to `warn`.
///
/// Must: be called by a single-threaded process, whose working directory becomes that of the bundle.
pub fn create(
    root: &Root,
    options: &Options<'_>,
    warn: &mut dyn FnMut(anyhow::Error),
) -> anyhow::Result<Created> {
    root::check_id(options.id)?;
    let pid_file = options.pid_file.map(std::path::absolute).transpose()?;
    let pidfd_socket = options.pidfd_socket.map(console::connect).transpose()?;
    // Relative paths of a specification begin in the bundle; those of the command line do not.
    let root = Root::new(std::path::absolute(root.path())?);
    let console = options.streams.console_path();
    let console = console.map(std::path::absolute).transpose()?;
    let bundle = enter(options.bundle)?;
    let (mut spec, text) = runtime_spec::read(&bundle.join(options.config), &mut |text| {
        warn(anyhow!(text));
    })?;
    let preserved = preserved(&mut spec, options.preserved)?;
    if let Streams::Passed(_) = options.streams {
        console::check(has_terminal(&spec), console.as_deref())?;
    }
    let console = console.as_deref().map(console::connect).transpose()?;
    let prepared = Prepared::of(&spec, &bundle)?;
    let plan = match cgroup_plan(options, &spec) {
        Err(err) if options.rootless => {
            warn(err);
            Plan::Without { why: None }
        }
        plan => plan?,
    };
    plan.warnings()
        .into_iter()
        .for_each(|text| warn(anyhow!(text)));
    refuse_others(&plan)?;
    let state = new_state(options, &spec, &bundle, &prepared, &plan)?;
    let (container, gate) = name(&root, state, &text)?;
    let making = Making {
        options,
        spec: &spec,
        prepared: &prepared,
        preserved: &preserved,
        plan: &plan,
        gate: &gate,
    };
    let mut container = container;
    let made = making.make(&mut container).and_then(|made| {
        let after = After {
            console,
            pidfd_socket,
            pid_file,
        };
        after
            .tell(&made, &mut container)
            .inspect_err(|_| made.kill())?;
        Ok(made)
    });
    match made {
        Ok(running) => Ok(Created {
            container,
            init: running.init,
            terminal: running.terminal,
        }),
        Err(err) => {
            end::undo(&container, &spec);
            Err(explain(err, &spec))
        }
    }
}

/// All processes of a container's group end with the container, so there must be none of others.
fn refuse_others(plan: &Plan) -> anyhow::Result<()> {
    let Some(group) = plan.placed(None).group()? else {
        return Ok(());
    };
    if group.processes()?.is_empty() {
        return Ok(());
    }
    let text = format!(
        "control group {} has processes of others: expected one of its own for the container",
        group.path().display()
    );
    Err(fail(Kind::Conflict, text))
}

fn cgroup_plan(options: &Options<'_>, spec: &Spec) -> anyhow::Result<Plan> {
    if options.groups == Groups::None {
        return Ok(Plan::Without { why: None });
    }
    let linux = spec.linux().as_ref();
    place::plan(&Wish {
        id: options.id,
        path: linux.and_then(|linux| linux.cgroups_path().as_deref()),
        systemd: options.groups == Groups::Systemd,
        resources: linux.and_then(|linux| linux.resources().as_ref()),
    })
}

/// Relative paths of a specification begin in the bundle.
fn enter(bundle: &Path) -> anyhow::Result<PathBuf> {
    let cannot = || format!("cannot use bundle {}", bundle.display());
    let bundle = bundle.canonicalize().with_context(cannot)?;
    std::env::set_current_dir(&bundle).with_context(cannot)?;
    Ok(bundle)
}

pub fn has_terminal(spec: &Spec) -> bool {
    let process = spec.process().as_ref();
    process
        .and_then(oci_spec::runtime::Process::terminal)
        .unwrap_or(false)
}

/// Descriptors for the container: those that systemd passed to us (sd_listen_fds(3)), and then `count` more.
fn preserved(spec: &mut Spec, count: u32) -> anyhow::Result<Vec<Preserved>> {
    let listening = listening();
    if listening > 0
        && let Some(process) = spec.process_mut()
    {
        let mut env = process.env().clone().unwrap_or_default();
        env.push(format!("LISTEN_FDS={listening}"));
        // It is the first of its process namespace.
        env.push("LISTEN_PID=1".into());
        process.set_env(Some(env));
    }
    open_preserved(listening + count)
}

pub fn open_preserved(count: u32) -> anyhow::Result<Vec<Preserved>> {
    let open = |number: u32| {
        let number = i32::try_from(number)?;
        let fd = fd::of_caller(number).ok_or_else(|| {
            let text = format!("descriptor {number} is to be preserved and is not open");
            fail(Kind::Usage, text)
        })?;
        Ok(Preserved { number, fd })
    };
    (3..3 + count).map(open).collect()
}

fn listening() -> u32 {
    let number = |name| std::env::var(name).ok()?.parse::<u32>().ok();
    match (number("LISTEN_PID"), number("LISTEN_FDS")) {
        (Some(pid), Some(count)) if pid == std::process::id() => count,
        _ => 0,
    }
}

fn new_state(
    options: &Options<'_>,
    spec: &Spec,
    bundle: &Path,
    prepared: &Prepared,
    plan: &Plan,
) -> anyhow::Result<State> {
    let Rootfs::Directory(rootfs) = &prepared.rootfs else {
        anyhow::bail!("the root file system of a bundle is a directory");
    };
    let has = |stage: Stage| {
        let hooks = spec.hooks().as_ref();
        hooks.is_some_and(|hooks| !stage.of(hooks).is_empty())
    };
    Ok(State {
        oci_version: spec.version().clone(),
        id: options.id.to_owned(),
        creator: Process::current()?,
        init: None,
        bundle: bundle.to_owned(),
        rootfs: rootfs.clone(),
        annotations: spec.annotations().clone().into_iter().flatten().collect(),
        created: Timestamp::now(),
        poststart: has(Stage::Poststart),
        poststop: has(Stage::Poststop),
        resctrl: resctrl::of(spec).is_some(),
        shares_keyring: options.no_new_keyring,
        agent: prepared.agent.clone(),
        own_pids: namespace_of(spec, LinuxNamespaceType::Pid) == Asked::New,
        cgroup: plan.placed(None),
    })
}

/// Writes all of it before anybody sees it under its name.
fn name(root: &Root, state: State, config: &[u8]) -> anyhow::Result<(Container, Gate)> {
    let mut unnamed = root.make_unnamed(state.creator)?;
    state.write_in(unnamed.fd.as_fd())?;
    state::write_config(unnamed.fd.as_fd(), config)?;
    let gate = Gate::make(unnamed.fd.as_fd())?;
    let dir = unnamed.name(root, &state.id)?;
    let fd = unnamed.fd.try_clone()?;
    Ok((Container { dir, fd, state }, gate))
}

/// What a container is made of.
struct Making<'a> {
    options: &'a Options<'a>,
    spec: &'a Spec,
    prepared: &'a Prepared,
    preserved: &'a [Preserved],
    plan: &'a Plan,
    gate: &'a Gate,
}

impl Making<'_> {
    fn make(&self, container: &mut Container) -> anyhow::Result<Running> {
        let group = self.plan.make()?;
        let entered = RefCell::new(None);
        let enter = |pid| {
            let group = self.plan.enter(pid)?;
            entered.replace(Some(self.plan.placed(group.as_ref())));
            anyhow::Ok(())
        };
        let cgroup = match (self.plan, &group) {
            (Plan::Without { .. }, _) => None,
            (Plan::Directory { .. }, Some(group)) => Some(Placement::Into(group.as_fd())),
            (Plan::Directory { .. } | Plan::Scope { .. }, _) => Some(Placement::By(&enter)),
        };
        let made = self.clone(&container.state, cgroup)?;
        if let Some(placed) = entered.take() {
            container.state.cgroup = placed;
        }
        Ok(made)
    }

    fn clone(&self, state: &State, cgroup: Option<Placement<'_>>) -> anyhow::Result<Running> {
        let pass_on = |listener: OwnedFd, init: Pid| match &state.agent {
            Some(agent) => {
                let pid = init.as_raw_pid();
                agent.send(&listener, state, Status::Creating, (pid, pid))
            }
            None => Ok(()),
        };
        let prepared = self.prepared;
        let bundle = Bundle {
            spec: self.spec,
            rootfs: &prepared.rootfs,
            userns: &prepared.userns,
            ids: &prepared.ids,
            root_is_caller: prepared.root_is_caller(),
            user: None,
            accounts: None,
            filters: &prepared.filters,
            joins: &prepared.joins,
            interface: None,
            wire: None,
            shm: None,
            init: false,
            set_home: true,
            preserved: self.preserved,
            cgroup,
            gate: Some(self.gate),
            pass_on: Some(&pass_on),
            shares_keyring: self.options.no_new_keyring,
            no_pivot: self.options.no_pivot,
            hardened: false,
            id: &state.id,
            directory: &state.bundle,
        };
        let stdio = (!has_terminal(self.spec)).then(|| self.options.streams.stdio());
        runtime::create(&bundle, stdio.transpose()?, None)
    }
}

pub fn own_streams() -> anyhow::Result<Stdio> {
    use rustix::stdio::{stderr, stdin, stdout};
    Ok(Stdio {
        stdin: stdin().try_clone_to_owned()?,
        stdout: stdout().try_clone_to_owned()?,
        stderr: stderr().try_clone_to_owned()?,
    })
}

/// Who hears of a process that was made.
pub struct After {
    pub console: Option<OwnedFd>,
    pub pidfd_socket: Option<OwnedFd>,
    pub pid_file: Option<PathBuf>,
}

impl After {
    /// Notes the container down, tells everybody, and lets init live without us.
    fn tell(&self, made: &Running, container: &mut Container) -> anyhow::Result<()> {
        container.state.init = Some(Process::of(made.init.pid)?);
        container.state.write_in(container.fd.as_fd())?;
        self.announce(&made.init, made.terminal.as_ref())?;
        gate::release(made.waiting.as_ref().context("init does not wait")?)
    }

    pub fn announce(&self, made: &Child, terminal: Option<&OwnedFd>) -> anyhow::Result<()> {
        if let (Some(socket), Some(master)) = (&self.console, terminal) {
            console::send(socket, master)?;
        }
        if let Some(socket) = &self.pidfd_socket {
            console::send_pidfd(socket, &made.pidfd)?;
        }
        match &self.pid_file {
            Some(path) => write_pid(path, made.pid),
            None => Ok(()),
        }
    }
}

/// As runc does it: other users may read it, and it is whole from its first moment.
pub fn write_pid(path: &Path, pid: Pid) -> anyhow::Result<()> {
    let write = || {
        let name = path.file_name().context("it is no file name")?;
        let mut temp = std::ffi::OsString::from(".");
        temp.push(name);
        let temp = path.with_file_name(temp);
        let mut file = std::fs::File::create(&temp)?;
        write!(file, "{}", pid.as_raw_pid())?;
        std::fs::rename(&temp, path)?;
        anyhow::Ok(())
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

/// See `missing_command`.
pub fn explain(err: anyhow::Error, spec: &Spec) -> anyhow::Error {
    match spec.process() {
        Some(process) => missing_command(err, process),
        None => err,
    }
}

/// Docker, containerd and Podman know by runc's words that it is the command that is missing or may not be executed.
pub fn missing_command(err: anyhow::Error, process: &oci_spec::runtime::Process) -> anyhow::Error {
    let command = process.args().as_ref().and_then(|args| args.first());
    match (error::kind(&err), command) {
        (Some(Kind::CommandNotFound), Some(command)) if !command.contains('/') => err.context(
            format!("exec: \"{command}\": executable file not found in $PATH"),
        ),
        (Some(Kind::CannotExecute), Some(command)) => {
            err.context(format!("exec: \"{command}\": permission denied"))
        }
        _ => err,
    }
}
