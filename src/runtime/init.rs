//! The container's init until its command is executed: pid 1 in all its new namespaces, a fork of
//! the supervisor. Carries out the specification step by step; the order is the point.

use std::os::fd::AsFd;
use std::os::fd::OwnedFd;

use anyhow::Context;
use oci_spec::runtime::LinuxNamespaceType;
use oci_spec::runtime::Spec;

use crate::config::hooks::Stage;
use crate::runtime::Bundle;
use crate::runtime::Program;
use crate::runtime::Userns;
use crate::runtime::lsm;
use crate::runtime::process;
use crate::runtime::process::Held;
use crate::runtime::procfs::Procfs;
use crate::runtime::report;
use crate::runtime::rootfs;
use crate::runtime::spawn::Stdio;
use crate::runtime::sysctl;
use crate::runtime::timens;
use crate::runtime::trampoline;
use crate::sys;
use crate::sys::socket;
use crate::sys::userns;

/// Runs in the new process; never returns.
///
/// `idmapped` are mounts that the caller has made, see `idmapped`.
pub fn main(
    bundle: &Bundle<'_>,
    stdio: Option<Stdio>,
    idmapped: Vec<Option<OwnedFd>>,
    socket: OwnedFd,
) -> ! {
    let (socket, err) = run(bundle, stdio, idmapped, socket);
    report::send_error(socket.as_fd(), &err);
    sys::process::exit_now(125)
}

fn run(
    bundle: &Bundle<'_>,
    stdio: Option<Stdio>,
    idmapped: Vec<Option<OwnedFd>>,
    socket: OwnedFd,
) -> (OwnedFd, anyhow::Error) {
    match set_up(bundle, stdio, idmapped, &socket) {
        Ok(held) => {
            let program = Program {
                dies_with_parent: bundle.gate.is_none(),
                process: bundle
                    .spec
                    .process()
                    .as_ref()
                    .expect("set_up has looked at it"),
                user: bundle.user,
                make_workdir: true,
                filters: bundle.filters,
                hooked: Some(bundle.hooked()),
                init: bundle.init,
                set_home: bundle.set_home,
                preserved: bundle.preserved,
                gate: bundle.gate,
                linux: bundle.spec.linux().as_ref(),
            };
            process::become_program(&program, bundle.root(), &held, socket)
        }
        Err(err) => (socket, err),
    }
}

/// All steps up to where `exec` of a running container begins too.
fn set_up(
    bundle: &Bundle<'_>,
    stdio: Option<Stdio>,
    idmapped: Vec<Option<OwnedFd>>,
    socket: &OwnedFd,
) -> anyhow::Result<Held> {
    let spec = bundle.spec;
    let process = spec
        .process()
        .as_ref()
        .context("the specification has no process")?;
    // The container ends with its supervisor, whatever ends that; one with a gate is let go there.
    sys::process::set_parent_death_signal(libc::SIGKILL)?;
    rustix::process::setsid().context("cannot start a session")?;

    if !bundle.has_pid_namespace() {
        let mounts = sys::namespace::own("mnt")?;
        report::send_descriptor(socket.as_fd(), mounts.as_fd(), report::MOUNTS)?;
    }
    if !matches!(bundle.userns, Userns::Join(_))
        && let Some(time) = timens::prepare(spec)?
    {
        timens::check_exec()?;
        time.unshare()?;
    }
    // Before the ids are mapped: this runs beside newuidmap and newgidmap.
    let held = Held {
        executable: trampoline::open_own_executable()?,
        procfs: needs_procfs(spec).then(Procfs::open).transpose()?,
    };
    let stdio = stdio.map(Stdio::guarded).transpose()?;
    // Streams of a container with a gate are those of who had it made.
    if let (Some(streams), false) = (&stdio, bundle.root_is_caller || bundle.gate.is_some()) {
        streams.open_to_all()?;
    }
    let prepared = rootfs::prepare(bundle, idmapped)?;
    if has_namespace(bundle, LinuxNamespaceType::Network) {
        sys::loopback::up()?;
        if let Some(interface) = bundle.interface {
            let tap = interface.make()?;
            report::send_descriptor(socket.as_fd(), tap.as_fd(), report::TAP)?;
        }
    }
    wait_until_mapped(socket)?;
    // Linux: a cgroup namespace has its root where its maker is, and with clone3(2) that would be the group of the
    // parent.
    if bundle.cgroup.is_some() && has_namespace(bundle, LinuxNamespaceType::Cgroup) {
        sys::process::unshare(libc::CLONE_NEWCGROUP)?;
    }

    // Must: after the map, since newuidmap looks at the owner of /proc/PID, which is root for a
    // process that is not dumpable. Must: before anything of the container can see this process.
    sys::process::set_dumpable(false)?;
    userns::become_root(bundle.root())?;
    // Linux: a change of credentials clears the parent-death signal (prctl(2)).
    sys::process::set_parent_death_signal(libc::SIGKILL)?;
    // Some kernels and outer containers have no keyrings; then there is nothing to hide either.
    if !bundle.shares_keyring {
        sys::process::new_session_keyring().ok();
    }

    let root = prepared.attach(bundle)?;
    match stdio {
        Some(streams) => streams.install()?,
        None => open_terminal(&root, socket, process.console_size().as_ref())?,
    }
    if let Some(hostname) = spec.hostname() {
        rustix::system::sethostname(hostname.as_bytes())
            .with_context(|| format!("cannot set hostname \"{hostname}\""))?;
    }
    if let Some(domain) = spec.domainname() {
        rustix::system::setdomainname(domain.as_bytes())
            .with_context(|| format!("cannot set domain name \"{domain}\""))?;
    }
    if let Some(procfs) = &held.procfs {
        sysctl::set(procfs, spec)?;
    }
    run_hooks(bundle, socket)?;
    rootfs::restrict(root.as_fd(), spec)?;
    if spec
        .root()
        .as_ref()
        .and_then(oci_spec::runtime::Root::readonly)
        .unwrap_or(false)
    {
        let read_only = sys::mount::Attributes::MOUNT_ATTR_RDONLY;
        sys::mount::set_attributes(root.as_fd(), read_only, false)?;
    }
    let enter = if bundle.no_pivot {
        sys::mount::move_into
    } else {
        sys::mount::pivot_into
    };
    enter(root.as_fd()).context("cannot enter the root file system")?;
    rootfs::propagate(spec)?;
    Ok(held)
}

/// What is written to procfs must not go where a mount of the container leads.
fn needs_procfs(spec: &Spec) -> bool {
    sysctl::any(spec) || spec.process().as_ref().is_some_and(lsm::is_labelled)
}

/// The hooks that come when all is made and the root file system is not entered yet. Who connects the network is waited
/// for too.
fn run_hooks(bundle: &Bundle<'_>, socket: &OwnedFd) -> anyhow::Result<()> {
    let hooked = bundle.hooked();
    if bundle.wire.is_some() || hooked.any(&[Stage::Prestart, Stage::CreateRuntime]) {
        report::send_created(socket.as_fd())?;
        let mut byte = [0];
        let packet = socket::receive(socket.as_fd(), &mut byte)?;
        anyhow::ensure!(packet.length == 1, "a hook or the network failed");
    }
    hooked.run(Stage::CreateContainer, Some(rustix::process::getpid()))
}

fn has_namespace(bundle: &Bundle<'_>, kind: LinuxNamespaceType) -> bool {
    let linux = bundle.spec.linux().as_ref();
    linux
        .and_then(|linux| linux.namespaces().as_ref())
        .is_some_and(|namespaces| {
            namespaces
                .iter()
                .any(|namespace| namespace.typ() == kind && namespace.path().is_none())
        })
}

fn wait_until_mapped(socket: &OwnedFd) -> anyhow::Result<()> {
    let mut byte = [0];
    let packet = socket::receive(socket.as_fd(), &mut byte)?;
    anyhow::ensure!(packet.length == 1, "no id map was written");
    Ok(())
}

/// Gives the container a terminal of its own devpts, and the supervisor the other end.
fn open_terminal(
    root: &OwnedFd,
    socket: &OwnedFd,
    size: Option<&oci_spec::runtime::Box>,
) -> anyhow::Result<()> {
    let pty = process::open_terminal(root.as_fd(), size)?;
    rootfs::make_console(root.as_fd(), &pty)?;
    process::take_terminal(&pty, socket)
}
