//! `restart`.

use anyhow::Context;

use crate::container::events;
use crate::container::record::Container;
use crate::engine::Engine;
use crate::engine::start;
use crate::engine::start::Options;
use crate::engine::stop;
use crate::error::Kind;
use crate::error::WithHint;
use crate::error::fail;

/// Stops a container, and starts it again.
///
/// Must: be called by a single-threaded process.
pub fn restart(
    engine: &Engine,
    container: &Container,
    options: stop::Options,
) -> anyhow::Result<()> {
    if container.config.remove && container.runs()? {
        return Err(fail(
            Kind::Unsupported,
            "it was made with --rm, and is gone when it stops",
        ))
        .hint("run it anew, without --rm if it is to be restarted")
        .with_context(|| format!("cannot restart container \"{}\"", container.name));
    }
    stop::stop(engine, container, options)?;
    start::start(engine, container, Options::in_background())?;
    events::add(&engine.dirs, container, "restart");
    Ok(())
}
