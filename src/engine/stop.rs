//! `stop` and `kill`.

use std::time::Duration;

use anyhow::Context;

use crate::container::record::Container;
use crate::engine::connect::Connection;
use crate::engine::connect::Ended;
use crate::supervisor::protocol::Request;

/// Sends a signal to the container's init.
pub fn kill(container: &Container, signal: i32) -> anyhow::Result<()> {
    let cannot = || format!("cannot kill container \"{}\"", container.name);
    let connection = Connection::open_running(container).with_context(cannot)?;
    connection
        .send(&Request::Signal(signal))
        .with_context(cannot)?;
    connection.finish();
    Ok(())
}

/// Asks the container to end, and kills it when the time is over. One that does not run is
/// stopped already.
pub fn stop(container: &Container, limit: Option<u32>) -> anyhow::Result<()> {
    let cannot = || format!("cannot stop container \"{}\"", container.name);
    let Some(connection) = Connection::open(container).with_context(cannot)? else {
        return Ok(());
    };
    let limit = limit.unwrap_or(container.config.process.stop_timeout);
    // A supervisor that is gone by now has nothing left to stop.
    if connection.send(&Request::Wait).is_err() {
        return Ok(());
    }
    if limit > 0 {
        connection
            .send(&Request::Signal(container.config.process.stop_signal))
            .ok();
        let limit = Duration::from_secs(limit.into());
        if let Some(Ended::With(_) | Ended::Unseen) = connection.wait_exit(Some(limit))? {
            return Ok(());
        }
    }
    connection.send(&Request::Signal(libc::SIGKILL)).ok();
    while connection.wait_exit(None).with_context(cannot)?.is_none() {}
    Ok(())
}
