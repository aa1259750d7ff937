//! `stop` and `kill`.

use std::time::Duration;

use anyhow::Context;

use crate::container::events;
use crate::container::record::Container;
use crate::engine::Engine;
use crate::engine::connect::Connection;
use crate::engine::pause;
use crate::supervisor::protocol::Request;

/// Sends a signal to the container's init.
pub fn kill(engine: &Engine, container: &Container, signal: i32) -> anyhow::Result<()> {
    let cannot = || format!("cannot kill container \"{}\"", container.name);
    let connection = Connection::open_running(container).with_context(cannot)?;
    connection
        .send(&Request::Signal(signal))
        .with_context(cannot)?;
    connection.finish();
    // Docker: what ends a container also lets it go on; other signals wait.
    if signal == libc::SIGKILL || signal == container.config.process.stop_signal {
        pause::let_go(engine, container).ok();
    }
    let number = [("signal", signal.to_string())];
    events::add_with(&engine.dirs, container, "kill", &number);
    Ok(())
}

/// Asks the container to end, and kills it when the time is over. One that does not run is
/// stopped already.
pub fn stop(engine: &Engine, container: &Container, limit: Option<u32>) -> anyhow::Result<()> {
    let cannot = || format!("cannot stop container \"{}\"", container.name);
    let Some(connection) = Connection::open(container).with_context(cannot)? else {
        return Ok(());
    };
    let limit = limit.unwrap_or(container.config.process.stop_timeout);
    // A supervisor that is gone by now has nothing left to stop.
    if connection.send(&Request::Wait).is_err() {
        return Ok(());
    }
    pause::let_go(engine, container).with_context(cannot)?;
    if !ends_in_time(container, &connection, limit)? {
        connection.send(&Request::Signal(libc::SIGKILL)).ok();
        while connection.wait_exit(None).with_context(cannot)?.is_none() {}
    }
    events::add(&engine.dirs, container, "stop");
    Ok(())
}

/// Sends the stop signal and waits for the end at most so many seconds.
fn ends_in_time(
    container: &Container,
    connection: &Connection,
    limit: u32,
) -> anyhow::Result<bool> {
    if limit == 0 {
        return Ok(false);
    }
    let signal = container.config.process.stop_signal;
    connection.send(&Request::Signal(signal)).ok();
    let limit = Duration::from_secs(limit.into());
    Ok(connection.wait_exit(Some(limit))?.is_some())
}
