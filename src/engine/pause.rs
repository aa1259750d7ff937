//! `pause` and `unpause`.

use anyhow::Context;

use crate::cgroup::Group;
use crate::container::events;
use crate::container::record::Container;
use crate::container::status::State;
use crate::container::status::Status;
use crate::engine::Engine;
use crate::engine::connect::not_running;
use crate::engine::groups;
use crate::error::Kind;
use crate::error::WithHint;
use crate::error::fail;

/// Stops all processes of a container where they are.
pub fn pause(engine: &Engine, container: &Container) -> anyhow::Result<()> {
    let cannot = || format!("cannot pause container \"{}\"", container.name);
    let state = running(container).with_context(cannot)?;
    if state.paused {
        return Err(fail(Kind::WrongStatus, "it is paused already")).with_context(cannot);
    }
    group(container, &state)
        .and_then(|group| group.freeze())
        .with_context(cannot)?;
    events::add(&engine.dirs, container, "pause");
    Ok(())
}

/// Lets them go on.
pub fn unpause(engine: &Engine, container: &Container) -> anyhow::Result<()> {
    let cannot = || format!("cannot unpause container \"{}\"", container.name);
    let state = running(container).with_context(cannot)?;
    if !state.paused {
        return Err(fail(Kind::WrongStatus, "it is not paused")).with_context(cannot);
    }
    group(container, &state)
        .and_then(|group| group.thaw())
        .with_context(cannot)?;
    events::add(&engine.dirs, container, "unpause");
    Ok(())
}

/// Lets a container go on that is to end: as with Docker, a signal is not kept from it.
pub fn let_go(engine: &Engine, container: &Container) -> anyhow::Result<()> {
    if container.status().is_ok_and(|status| status.is_paused()) {
        unpause(engine, container)?;
    }
    Ok(())
}

/// What other commands say of a container that is paused.
pub fn paused(container: &Container) -> anyhow::Error {
    fail(Kind::WrongStatus, "it is paused").hint(format!(
        "let it go on with `rbox unpause {}`",
        container.name
    ))
}

fn running(container: &Container) -> anyhow::Result<State> {
    match container.status()? {
        Status::Running(state) => Ok(state),
        _ => Err(not_running(container)),
    }
}

fn group(container: &Container, state: &State) -> anyhow::Result<Group> {
    groups::of(container, state)?.ok_or_else(|| {
        fail(
            Kind::Unsupported,
            "it has no control group: none could be made when it was started, or --cgroups=disabled was given",
        )
        .hint("`rbox doctor` tells what control groups need here")
    })
}
