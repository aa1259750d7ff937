//! `start`: the record of a container becomes a bundle, and a supervisor runs it.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::path::PathBuf;

use anyhow::Context;
use anyhow::bail;
use oci_spec::runtime::Spec;

use crate::cgroup;
use crate::config::addresses::Addresses;
use crate::config::cdi::Edits;
use crate::config::hooks;
use crate::container::config::Config;
use crate::container::config::Process;
use crate::container::config::Restart;
use crate::container::config::namespaces::Namespace;
use crate::container::config::process::Family;
use crate::container::config::process::Network;
use crate::container::mounts::Source;
use crate::container::record;
use crate::container::record::Container;
use crate::container::spec;
use crate::container::spec::Host;
use crate::container::status::RunLock;
use crate::engine::Engine;
use crate::engine::activation::Activation;
use crate::engine::calls;
use crate::engine::cdi;
use crate::engine::connect::Connection;
use crate::engine::create;
use crate::engine::create::overlay_dirs;
use crate::engine::etc;
use crate::engine::exec;
use crate::engine::groups;
use crate::engine::ids;
use crate::engine::images;
use crate::engine::interfaces::Interfaces;
use crate::engine::listening;
use crate::engine::mounted;
use crate::engine::namespaces;
use crate::engine::namespaces::Shared;
use crate::engine::places;
use crate::error::Kind;
use crate::error::WithHint;
use crate::error::fail;
use crate::image;
use crate::network::place::Way;
use crate::network::stack;
use crate::network::stack::Given;
use crate::runtime::Accounts;
use crate::runtime::Bundle;
use crate::runtime::Filter;
use crate::runtime::Interface;
use crate::runtime::Overlay;
use crate::runtime::Preserved;
use crate::runtime::Rootfs;
use crate::runtime::Userns;
use crate::runtime::Wire;
use crate::runtime::interface::Address;
use crate::runtime::notify::Handler;
use crate::supervisor;
use crate::supervisor::Order;
use crate::supervisor::Ran;
use crate::supervisor::Ready;
use crate::supervisor::Served;
use crate::supervisor::end;
use crate::supervisor::group::Place;
use crate::supervisor::group::Plan;
use crate::supervisor::protocol::PACKET;
use crate::supervisor::protocol::Reply;
use crate::supervisor::sdnotify;
use crate::sys::idmap;
use crate::sys::idmap::IdMaps;
use crate::sys::process;
use crate::sys::process::Side;
use crate::sys::socket;
use crate::sys::tap;
use crate::volume;

/// Below so many bytes a second a full frame takes longer than a tenth of that; and how large frames are then.
const SLOW: u64 = 640 * 1024;
const SMALL: u16 = 1500;

/// What the name of a container without addresses leads to, as Debian has it.
const LOCAL: Ipv4Addr = Ipv4Addr::new(127, 0, 1, 1);

/// How a container is started.
#[derive(Clone, Copy, Debug)]
pub struct Options<'a> {
    /// The caller stays and hears the streams.
    pub foreground: bool,
    /// Rows and columns of the caller's terminal.
    pub size: Option<(u16, u16)>,
    /// Descriptors of the caller for the container.
    pub preserved: &'a [Preserved],
    pub activation: &'a Activation,
}

impl Options<'_> {
    /// Nobody stays with it.
    pub fn in_background() -> Options<'static> {
        Options {
            foreground: false,
            size: None,
            preserved: &[],
            activation: &Activation::NONE,
        }
    }
}

/// Starts a container; in the foreground the connection hears its streams and its exit.
///
/// Must: be called by a single-threaded process.
pub fn start(
    engine: &Engine,
    container: &Container,
    options: Options<'_>,
) -> anyhow::Result<Option<Connection>> {
    let cannot = || format!("cannot start container \"{}\"", container.name);
    let Some(lock) = container.try_lock().with_context(cannot)? else {
        let busy = || fail(Kind::Conflict, "it runs already, or is being removed");
        return Err(mounted::in_the_way(container).unwrap_or_else(busy)).with_context(cannot);
    };
    if !container.still_exists(&engine.dirs) {
        return Err(record::missing(&container.name)).with_context(cannot);
    }
    if let Some(group) = container.clear_state().with_context(cannot)? {
        groups::clear(&group);
    }
    let publish = &container.config.process.publish;
    let give_up = |err: anyhow::Error| {
        if container.config.remove {
            end::discard(&engine.dirs, container).ok();
        }
        err.context(cannot())
    };
    let taken = listening::take(publish, options.preserved, options.activation);
    let mut taken = taken.map_err(give_up)?;
    let given = taken.as_mut().map(|taken| std::mem::take(&mut taken.given));
    let options = match &taken {
        Some(taken) => Options {
            preserved: &taken.preserved,
            activation: &taken.activation,
            ..options
        },
        None => options,
    };
    let mut prepared = Prepared::new(engine, container, options).map_err(give_up)?;
    prepared.given = given.unwrap_or_default();
    container.mark_started().with_context(cannot)?;
    let (ours, theirs) = socket::pair()?;
    fork_supervisor(engine, container, &mut prepared, lock, theirs, options)?;
    let connection = Connection { socket: ours };
    wait_started(&connection)
        .map_err(|err| listening::name_holder(engine, container, err))
        .with_context(cannot)?;
    prepared.mark_used(engine);
    Ok(options.foreground.then_some(connection))
}

/// Makes what a start of the container needs, and finds what would hinder it; nothing of it is executed.
///
/// Must: be called by a single-threaded process.
pub fn prepare(engine: &Engine, container: &Container) -> anyhow::Result<()> {
    let cannot = || format!("cannot initialize container \"{}\"", container.name);
    let Some(_lock) = container.try_lock().with_context(cannot)? else {
        let busy = || fail(Kind::Conflict, "it runs already, or is being removed");
        return Err(mounted::in_the_way(container).unwrap_or_else(busy)).with_context(cannot);
    };
    if !container.still_exists(&engine.dirs) {
        return Err(record::missing(&container.name)).with_context(cannot);
    }
    Prepared::new(engine, container, Options::in_background()).with_context(cannot)?;
    Ok(())
}

/// All that is decided before the fork.
struct Prepared {
    /// Volumes that are used for the first time.
    filled: Vec<String>,
    spec: Spec,
    rootfs: Rootfs,
    userns: Userns,
    ids: IdMaps,
    accounts: Option<Accounts>,
    filters: Vec<Filter>,
    handler: Option<Box<dyn Handler>>,
    shared: Shared,
    wired: Wired,
    group: Plan,
    sdnotify: Option<sdnotify::Order>,
    /// While they are open, additional stores keep the contents that the container reads.
    held: Vec<OwnedFd>,
    /// Sockets of published ports that listen already.
    given: Vec<Given>,
}

/// How it is connected.
struct Wired {
    /// With networks that have names.
    interfaces: Option<Interfaces>,
    /// With the world in user mode alone.
    interface: Option<Interface>,
    addresses: Option<Addresses>,
}

impl Wired {
    fn of(engine: &Engine, container: &Container) -> anyhow::Result<Wired> {
        let process = &container.config.process;
        if process.network == Network::Bridge {
            let interfaces = Interfaces::lease(engine, container)?;
            return Ok(Wired {
                addresses: Some(interfaces.way().addresses),
                interfaces: Some(interfaces),
                interface: None,
            });
        }
        let addresses = addresses(engine, container);
        Ok(Wired {
            interfaces: None,
            interface: addresses.as_ref().map(|own| interface(own, process)),
            addresses,
        })
    }

    fn connected(&self, container: &Container) -> etc::Connected {
        if let Some(interfaces) = &self.interfaces {
            return interfaces.connected(container);
        }
        let own = self.addresses.as_ref();
        let own = own.map_or(LOCAL.into(), |own| own.of_family(own.gateway()).0);
        etc::Connected {
            addresses: self.addresses,
            own: vec![own],
            resolvers: None,
        }
    }
}

/// The specification, with a copy for people and hooks.
fn write_spec(container: &Container, host: &Host, edits: Option<&Edits>) -> anyhow::Result<Spec> {
    let mut spec = spec::of(&container.config, host)?;
    if !container.config.security.hooks_dirs.is_empty() {
        add_hooks(&mut spec, container)?;
    }
    if let Some(edits) = edits {
        cdi::add_to_spec(&mut spec, edits)?;
    }
    let bytes = serde_json::to_vec(&spec)?;
    std::fs::write(container.spec_file(), bytes)
        .with_context(|| format!("cannot write {}", container.spec_file().display()))?;
    Ok(spec)
}

/// Its control group, of which a note is left for who looks for it.
fn plan_group(container: &Container, spec: &Spec) -> anyhow::Result<Plan> {
    let group = groups::plan(container, spec)?;
    if let Some(
        Place::Directory(path)
        | Place::Split {
            container: path, ..
        },
    ) = &group.place
    {
        container.note_group(path)?;
    }
    Ok(group)
}

impl Prepared {
    fn new(
        engine: &Engine,
        container: &Container,
        options: Options<'_>,
    ) -> anyhow::Result<Prepared> {
        let config = &container.config;
        let ids = ids::of(&config.identity)?;
        let mut shared = namespaces::open(engine, config)?;
        let mut userns = shared.userns(config, ids::userns(&engine.dirs, config)?)?;
        ids::check_joined(&userns, &ids)?;
        let wired = Wired::of(engine, container)?;
        if let Some(outer) = wired.interfaces.as_ref().and_then(Interfaces::user) {
            userns = within(&userns, outer)?;
        }
        let files = etc::write(engine, container, &wired.connected(container))?;
        let mut places = places::find(engine, container, &ids)?;
        let edits = cdi::find(&config.files)?;
        if let Some(edits) = &edits {
            cdi::add_places(&mut places, edits)?;
        }
        let filled = std::mem::take(&mut places.filled);
        let host = Host {
            tty_group: idmap::outside(&ids.gids, 5).is_some(),
            unified_cgroup: cgroup::is_unified(),
            files,
            places,
            size: options.size,
            block_devices: create::resources::block_devices(&config.resources.limits)?,
            joined: shared.paths.clone(),
            mqueue: config.process.namespaces.ipc == Namespace::Host
                && Path::new("/dev/mqueue").exists(),
            variables: options.activation.environment(container),
            notify: options
                .activation
                .inside(container)
                .map(|inside| (container.run.join(sdnotify::SOCKET), inside)),
        };
        let spec = write_spec(container, &host, edits.as_ref())?;
        let rootfs = rootfs(engine, container, &ids)?;
        let mut group = plan_group(container, &spec)?;
        let sdnotify = options.activation.order(container, options.foreground)?;
        // systemd: a message counts for the unit in whose group its sender is.
        group.supervisor &= sdnotify.is_none();
        Ok(Prepared {
            filled,
            spec,
            rootfs,
            userns,
            accounts: ids::accounts(config),
            filters: calls::filters(&engine.dirs, &container.config, &ids)?,
            handler: calls::handler(&container.config, &ids),
            ids,
            shared,
            wired,
            group,
            sdnotify,
            held: hold_contents(engine, container)?,
            given: vec![],
        })
    }

    /// For who makes it.
    fn ready<'a>(&'a mut self, container: &'a Container, preserved: &'a [Preserved]) -> Ready<'a> {
        let config = &container.config;
        let hub = self.wired.interfaces.iter().flat_map(Interfaces::fds);
        Ready {
            bundle: Bundle {
                spec: &self.spec,
                rootfs: &self.rootfs,
                userns: &self.userns,
                ids: &self.ids,
                root_is_caller: ids::root_is_us(&self.ids),
                user: Some(ids::wanted(&config.identity)),
                accounts: self.accounts.as_ref(),
                filters: &self.filters,
                joins: &self.shared.joins,
                interface: self.wired.interface.as_ref(),
                wire: self.wired.interfaces.as_ref().map(|wire| wire as &dyn Wire),
                shm: self.shared.shm.as_ref().map(AsFd::as_fd),
                init: config.process.init,
                set_home: !config.process.unset_env.contains("HOME"),
                preserved,
                cgroup: None,
                gate: None,
                pass_on: None,
                shares_keyring: false,
                no_pivot: false,
                hardened: true,
                id: &config.id,
                directory: &container.data,
            },
            served: Served {
                way: self.way(),
                handler: self.handler.take(),
                group: &self.group,
                sdnotify: self.sdnotify.take(),
                held: self.held.iter().map(AsFd::as_fd).chain(hub).collect(),
                given: std::mem::take(&mut self.given),
            },
        }
    }

    /// To the world.
    fn way(&self) -> Option<Way> {
        match &self.wired.interfaces {
            Some(interfaces) => Some(interfaces.way()),
            None => Some(Way {
                addresses: self.wired.addresses?,
                mac: stack::CONTAINER_MAC,
                mtu: self
                    .wired
                    .interface
                    .as_ref()
                    .map_or(stack::MTU, |own| own.mtu),
                is_internal: false,
            }),
        }
    }

    fn mark_used(&self, engine: &Engine) {
        for name in &self.filled {
            volume::mark_used(&engine.dirs, name);
        }
    }
}

/// The user namespace of a container on networks.
fn within(chosen: &Userns, outer: BorrowedFd<'_>) -> anyhow::Result<Userns> {
    if let Userns::New = chosen {
        return Ok(Userns::Within(outer.try_clone_to_owned()?));
    }
    let text = "a container on networks has a user namespace of its own, and joins no other";
    Err(fail(Kind::Unsupported, text)
        .hint("leave out `--userns` and what it shares with others, or use `--network private`"))
}

/// Those of a network in user mode, where the container has one.
fn addresses(engine: &Engine, container: &Container) -> Option<Addresses> {
    let Network::Private { optional, only, .. } = container.config.process.network else {
        return None;
    };
    if optional && let Err(err) = tap::check_device() {
        let name = &container.name;
        let text = format!("container \"{name}\" has no network but loopback: {err}");
        (engine.warn)(
            &text,
            "`rbox doctor` says what is missing; with `--network none` nothing is",
        );
        return None;
    }
    let mut addresses = Addresses::choose();
    addresses.has4 = only != Some(Family::V6);
    addresses.has6 = only != Some(Family::V4);
    Some(addresses)
}

/// The container's end of a network in user mode.
fn interface(addresses: &Addresses, process: &Process) -> Interface {
    let v4 = Address {
        ip: addresses.container4.into(),
        prefix: Addresses::PREFIX4,
        gateway: addresses.gateway4.into(),
    };
    let v6 = Address {
        ip: addresses.container6.into(),
        prefix: Addresses::PREFIX6,
        gateway: addresses.gateway6.into(),
    };
    let asked = match process.network {
        Network::Private { mtu, .. } => mtu,
        _ => None,
    };
    let is_slow = process.rates.least().is_some_and(|bytes| bytes < SLOW);
    let usual = if is_slow { SMALL } else { stack::MTU };
    let mut all = vec![v4, v6];
    all.retain(|one| addresses.has_family(one.ip));
    Interface {
        mac: stack::CONTAINER_MAC,
        mtu: asked.unwrap_or(usual),
        addresses: all,
        gateway_mac: stack::GATEWAY_MAC,
    }
}

/// The configured hooks that want this container.
fn add_hooks(spec: &mut Spec, container: &Container) -> anyhow::Result<()> {
    let config = &container.config;
    let none = HashMap::new();
    let args = config.process.args();
    let subject = hooks::Subject {
        annotations: spec.annotations().as_ref().unwrap_or(&none),
        command: args.first().map_or("", String::as_str),
        has_bind_mounts: config
            .files
            .mounts
            .iter()
            .any(|mount| matches!(mount.source, Source::Bind { .. })),
    };
    let found = hooks::select(&config.security.hooks_dirs, &subject)?;
    spec.set_hooks(found);
    Ok(())
}

/// Where the root file system of a container comes from; its directories are made where they are not there.
pub fn rootfs(engine: &Engine, container: &Container, ids: &IdMaps) -> anyhow::Result<Rootfs> {
    let default = &engine.ids()?.maps;
    if container.config.ids != ids::tag(default, ids) {
        return Err(fail(
            Kind::WrongStatus,
            "its files belong to other ids than containers of this user have now",
        )
        .hint("create it anew, or give back the sub-ids that it was created with"));
    }
    let [upper, work, merged] = overlay_dirs(&container.data);
    ids::make_dirs(&container.data, &["upper", "work", "merged"], default, ids)?;
    let contents = container.config.contents.clone();
    if !contents.is_empty() {
        // An error says more than files that cannot be read.
        image::additional::hold(&engine.dirs, &container.config.layers)?;
    }
    let (base, lower) = match &container.config.files.rootfs {
        Some(rootfs) if !rootfs.overlay => return Ok(Rootfs::Directory(rootfs.path.clone())),
        Some(rootfs) => (PathBuf::from("/"), vec![rootfs.path.clone()]),
        None => (engine.dirs.data.clone(), container.config.lower.clone()),
    };
    let overlay = Overlay {
        base,
        lower,
        contents,
        upper,
        work,
        merged,
        // Linux: what was mounted so is not mounted again (overlayfs, "Volatile mount").
        volatile: container.config.remove && !may_run_again(&container.config),
    };
    Ok(if engine.dirs.no_overlay().exists() {
        Rootfs::Copy(overlay)
    } else {
        Rootfs::Overlay(overlay)
    })
}

fn hold_contents(engine: &Engine, container: &Container) -> anyhow::Result<Vec<OwnedFd>> {
    let mut mounts = container.config.files.mounts.iter();
    let of_mount =
        |source: &Source| matches!(source, Source::Image { contents, .. } if !contents.is_empty());
    if container.config.contents.is_empty() && !mounts.any(|mount| of_mount(&mount.source)) {
        return Ok(vec![]);
    }
    image::additional::hold(&engine.dirs, &images::layers_of(container))
}

/// Whether its supervisor may start it again.
fn may_run_again(config: &Config) -> bool {
    config.restart != Restart::No || config.health.check.is_some()
}

fn fork_supervisor(
    engine: &Engine,
    container: &Container,
    prepared: &mut Prepared,
    lock: RunLock,
    starter: OwnedFd,
    options: Options<'_>,
) -> anyhow::Result<()> {
    let without_sockets = options.activation.without_sockets();
    let again = match container.config.restart {
        // They were closed: nobody was to want them any more.
        Restart::No => Options {
            preserved: &[],
            activation: &without_sockets,
            ..options
        },
        _ => options,
    };
    match process::fork().context("cannot start a supervisor")? {
        Side::Child => supervisor::main(Order {
            dirs: &engine.dirs,
            container,
            first: prepared.ready(container, options.preserved),
            execute: &|container, command, stdio| exec::check(engine, container, command, stdio),
            again: &mut |container, make| {
                // What is prepared may depend on containers that run now.
                let mut prepared = Prepared::new(engine, container, again)?;
                let ran = make(prepared.ready(container, again.preserved))?;
                if matches!(ran, Ran::Until(_)) {
                    prepared.mark_used(engine);
                }
                Ok(ran)
            },
            lock,
            starter,
            foreground: options.foreground,
        }),
        // The lock goes on to live in the supervisor.
        Side::Parent(_) => Ok(()),
    }
}

fn wait_started(connection: &Connection) -> anyhow::Result<()> {
    let mut buffer = vec![0; PACKET];
    let packet = socket::receive(connection.socket.as_fd(), &mut buffer)?;
    match Reply::decode(&buffer[..packet.length]) {
        Some(Reply::Started) => Ok(()),
        Some(Reply::Failed(told)) => Err(told.into_error()),
        _ => bail!("its supervisor died"),
    }
}
