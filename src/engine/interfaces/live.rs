//! `network connect` and `network disconnect`: of a container that runs at once, of any other at its next start.

use std::os::fd::AsFd;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::slice;

use anyhow::Context;

use crate::container::config::process::Attachment;
use crate::container::config::process::Network as Mode;
use crate::container::record::Container;
use crate::container::record::missing;
use crate::container::status::State;
use crate::container::status::Status;
use crate::engine::Engine;
use crate::engine::connect::Connection;
use crate::engine::etc;
use crate::engine::interfaces::Named;
use crate::engine::interfaces::Owner;
use crate::engine::interfaces::check;
use crate::engine::interfaces::check_direct;
use crate::engine::interfaces::connected;
use crate::engine::interfaces::lease;
use crate::engine::interfaces::lock;
use crate::error::Kind;
use crate::error::WithHint;
use crate::error::fail;
use crate::network::direct;
use crate::network::hub::Hub;
use crate::network::hub::Keeper;
use crate::network::members;
use crate::network::place;
use crate::network::place::Place;
use crate::network::record;
use crate::network::record::Network;
use crate::network::wire;
use crate::network::wire::Cable;
use crate::store::dirs::Dirs;
use crate::supervisor::protocol::Request;
use crate::sys::namespace;
use crate::sys::process;
use crate::text::rate::Rates;

/// A container that runs, as it is seen from its networks.
struct Live {
    hub: Hub,
    device: String,
    namespace: OwnedFd,
    owner: Owner,
}

/// Puts a container on a further network.
pub fn connect(engine: &Engine, container: &mut Container, wish: Attachment) -> anyhow::Result<()> {
    let dirs = &engine.dirs;
    let cannot = format!(
        "cannot connect container \"{}\" to network \"{}\"",
        container.name, wish.network
    );
    let _used = record::lock_for_use(dirs)?;
    let mut wishes = check(dirs, vec![wish]).with_context(|| cannot.clone())?;
    let wish = wishes.pop().expect("as many as were given");
    has_networks(container).with_context(|| cannot.clone())?;
    let lock = lock(dirs)?;
    look_again(engine, container)?;
    if is_on(container, &wish.network) {
        return Err(fail(Kind::Conflict, "it is on it already")).context(cannot);
    }
    let network = record::find(dirs, &wish.network)?;
    let process = &container.config.process;
    let is_limited = !process.egress.is_empty() || process.rates != Rates::default();
    check_direct(dirs, slice::from_ref(&wish), false, is_limited)
        .with_context(|| cannot.clone())?;
    let name = network.name.clone();
    let live = Live::of(engine, container).with_context(|| cannot.clone())?;
    let files = files(engine, container)?;
    // First: one that is killed after this leaves what `disconnect` takes away.
    container
        .change(|config| {
            config.process.networks.push(wish.clone());
            Ok(())
        })
        .with_context(|| cannot.clone())?;
    if let Some(live) = live
        && let Err(err) = live.join(engine, container, network, &wish)
    {
        // The first error is the one to tell.
        forget(container, &name).ok();
        return Err(err).context(cannot);
    }
    let renewed = renew(engine, container, &files);
    record::met(dirs, "connect", &container.config.id, &name);
    // Must: its supervisor may wait for it, and we for the supervisor.
    drop(lock);
    let told = tell(container);
    renewed.and(told)
}

/// Neighbours find the container by the name that it has now.
pub fn renamed(engine: &Engine, container: &Container) -> anyhow::Result<()> {
    let dirs = &engine.dirs;
    if container.config.process.network != Mode::Bridge {
        return Ok(());
    }
    let _lock = lock(dirs)?;
    for (network, mut member) in members::of_container(dirs, &container.config.id) {
        member.name.clone_from(&container.name);
        member.save(dirs, &network)?;
    }
    Ok(())
}

/// Takes a container off a network.
pub fn disconnect(engine: &Engine, container: &mut Container, name: &str) -> anyhow::Result<()> {
    let dirs = &engine.dirs;
    let cannot = format!(
        "cannot disconnect container \"{}\" from network \"{name}\"",
        container.name
    );
    let lock = lock(dirs)?;
    look_again(engine, container)?;
    let network = match record::find(dirs, name) {
        // One that is gone is only a word in its record.
        Err(_) if is_on(container, name) => None,
        found => Some(found?),
    };
    let name = network.as_ref().map_or(name, |network| &network.name);
    if !is_on(container, name) {
        return Err(fail(Kind::NotFound, "it is not on it")).context(cannot);
    }
    let live = Live::of(engine, container).with_context(|| cannot.clone())?;
    let files = files(engine, container)?;
    if let (Some(live), Some(network)) = (live, &network) {
        live.leave(engine, container, &network.id)
            .with_context(|| cannot.clone())?;
    }
    let forgotten = forget(container, name).context(cannot);
    let renewed = renew(engine, container, &files);
    if forgotten.is_ok() {
        record::met(dirs, "disconnect", &container.config.id, name);
    }
    // Must: its supervisor may wait for it, and we for the supervisor.
    drop(lock);
    // What could not be written changes nothing of where it is.
    let told = tell(container);
    forgotten.and(renewed).and(told)
}

/// It is not to be on a network any more.
fn forget(container: &mut Container, network: &str) -> anyhow::Result<()> {
    container.change(|config| {
        config.process.networks.retain(|one| one.network != network);
        Ok(())
    })
}

/// What it is on may have changed while the lock was waited for.
fn look_again(engine: &Engine, container: &mut Container) -> anyhow::Result<()> {
    match container.as_now(&engine.dirs)? {
        Some(now) => *container = now,
        None => return Err(missing(&container.name)),
    }
    Ok(())
}

/// Where it is now, in the order of its networks.
fn places(dirs: &Dirs, container: &Container) -> Vec<Place> {
    let mut places = place::of_container(dirs, &container.config.id);
    let wanted = &container.config.process.networks;
    places.sort_by_key(|place| {
        let mut wanted = wanted.iter();
        wanted.position(|one| one.network == place.network.name)
    });
    places
}

/// Its files as they are with the networks that it is on.
fn files(engine: &Engine, container: &Container) -> anyhow::Result<[(&'static str, String); 2]> {
    let places = places(&engine.dirs, container);
    let connected = connected(&places, container);
    etc::of_networks(engine, container, &connected)
}

/// Its files say where it is now.
fn renew(
    engine: &Engine,
    container: &Container,
    before: &[(&'static str, String); 2],
) -> anyhow::Result<()> {
    etc::renew(container, before, &files(engine, container)?)
}

impl Live {
    /// None where it does not run.
    fn of(engine: &Engine, container: &Container) -> anyhow::Result<Option<Live>> {
        let keeper = Keeper::of(&engine.dirs, &container.config.id);
        let Status::Running(state) = container.status()? else {
            if keeper.is_some_and(|keeper| keeper.is_alive()) {
                let text = "it is being started at this moment";
                return Err(fail(Kind::WrongStatus, text).hint("repeat the command"));
            }
            return Ok(None);
        };
        let found = keeper.and_then(|keeper| Some((Hub::through(&keeper)?, keeper)));
        let (hub, keeper) = found.context("its supervisor does not have the networks open")?;
        Ok(Some(Live {
            hub,
            device: keeper.device,
            namespace: namespace_of(&state)?,
            owner: Owner {
                pid: keeper.supervisor,
                start_ticks: keeper.start_ticks,
            },
        }))
    }

    fn join(
        &self,
        engine: &Engine,
        container: &Container,
        network: Network,
        wish: &Attachment,
    ) -> anyhow::Result<()> {
        let dirs = &engine.dirs;
        let id = network.id.clone();
        let mut places = places(dirs, container);
        let before = places.clone();
        let who = Named::of(container, wish);
        let place = lease(dirs, who, (network, wish), &places, self.owner)?;
        let cable = place.cable(&self.device);
        places.push(place);
        let laid = self.lay_last(dirs, places);
        if laid.is_err() {
            let way = before.iter().find(|place| place.member.uplink);
            let way = way.map(|place| place.cable(&self.device));
            self.cut(&cable, way.as_ref()).ok();
            members::remove(dirs, &id, &container.config.id);
            for place in &before {
                place.save(dirs).ok();
            }
        }
        laid
    }

    /// The last of the places is a new one.
    fn lay_last(&self, dirs: &Dirs, mut places: Vec<Place>) -> anyhow::Result<()> {
        place::choose_uplink(&mut places);
        let new = places.pop().expect("there is a new one");
        // First: of one that is killed after this, `disconnect` sees that the way to the world may go by it.
        new.save(dirs)?;
        let cables = [new.cable(&self.device)];
        direct::lay(&cables, self.namespace.as_fd())?;
        self.hub
            .inside(|| wire::connect(None, &cables, self.namespace.as_fd()))?;
        places.iter().try_for_each(|place| place.save(dirs))
    }

    /// The way to the world goes on by the next network, if it went by this one.
    fn leave(&self, engine: &Engine, container: &Container, network: &str) -> anyhow::Result<()> {
        let dirs = &engine.dirs;
        let id = &container.config.id;
        let mut places = places(dirs, container);
        let Some(index) = places.iter().position(|place| place.network.id == network) else {
            return Ok(());
        };
        let left = places.remove(index);
        place::choose_uplink(&mut places);
        places.iter().try_for_each(|place| place.save(dirs))?;
        let mut next = places.iter().filter(|place| place.member.uplink);
        let next = next.next().filter(|_| left.member.uplink);
        let cable = next.map(|next| next.cable(&self.device));
        self.cut(&left.cable(&self.device), cable.as_ref())?;
        members::remove(dirs, network, id);
        Ok(())
    }
}

impl Live {
    /// Takes an interface away; another may be the way to the world then.
    fn cut(&self, cable: &Cable, next: Option<&Cable>) -> anyhow::Result<()> {
        let container = self.namespace.as_fd();
        let cut = || match cable.parent {
            Some(_) => direct::remove(&cable.interface, container),
            None => wire::disconnect(&cable.port, next, container),
        };
        self.hub.inside(|| cut().map(|()| None)).map(drop)
    }
}

/// The network namespace of a container that runs.
pub fn namespace_of(state: &State) -> anyhow::Result<OwnedFd> {
    let path = format!("/proc/{}/ns/net", state.pid);
    let namespace = namespace::open(Path::new(&path))?;
    // Looked at after the file was opened: the pid was still its own then.
    process::open_started(state.pid, state.start_ticks)
        .context("it has just ended")
        .map(|_| namespace)
}

fn is_on(container: &Container, network: &str) -> bool {
    let mut networks = container.config.process.networks.iter();
    networks.any(|one| one.network == network)
}

fn has_networks(container: &Container) -> anyhow::Result<()> {
    let mode = &container.config.process.network;
    if *mode == Mode::Bridge {
        return Ok(());
    }
    let text = format!("it has --network {}, which goes with no other", mode.name());
    Err(fail(Kind::Conflict, text)
        .hint("create it with `--network bridge`, or with the networks that it is to be on"))
}

/// The supervisor of one that runs looks at its networks again.
fn tell(container: &Container) -> anyhow::Result<()> {
    if let Some(connection) = Connection::open(container)? {
        connection.send(&Request::Updated).ok();
        connection.finish();
    }
    Ok(())
}
