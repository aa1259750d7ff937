//! `stop` and `kill`.

use anyhow::Context;

use crate::container::events;
use crate::container::record::Container;
use crate::engine::Engine;
use crate::engine::connect::Connection;
use crate::engine::pause;
use crate::supervisor::protocol::Request;

/// Sends a signal to the container's init. One that rests between two runs has none, and what would end it
/// ends its rest.
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

/// How containers are stopped.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Instead of the container's own.
    pub signal: Option<i32>,
    /// Instead of the container's own.
    pub limit: Option<Limit>,
}

impl Options {
    pub fn within(limit: Option<Limit>) -> Options {
        Options {
            signal: None,
            limit,
        }
    }
}

/// How long a container may take to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    Seconds(u32),
    /// As long as it wants.
    None,
}

impl Limit {
    /// Reads seconds; -1 is no limit, as with docker and podman.
    pub fn parse(text: &str) -> Result<Limit, String> {
        match text {
            "-1" => Ok(Limit::None),
            _ => text
                .parse()
                .map(Limit::Seconds)
                .map_err(|_| "expected a whole number of seconds, or -1 for no limit".into()),
        }
    }
}

/// A container that ends.
pub struct Stopping(Option<Connection>);

/// Asks the container to end; its supervisor kills it when the time is over, whatever becomes of us. One that
/// does not run is stopped already.
pub fn begin(engine: &Engine, container: &Container, options: Options) -> anyhow::Result<Stopping> {
    let cannot = || format!("cannot stop container \"{}\"", container.name);
    let Some(connection) = Connection::open(container).with_context(cannot)? else {
        // Its supervisor may have been killed under it: the next boot does not start it. Who starts it just
        // now holds the lock.
        if container.is_wanted()
            && let Some(_alone) = container.try_lock().with_context(cannot)?
        {
            container.set_wanted(false).with_context(cannot)?;
        }
        return Ok(Stopping(None));
    };
    let own = container.config.process.stop_timeout;
    let request = Request::Stop {
        signal: options.signal,
        limit: match options.limit.unwrap_or(Limit::Seconds(own)) {
            Limit::Seconds(seconds) => Some(seconds),
            Limit::None => None,
        },
    };
    // A supervisor that is gone by now has nothing left to stop.
    if connection.send(&request).is_err() {
        return Ok(Stopping(None));
    }
    pause::let_go(engine, container).with_context(cannot)?;
    Ok(Stopping(Some(connection)))
}

impl Stopping {
    /// Waits for the end.
    pub fn wait(self, engine: &Engine, container: &Container) -> anyhow::Result<()> {
        let Stopping(Some(connection)) = self else {
            return Ok(());
        };
        let ended = connection.wait_exit();
        ended.with_context(|| format!("cannot stop container \"{}\"", container.name))?;
        events::add(&engine.dirs, container, "stop");
        Ok(())
    }
}

/// Stops one container, and waits for its end.
pub fn stop(engine: &Engine, container: &Container, options: Options) -> anyhow::Result<()> {
    begin(engine, container, options)?.wait(engine, container)
}
