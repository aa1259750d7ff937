//! The end of containers: `kill` and `delete`.

use std::os::fd::AsFd;
use std::time::Duration;

use anyhow::Context;
use oci_spec::runtime::Spec;
use rustix::io::Errno;

use crate::bundle::root::missing;
use crate::bundle::state::Container;
use crate::bundle::state::Status;
use crate::config::hooks::Stage;
use crate::error::Kind;
use crate::error::WithHint;
use crate::error::fail;
use crate::runtime::Hooked;
use crate::sys::poll;
use crate::sys::signal;

/// How long a killed init may take to end.
const END: Duration = Duration::from_secs(10);

/// Sends a signal to init.
pub fn kill(container: &Container, signal: i32) -> anyhow::Result<()> {
    let (_, pidfd) = container.live()?;
    match signal::send(pidfd.as_fd(), signal) {
        Err(err) if err.errno == Errno::SRCH => {
            Err(fail(Kind::WrongStatus, "container not running"))
        }
        result => Ok(result?),
    }
}

/// Removes all that is left of a stopped container; with `force` of any. What went wrong with hooks is passed to `warn`.
pub fn delete(
    container: &Container,
    force: bool,
    warn: &mut dyn FnMut(anyhow::Error),
) -> anyhow::Result<()> {
    match container.status()? {
        Status::Stopped => {}
        // As runc does: nothing of the user's has run in it.
        _ if force => end_init(container)?,
        Status::Created => end_init(container)?,
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
    remove(container)?;
    Ok(())
}

fn end_init(container: &Container) -> anyhow::Result<()> {
    let Some((_, pidfd)) = container.init() else {
        return Ok(());
    };
    signal::send(pidfd.as_fd(), libc::SIGKILL).ok();
    let [ended] = poll::readable([Some(pidfd.as_fd())], Some(END))?;
    if ended {
        return Ok(());
    }
    Err(fail(
        Kind::WrongStatus,
        format!(
            "its init does not end within {} s of SIGKILL",
            END.as_secs()
        ),
    ))
}

fn remove(container: &Container) -> anyhow::Result<()> {
    match std::fs::remove_dir_all(&container.dir) {
        Err(err) if err.kind() == std::io::ErrorKind::NotFound => Err(missing(&container.state.id)),
        result => result.with_context(|| format!("cannot remove {}", container.dir.display())),
    }
}

/// Takes back a creation that failed.
pub fn undo(container: &Container, _spec: &Spec) {
    remove(container).ok();
}
