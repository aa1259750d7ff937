//! The end of containers, and what else is done to all of their processes: `kill`, `pause`, `resume`, `ps`, `delete`.

use std::os::fd::AsFd;
use std::time::Duration;

use anyhow::Context;
use oci_spec::runtime::Spec;
use rustix::io::Errno;
use rustix::process::Pid;

use crate::bundle::state::Container;
use crate::bundle::state::Status;
use crate::cgroup::Group;
use crate::config::hooks::Stage;
use crate::error::Kind;
use crate::error::WithHint;
use crate::error::fail;
use crate::runtime::Hooked;
use crate::runtime::resctrl;
use crate::sys::poll;
use crate::sys::signal;

/// How long a killed init may take to end.
const END: Duration = Duration::from_secs(10);

/// Sends a signal to init, or to all processes.
pub fn kill(container: &Container, number: i32, all: bool) -> anyhow::Result<()> {
    if all {
        return kill_all(container, number);
    }
    let (_, pidfd) = container.live()?;
    match signal::send(pidfd.as_fd(), number) {
        Err(err) if err.errno == Errno::SRCH => {
            Err(fail(Kind::WrongStatus, "container not running"))
        }
        // The kernel does not end the others with this one.
        Ok(()) if number == libc::SIGKILL && !container.state.own_pids => {
            container.group()?.map_or(Ok(()), |group| group.kill())
        }
        result => Ok(result?),
    }
}

fn kill_all(container: &Container, number: i32) -> anyhow::Result<()> {
    match container.group()? {
        Some(group) if number == libc::SIGKILL => group.kill(),
        Some(group) => {
            for pid in group.processes()? {
                send(pid, number)?;
            }
            Ok(())
        }
        None if number == libc::SIGKILL && container.state.own_pids => {
            kill(container, number, false)
        }
        None => {
            for pid in namespace_members(container)? {
                send(pid, number)?;
            }
            Ok(())
        }
    }
}

fn send(pid: Pid, number: i32) -> anyhow::Result<()> {
    match signal::send_pid(pid, number) {
        Err(err) if err.errno != Errno::SRCH => Err(err.into()),
        _ => Ok(()),
    }
}

/// The processes of a container, by its control group or else by its process namespace.
pub fn processes(container: &Container) -> anyhow::Result<Vec<Pid>> {
    match container.group()? {
        Some(group) => group.processes(),
        None => namespace_members(container),
    }
}

fn namespace_members(container: &Container) -> anyhow::Result<Vec<Pid>> {
    if !container.state.own_pids {
        return Err(fail(
            Kind::Unsupported,
            "it has neither a control group nor a process namespace of its own, so that its processes are not known",
        ));
    }
    let (init, _) = container.live()?;
    let namespace = |pid: i32| std::fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
    let own = namespace(init.pid).context("cannot look at the process namespace of its init")?;
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").context("cannot read /proc")? {
        let name = entry?.file_name();
        let pid = name.to_str().and_then(|name| name.parse().ok());
        let member = |pid: &i32| namespace(*pid).as_ref() == Some(&own);
        found.extend(pid.filter(member).and_then(Pid::from_raw));
    }
    found.sort_unstable_by_key(|pid| pid.as_raw_pid());
    Ok(found)
}

pub fn pause(container: &Container) -> anyhow::Result<()> {
    match container.status()? {
        Status::Running | Status::Created => freezer(container)?.freeze(),
        status => Err(wrong_status("pause", status)),
    }
}

pub fn resume(container: &Container) -> anyhow::Result<()> {
    match container.status()? {
        Status::Paused => freezer(container)?.thaw(),
        status => Err(wrong_status("resume", status)),
    }
}

fn wrong_status(verb: &str, status: Status) -> anyhow::Error {
    let text = match status {
        Status::Stopped => "container not running".into(),
        status => format!("cannot {verb} a container that is {}", status.name()),
    };
    fail(Kind::WrongStatus, text)
}

fn freezer(container: &Container) -> anyhow::Result<Group> {
    container.group()?.ok_or_else(|| {
        let text = "it has no control group of version 2, which is what freezes processes";
        fail(Kind::Unsupported, text)
    })
}

/// Removes all that is left of a stopped container; with `force` of any. What went wrong with hooks is passed to `warn`.
pub fn delete(
    container: &Container,
    force: bool,
    warn: &mut dyn FnMut(anyhow::Error),
) -> anyhow::Result<()> {
    match container.status()? {
        Status::Stopped => {}
        Status::Creating if force => end_creator(container)?,
        // Nothing of the user's has run in one that is created: runc needs no force either.
        status if force || status == Status::Created => end_init(container)?,
        status => {
            let text = format!(
                "cannot delete container {} that is not stopped: {}",
                container.state.id,
                status.name()
            );
            return Err(
                fail(Kind::WrongStatus, text).hint("`rbox oci delete --force ID` kills it first")
            );
        }
    }
    // Must: before its directory, in which it is read.
    let needed = container.state.poststop || container.state.resctrl;
    let spec = needed.then(|| container.spec()).transpose()?;
    clear(container)?;
    container.remove()?;
    if let Some(spec) = spec {
        leave_class(container, &spec);
        poststop(container, &spec).into_iter().for_each(warn);
    }
    Ok(())
}

fn poststop(container: &Container, spec: &Spec) -> Vec<anyhow::Error> {
    let hooked = Hooked {
        spec,
        id: &container.state.id,
        bundle: &container.state.bundle,
    };
    hooked.run_all(Stage::Poststop, None)
}

/// One that is stuck, in a hook perhaps: what it has made ends with it.
fn end_creator(container: &Container) -> anyhow::Result<()> {
    match container.state.creator.open() {
        Some(pidfd) => end(&pidfd),
        None => Ok(()),
    }
}

pub fn end_init(container: &Container) -> anyhow::Result<()> {
    match container.init() {
        Some((_, pidfd)) => end(&pidfd),
        None => Ok(()),
    }
}

fn end(pidfd: &std::os::fd::OwnedFd) -> anyhow::Result<()> {
    signal::send(pidfd.as_fd(), libc::SIGKILL).ok();
    let [ended] = poll::readable([Some(pidfd.as_fd())], Some(END))?;
    if ended {
        return Ok(());
    }
    Err(fail(
        Kind::WrongStatus,
        format!("it does not end within {} s of SIGKILL", END.as_secs()),
    ))
}

/// Ends all processes of a container.
pub fn stop(container: &Container) -> anyhow::Result<()> {
    end_init(container)?;
    container.group()?.map_or(Ok(()), |group| group.kill())
}

/// Ends processes that init has left behind, and removes the control group.
fn clear(container: &Container) -> anyhow::Result<()> {
    if let Some(group) = container.group()? {
        group.kill()?;
    }
    container.state.cgroup.remove()
}

/// Takes back a creation that failed. Its error is the one to tell.
pub fn undo(container: &Container, spec: &Spec) {
    clear(container).ok();
    container.remove().ok();
    leave_class(container, spec);
    poststop(container, spec);
}

fn leave_class(container: &Container, spec: &Spec) {
    if let Some(rdt) = resctrl::of(spec) {
        resctrl::leave(rdt, &container.state.id);
    }
}
