//! `create`: from a bundle to a container that waits for its start.

use std::io::Write;
use std::os::fd::AsFd;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::path::PathBuf;

use anyhow::Context;
use jiff::Timestamp;
use oci_spec::runtime::Spec;
use rustix::process::Pid;

use crate::bundle::console;
use crate::bundle::end;
use crate::bundle::prepare::Prepared;
use crate::bundle::root;
use crate::bundle::root::Root;
use crate::bundle::state;
use crate::bundle::state::Container;
use crate::bundle::state::Process;
use crate::bundle::state::State;
use crate::bundle::state::Status;
use crate::config::hooks::Stage;
use crate::error;
use crate::error::Kind;
use crate::error::fail;
use crate::runtime;
use crate::runtime::Bundle;
use crate::runtime::Preserved;
use crate::runtime::Rootfs;
use crate::runtime::Running;
use crate::runtime::Stdio;
use crate::runtime::gate;
use crate::runtime::gate::Gate;
use crate::sys::fd;

/// What the caller asks for beside the bundle.
#[derive(Debug)]
pub struct Options<'a> {
    pub id: &'a str,
    pub bundle: &'a Path,
    /// Who gets the terminal; `None` if the caller of `create` keeps it.
    pub console: Console<'a>,
    pub pid_file: Option<&'a Path>,
    /// Descriptors from 3 on, after those of socket activation.
    pub preserved: u32,
    pub no_pivot: bool,
    pub no_new_keyring: bool,
}

/// Who gets the terminal of a container that has one.
#[derive(Clone, Copy, Debug)]
pub enum Console<'a> {
    /// Whoever listens there.
    Socket(Option<&'a Path>),
    /// The caller.
    Caller,
}

/// What was created.
#[derive(Debug)]
pub struct Created {
    pub container: Container,
    pub init: crate::sys::process::Child,
    pub terminal: Option<OwnedFd>,
}

/// Creates a container. Its process has our standard streams or a terminal.
///
/// Must: be called by a single-threaded process, whose working directory becomes that of the bundle.
pub fn create(root: &Root, options: &Options<'_>) -> anyhow::Result<Created> {
    root::check_id(options.id)?;
    let pid_file = options.pid_file.map(std::path::absolute).transpose()?;
    let bundle = enter(options.bundle)?;
    let (bytes, mut spec) = read_spec(&bundle)?;
    let preserved = preserved(&mut spec, options.preserved)?;
    let terminal = has_terminal(&spec);
    let socket = match options.console {
        Console::Socket(path) => {
            console::check(terminal, path)?;
            path.map(console::connect).transpose()?
        }
        Console::Caller => None,
    };
    let prepared = Prepared::of(&spec, &bundle)?;
    let state = new_state(options, &spec, &bundle, &prepared)?;
    let (mut container, gate) = name(root, state, &bytes)?;
    let making = Making {
        options,
        spec: &spec,
        prepared: &prepared,
        preserved: &preserved,
        gate: &gate,
    };
    let made = making.make(&mut container).and_then(|made| {
        note_down(&made, &mut container, socket.as_ref(), pid_file.as_deref())
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

/// Relative paths of a specification begin in the bundle.
fn enter(bundle: &Path) -> anyhow::Result<PathBuf> {
    let cannot = || format!("cannot use bundle {}", bundle.display());
    let bundle = bundle.canonicalize().with_context(cannot)?;
    std::env::set_current_dir(&bundle).with_context(cannot)?;
    Ok(bundle)
}

fn read_spec(bundle: &Path) -> anyhow::Result<(Vec<u8>, Spec)> {
    let path = bundle.join("config.json");
    let bytes = std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let spec = serde_json::from_slice(&bytes)
        .with_context(|| format!("cannot understand {}", path.display()))?;
    Ok((bytes, spec))
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
        shares_keyring: options.no_new_keyring,
        agent: prepared.agent.clone(),
        cgroup: None,
    })
}

/// Writes all of it before anybody sees it under its name.
fn name(root: &Root, state: State, config: &[u8]) -> anyhow::Result<(Container, Gate)> {
    let mut unnamed = root.make_unnamed()?;
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
    gate: &'a Gate,
}

impl Making<'_> {
    fn make(&self, container: &mut Container) -> anyhow::Result<Running> {
        let state = &container.state;
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
            shm: None,
            init: false,
            set_home: true,
            preserved: self.preserved,
            cgroup: None,
            gate: Some(self.gate),
            pass_on: Some(&pass_on),
            shares_keyring: self.options.no_new_keyring,
            no_pivot: self.options.no_pivot,
            id: &state.id,
            directory: &state.bundle,
        };
        let stdio = (!has_terminal(self.spec)).then(own_streams).transpose()?;
        runtime::create(&bundle, stdio, None)
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

/// What has to be on record before init may live without us.
fn note_down(
    made: &Running,
    container: &mut Container,
    console: Option<&OwnedFd>,
    pid_file: Option<&Path>,
) -> anyhow::Result<()> {
    container.state.init = Some(Process::of(made.init.pid)?);
    container.state.write_in(container.fd.as_fd())?;
    if let (Some(socket), Some(master)) = (console, &made.terminal) {
        console::send(socket, master)?;
    }
    if let Some(path) = pid_file {
        write_pid(path, made.init.pid)?;
    }
    let waiting = made.waiting.as_ref().context("init does not wait")?;
    gate::release(waiting)
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

/// Docker, containerd and Podman know by runc's words that it is the command that is missing.
pub fn explain(err: anyhow::Error, spec: &Spec) -> anyhow::Error {
    let process = spec.process().as_ref();
    let args = process.and_then(|process| process.args().as_ref());
    let command = args.and_then(|args| args.first());
    match (error::kind(&err), command) {
        (Some(Kind::CommandNotFound), Some(command)) if !command.contains('/') => err.context(
            format!("exec: \"{command}\": executable file not found in $PATH"),
        ),
        _ => err,
    }
}
