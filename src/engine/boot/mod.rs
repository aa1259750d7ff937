//! Containers with a restart policy after a reboot: nothing of rbox runs then, unless a service manager
//! starts `rbox boot run`.
//!
//! ```text
//! user   $XDG_CONFIG_HOME/systemd/user/rbox-boot.service   default.target.wants/   and the user lingers
//! root   /etc/systemd/system/rbox-boot.service             multi-user.target.wants/
//! ```

mod system;
mod unit;

use std::path::PathBuf;

use anyhow::Context;
use serde::Serialize;

use crate::cgroup::systemd;
use crate::cgroup::systemd::Bus;
use crate::config::ids::user_name;
use crate::container::record::Container;
use crate::engine::Engine;
use crate::engine::start;
use crate::engine::start::Options;
use crate::error::Kind;
use crate::error::WithHint;
use crate::error::fail;
use crate::store::dirs::Dirs;

pub use system::System;

/// Whether containers come back, and by what.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Survival {
    pub in_force: bool,
    /// Why it is not, as one line.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub missing: Option<String>,
    /// The command that mends it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fix: Option<String>,
    /// The unit of systemd, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unit: Option<PathBuf>,
}

/// Looks; changes nothing.
pub fn survival() -> Survival {
    let missing = |what: String, fix: Option<String>| Survival {
        in_force: false,
        missing: Some(what),
        fix,
        unit: None,
    };
    if System::detect() != System::Systemd {
        return missing(
            "no systemd runs here: only a line in a crontab or a boot script starts containers"
                .into(),
            Some("rbox boot enable".into()),
        );
    }
    let enable = Some("rbox boot enable".to_owned());
    let place = match unit::Place::of_caller() {
        Ok(place) => place,
        Err(err) => return missing(crate::error::message(&err), None),
    };
    if !place.is_enabled() {
        let what = "containers with a restart policy stay down after a reboot";
        return missing(what.into(), enable);
    }
    if let Some(user) = not_lingering() {
        let what = "containers with a restart policy wait for your first login after a reboot";
        return missing(what.into(), Some(linger_command(&user)));
    }
    Survival {
        in_force: true,
        missing: None,
        fix: None,
        unit: Some(place.unit()),
    }
}

/// The user whose services systemd starts at a login only, if we are one.
fn not_lingering() -> Option<String> {
    let uid = rustix::process::geteuid();
    if uid.is_root() {
        return None;
    }
    let user = user_name(uid.as_raw()).unwrap_or_else(|| uid.as_raw().to_string());
    (!system::lingers(&user)).then_some(user)
}

pub fn linger_command(user: &str) -> String {
    format!("sudo loginctl enable-linger {user}")
}

/// What `enable` has done.
pub enum Enabled {
    /// The unit, and the user whom we have made linger.
    Unit(PathBuf, Option<String>),
    /// A line for a person to put where it belongs, and where that is.
    Line(String, &'static str),
}

pub fn enable(dirs: &Dirs) -> anyhow::Result<Enabled> {
    let system = System::detect();
    if system != System::Systemd {
        let (line, place) = system.line()?;
        return Ok(Enabled::Line(line, place));
    }
    let place = unit::Place::of_caller()?;
    place.write(dirs)?;
    // It is read at the next boot in any case.
    systemd::reload(Bus::of_caller()).ok();
    let mut lingers = None;
    if let Some(user) = not_lingering() {
        let asked = systemd::set_linger();
        if let Err(err) = asked
            && !system::lingers(&user)
        {
            return Err(err)
                .with_context(|| format!("cannot let user \"{user}\" linger"))
                .context("the unit is there, and systemd will start it at your first login only")
                .hint(linger_command(&user));
        }
        lingers = Some(user);
    }
    Ok(Enabled::Unit(place.unit(), lingers))
}

/// Takes the unit away; `None` if there was none.
pub fn disable() -> anyhow::Result<Option<PathBuf>> {
    if System::detect() != System::Systemd {
        let text = "no systemd runs here: nothing was enabled but by a line of your own";
        return Err(fail(Kind::Unsupported, text))
            .hint("take `rbox boot run` out of your crontab or boot script");
    }
    let place = unit::Place::of_caller()?;
    if !place.remove()? {
        return Ok(None);
    }
    systemd::reload(Bus::of_caller()).ok();
    Ok(Some(place.unit()))
}

/// Those that a boot starts, in the order in which it does: a container is made after those whose
/// namespaces it joins. A record that cannot be read is passed over: `bad` hears of it.
pub fn containers(
    engine: &Engine,
    mut bad: impl FnMut(anyhow::Error),
) -> anyhow::Result<Vec<Container>> {
    let mut all = Container::list(&engine.dirs, |one| bad(one.err))?;
    all.retain(Container::starts_at_boot);
    Ok(all)
}

/// Starts one of them; `false` if it runs already.
///
/// Must: be called by a single-threaded process.
pub fn start(engine: &Engine, container: &Container) -> anyhow::Result<bool> {
    if container.runs()? {
        return Ok(false);
    }
    start::start(engine, container, Options::in_background())?;
    Ok(true)
}
