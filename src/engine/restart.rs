//! `restart`.

use anyhow::Context;

use crate::container::events;
use crate::container::record::Container;
use crate::engine::Engine;
use crate::engine::start;
use crate::engine::start::Options;
use crate::engine::stop;
use crate::engine::stop::Stopping;
use crate::error::Kind;
use crate::error::WithHint;
use crate::error::fail;

/// Asks a container to end, which will be started again.
pub fn begin(
    engine: &Engine,
    container: &Container,
    options: stop::Options,
) -> anyhow::Result<Stopping> {
    if container.config.remove && container.runs()? {
        return Err(fail(
            Kind::Unsupported,
            "it was made with --rm, and is gone when it stops",
        ))
        .hint("run it anew, without --rm if it is to be restarted")
        .with_context(|| format!("cannot restart container \"{}\"", container.name));
    }
    stop::begin(engine, container, options)
}

/// Starts it when it has ended.
///
/// Must: be called by a single-threaded process.
pub fn finish(engine: &Engine, container: &Container, stopping: Stopping) -> anyhow::Result<()> {
    stopping.wait(engine, container)?;
    // It may have been given twice.
    if !container.runs()? {
        start::start(engine, container, Options::in_background())?;
    }
    events::add(&engine.dirs, container, "restart");
    Ok(())
}
