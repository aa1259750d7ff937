//! `exec`: a command in a running container.

pub mod keeper;

use std::os::fd::AsFd;
use std::os::fd::OwnedFd;
use std::time::Duration;

use anyhow::Context;
use oci_spec::runtime::LinuxNamespaceType;
use oci_spec::runtime::Spec;

use crate::cgroup::Group;
use crate::container::config::Config;
use crate::container::config::identity::Userns;
use crate::container::events;
use crate::container::record::Container;
use crate::container::spec;
use crate::container::status::State;
use crate::container::status::Status;
use crate::engine::Engine;
use crate::engine::calls;
use crate::engine::connect::Connection;
use crate::engine::connect::not_running;
use crate::engine::groups;
use crate::engine::ids;
use crate::engine::pause;
use crate::error;
use crate::runtime::Preserved;
use crate::runtime::Program;
use crate::runtime::Stdio;
use crate::runtime::Wanted;
use crate::runtime::exec;
use crate::runtime::exec::Join;
use crate::runtime::exec::Joined;
use crate::runtime::join;
use crate::store::journal;
use crate::sys::idmap::Root;
use crate::sys::poll;
use crate::sys::process;

/// Between the moment from which an ending process cannot be joined and that in which it has ended.
const END: Duration = Duration::from_millis(100);

/// What to execute, and as whom. Absent is what the container has.
#[derive(Debug)]
pub struct Request {
    /// It names this command in the journal.
    pub id: String,
    pub command: Vec<String>,
    pub env: Vec<String>,
    pub workdir: Option<String>,
    pub user: Option<String>,
    /// With all capabilities.
    pub privileged: bool,
    /// Descriptors of the caller for the command.
    pub preserved: Vec<Preserved>,
    pub terminal: bool,
    /// Rows and columns of the caller's terminal.
    pub size: Option<(u16, u16)>,
}

/// Executes a command. Without `stdio` it gets a terminal.
///
/// Must: be called by a single-threaded process.
pub fn exec(
    engine: &Engine,
    container: &Container,
    request: &Request,
    stdio: Option<Stdio>,
) -> anyhow::Result<Joined> {
    let joined = join_container(engine, container, request, stdio, false)?;
    events::add_with(&engine.dirs, container, "exec", &[exec_id(request)]);
    Ok(joined)
}

/// Executes the command of a health check. It dies with the process that calls, and the journal does not hear
/// of it.
///
/// Must: be called by a single-threaded process.
pub fn check(
    engine: &Engine,
    container: &Container,
    command: Vec<String>,
    stdio: Stdio,
) -> anyhow::Result<Joined> {
    let request = Request {
        id: String::new(),
        command,
        env: vec![],
        workdir: None,
        user: None,
        privileged: false,
        preserved: vec![],
        terminal: false,
        size: None,
    };
    join_container(engine, container, &request, Some(stdio), true)
}

/// `tied`: the command dies with the process that calls.
fn join_container(
    engine: &Engine,
    container: &Container,
    request: &Request,
    stdio: Option<Stdio>,
    tied: bool,
) -> anyhow::Result<Joined> {
    let cannot = || format!("cannot execute in container \"{}\"", container.name);
    let Status::Running(state) = container.status()? else {
        return Err(not_running(container)).with_context(cannot);
    };
    if state.paused {
        return Err(pause::paused(container)).with_context(cannot);
    }
    let pidfd = open_init(container, &state).with_context(cannot)?;
    let spec = Spec::load(container.spec_file())
        .with_context(|| format!("cannot read {}", container.spec_file().display()))?;
    let mut config = container.config.clone();
    config.security.privileged |= request.privileged;
    let process = process_of(&spec, &config, request).with_context(cannot)?;
    let identity = &config.identity;
    let ids = ids::of(identity)?;
    let filters = calls::filters(&engine.dirs, &config, &ids)?;
    let user = match &request.user {
        // Its groups are then its own too, as in Podman.
        Some(user) => Wanted::of(user),
        None => ids::wanted(identity),
    };
    let group = groups::to_enter(container, &state).with_context(cannot)?;
    let join = Join {
        pidfd: pidfd.as_fd(),
        namespaces: namespaces(&spec),
        root_is_caller: ids::root_is_us(&ids),
        userns: !matches!(identity.userns, Userns::Host),
        root: Root {
            keeps_groups: ids.root().keeps_groups || user.keep_groups,
            ..ids.root()
        },
        cgroup: group.as_ref().map(Group::as_fd),
        shares_keyring: false,
        program: Program {
            // Of the container its init is tied to somebody.
            dies_with_parent: tied,
            process: &process,
            user: Some(user),
            make_workdir: false,
            filters: &filters,
            hooked: None,
            init: false,
            set_home: !config.process.unset_env.contains("HOME"),
            preserved: &request.preserved,
            gate: None,
            linux: spec.linux().as_ref(),
        },
    };
    let pass_on = |listener: OwnedFd, _| match Connection::open(container)? {
        Some(connection) => connection.send_listener(listener.as_fd()),
        None => Err(not_running(container)),
    };
    exec::exec(&join, stdio, &pass_on)
        .map_err(|err| {
            let ended = poll::readable([Some(pidfd.as_fd())], Some(END));
            match (error::kind(&err), ended) {
                // It ended while we joined it; what went wrong by that says nothing to a person.
                (None, Ok([true])) => not_running(container),
                _ => err,
            }
        })
        .with_context(cannot)
}

/// For the journal: the command has ended.
pub fn ended(engine: &Engine, container: &Container, request: &Request, status: i32) {
    let mut event = events::of(container, "exec_died");
    let (key, id) = exec_id(request);
    event.attributes.insert(key.to_owned(), id);
    event.exit_code = Some(status);
    journal::add(&engine.dirs, &event);
}

fn exec_id(request: &Request) -> (&'static str, String) {
    ("execID", request.id.clone())
}

/// A pidfd of the container's init, and never of a process that got the same pid later.
fn open_init(container: &Container, state: &State) -> anyhow::Result<OwnedFd> {
    process::open_started(state.pid, state.start_ticks).ok_or_else(|| not_running(container))
}

fn namespaces(spec: &Spec) -> i32 {
    let list = spec
        .linux()
        .as_ref()
        .and_then(|linux| linux.namespaces().as_ref());
    list.into_iter()
        .flatten()
        .filter(|namespace| namespace.typ() != LinuxNamespaceType::User)
        .map(|namespace| join::kind(namespace.typ()).0)
        .fold(0, |all, one| all | one)
}

fn process_of(
    spec: &Spec,
    config: &Config,
    request: &Request,
) -> anyhow::Result<oci_spec::runtime::Process> {
    let mut process = spec
        .process()
        .clone()
        .context("the specification has no process")?;
    process.set_args(Some(request.command.clone()));
    if request.privileged {
        process.set_capabilities(Some(spec::security::capabilities(config)?));
        process.set_no_new_privileges(Some(false));
    }
    let mut env = process.env().clone().unwrap_or_default();
    let name = |variable: &str| variable.split('=').next().map(str::to_owned);
    for variable in &request.env {
        env.retain(|known| name(known) != name(variable));
        env.push(variable.clone());
    }
    if request.terminal && !env.iter().any(|variable| variable.starts_with("TERM=")) {
        env.push("TERM=xterm".into());
    }
    process.set_env(Some(env));
    if let Some(workdir) = &request.workdir {
        process.set_cwd(workdir.into());
    }
    process.set_terminal(Some(request.terminal));
    let size = request.size.map(|(rows, columns)| {
        oci_spec::runtime::BoxBuilder::default()
            .height(u64::from(rows))
            .width(u64::from(columns))
            .build()
    });
    process.set_console_size(size.transpose()?);
    Ok(process)
}
