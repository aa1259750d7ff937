//! `start`: the command of a container that waits for it.

use std::os::fd::AsFd;
use std::os::fd::OwnedFd;

use crate::bundle::create::explain;
use crate::bundle::end;
use crate::bundle::state::Container;
use crate::bundle::state::Status;
use crate::config::hooks::Stage;
use crate::error;
use crate::error::Kind;
use crate::error::fail;
use crate::runtime::Hooked;
use crate::runtime::gate;

/// Starts it. One whose hooks after the start fail is stopped, as by runc.
pub fn start(container: &Container) -> anyhow::Result<()> {
    let state = &container.state;
    let Some((init, _)) = container.init() else {
        return Err(not_created(container)?);
    };
    let pass_on = |listener: OwnedFd| match &state.agent {
        Some(agent) => agent.send(&listener, state, Status::Created, (init.pid, init.pid)),
        None => Ok(()),
    };
    if let Err(err) = gate::start(container.fd.as_fd(), &pass_on) {
        return Err(match error::kind(&err) {
            Some(Kind::WrongStatus) => not_created(container)?,
            Some(_) => explain(err, &container.spec()?),
            None => err,
        });
    }
    if state.poststart {
        let spec = container.spec()?;
        let hooked = Hooked {
            spec: &spec,
            id: &state.id,
            bundle: &state.bundle,
        };
        return hooked.run(Stage::Poststart, init.pid()).inspect_err(|_| {
            // What the hook said is the error to tell.
            end::stop(container).ok();
        });
    }
    Ok(())
}

fn not_created(container: &Container) -> anyhow::Result<anyhow::Error> {
    let text = match container.status()? {
        Status::Stopped => "cannot start a container that has stopped".into(),
        Status::Running => "cannot start an already running container".into(),
        status => format!("cannot start a container in the {} state", status.name()),
    };
    Ok(fail(Kind::WrongStatus, text))
}
