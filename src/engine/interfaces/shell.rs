//! `network shell`: a command of the host on a network, beside the containers, or where all bridges are.

use std::convert::Infallible;
use std::ffi::OsString;
use std::io::ErrorKind;
use std::os::fd::AsFd;
use std::os::fd::AsRawFd;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::Command;

use anyhow::Context;
use caps::CapSet;
use caps::Capability;
use rustix::io::FdFlags;

use crate::container::config::process::Attachment;
use crate::container::name;
use crate::engine::Engine;
use crate::engine::interfaces::Named;
use crate::engine::interfaces::Owner;
use crate::engine::interfaces::lease;
use crate::engine::interfaces::lock;
use crate::engine::interfaces::unique;
use crate::error::Kind;
use crate::error::WithHint;
use crate::error::fail;
use crate::network::hub;
use crate::network::hub::Hub;
use crate::network::hub::Keeper;
use crate::network::members;
use crate::network::record;
use crate::network::record::Network;
use crate::network::wire;
use crate::store::dirs::Dirs;
use crate::sys::namespace;
use crate::sys::process;
use crate::sys::socket;

/// What the name of a visitor begins with.
pub const VISITOR: &str = "shell-";

/// What the command may do where it is, though it is not root there.
const CAPABILITIES: [Capability; 3] = [
    Capability::CAP_NET_ADMIN,
    Capability::CAP_NET_RAW,
    Capability::CAP_NET_BIND_SERVICE,
];

/// The places of this process, which the command keeps: they count as long as it runs.
struct Visit<'a> {
    dirs: &'a Dirs,
    id: String,
}

/// Of a command that could not be executed.
impl Drop for Visit<'_> {
    fn drop(&mut self) {
        members::remove_all(self.dirs, &self.id);
        Keeper::remove(self.dirs, &self.id);
    }
}

/// Becomes the command, on a network or in the hub.
///
/// Must: be called by a single-threaded process.
pub fn run(
    engine: &Engine,
    network: Option<&str>,
    command: &[OsString],
) -> anyhow::Result<Infallible> {
    let dirs = &engine.dirs;
    let used = record::lock_for_use(dirs)?;
    let network = network.map(|name| record::find(dirs, name)).transpose()?;
    if let Some(direct) = network.as_ref().filter(|network| network.is_direct()) {
        let text = format!(
            "cannot visit network \"{}\": the driver {} has no bridge",
            direct.name,
            direct.driver.name()
        );
        let hint = "`ip link` shows its interface here, and `rbox exec CONTAINER COMMAND` what a container has there";
        return Err(fail(Kind::Unsupported, text).hint(hint));
    }
    let visit = Visit {
        dirs,
        id: name::random_id()?,
    };
    let lock = lock(dirs)?;
    members::sweep(dirs);
    hub::sweep(dirs);
    let hub = Hub::find_or_make(dirs, &engine.ids()?.maps)?;
    let device = unique("t");
    hub.keeper(device.clone()).save(dirs, &visit.id)?;
    let tap = if let Some(network) = network {
        enter_beside(&hub, &visit, network, &device)?
    } else {
        hub.enter()?;
        None
    };
    drop((lock, used));
    let tap = tap.iter().map(AsFd::as_fd);
    for fd in hub.fds().chain(tap) {
        rustix::io::fcntl_setfd(fd, FdFlags::empty())?;
    }
    // Linux: who is not root keeps no others when a program is executed (capabilities(7)).
    for capability in CAPABILITIES {
        for set in [CapSet::Inheritable, CapSet::Ambient] {
            caps::raise(None, set, capability).context("cannot keep capabilities")?;
        }
    }
    let err = Command::new(&command[0]).args(&command[1..]).exec();
    let kind = match err.kind() {
        ErrorKind::NotFound => Kind::CommandNotFound,
        _ => Kind::CannotExecute,
    };
    let text = format!("cannot execute \"{}\": {err}", command[0].display());
    Err(fail(kind, text))
}

/// Takes this process to a network namespace of its own, with a cable from the network; returns the device that gets what
/// must not reach the others.
fn enter_beside(
    hub: &Hub,
    visit: &Visit<'_>,
    network: Network,
    device: &str,
) -> anyhow::Result<Option<OwnedFd>> {
    let own = rustix::process::getpid().as_raw_pid();
    let visitor = Named {
        id: visit.id.clone(),
        name: format!("{VISITOR}{own}"),
        aliases: vec![],
    };
    let wish = Attachment::default();
    let owner = Owner::of_this_process();
    let place = lease(visit.dirs, visitor, (network, &wish), &[], owner)?;
    let cables = [place.cable(device)];
    let (ours, theirs) = socket::pair()?;
    let number = ours.as_raw_fd().cast_unsigned();
    let laid = hub.start_inside(|| {
        // Its copy of our end would keep it waiting if we end.
        process::close_range(number, number)?;
        let packet = socket::receive(theirs.as_fd(), &mut [0; 1])?;
        let there = packet.fd.context("the namespace did not arrive")?;
        wire::connect(Some(device), &cables, there.as_fd())
    })?;
    hub.enter()?;
    process::unshare(libc::CLONE_NEWNET).context("cannot make a network namespace")?;
    let there = namespace::own("net")?;
    socket::send(ours.as_fd(), b"n", Some(there.as_fd()))?;
    laid.finish()
}
