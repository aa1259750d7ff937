//! Interfaces of containers that are on an interface of the host's (macvlan, ipvlan): a container is a machine of that
//! network then. Nothing of rbox's is between them, so that no port need be published, and nothing can be forbidden.
//!
//! Linux: a macvlan interface and the host itself do not hear each other; the host's neighbours hear both.

use std::os::fd::AsRawFd;
use std::os::fd::BorrowedFd;

use anyhow::Context;
use rustix::io::Errno;

use crate::error::Kind;
use crate::error::WithHint;
use crate::error::fail;
use crate::network::record::Driver;
use crate::network::record::Network;
use crate::network::wire::Cable;
use crate::sys::link;
use crate::sys::netlink;
use crate::sys::netlink::Batch;
use crate::sys::netlink::Body;
use crate::sys::process;

/// Options: the host's interface, and how interfaces on it deal with each other.
pub const PARENT: &str = "parent";
pub const MODE: &str = "mode";

/// linux/if_link.h
const MACVLAN_MODES: [(&str, u32); 4] =
    [("bridge", 4), ("private", 1), ("vepa", 2), ("passthru", 8)];
const IPVLAN_MODES: [(&str, u16); 3] = [("l2", 0), ("l3", 1), ("l3s", 2)];
const IFLA_MODE: u16 = 1;

/// Behind the default routes of networks that are bridges: metrics are compared.
pub const METRIC: u32 = 4096;

/// How an interface is made on one of the host's.
#[derive(Clone, Debug)]
pub struct Parent {
    driver: Driver,
    name: String,
    mode: Option<String>,
    /// Its gateway leads to everywhere.
    pub is_default: bool,
    /// Unless it is to be the parent's.
    mtu: Option<u16>,
}

impl Parent {
    /// `None` for a network that is a bridge.
    pub fn of(network: &Network) -> Option<Parent> {
        (network.driver != Driver::Bridge).then(|| Parent {
            driver: network.driver,
            name: network.interface.clone(),
            mode: network.options.get(MODE).cloned(),
            is_default: network.has_default_route(),
            mtu: network.mtu(),
        })
    }

    fn mode(&self) -> Body {
        let asked = self.mode.as_deref();
        match self.driver {
            Driver::Ipvlan => {
                Body::default().with(IFLA_MODE, &find(&IPVLAN_MODES, asked).to_ne_bytes())
            }
            _ => Body::default().with(IFLA_MODE, &find(&MACVLAN_MODES, asked).to_ne_bytes()),
        }
    }
}

/// The first one is what is taken where nothing is said.
fn find<T: Copy>(modes: &[(&str, T)], asked: Option<&str>) -> T {
    let found = modes.iter().find(|(name, _)| Some(*name) == asked);
    found.unwrap_or(&modes[0]).1
}

/// The modes of a driver.
pub fn modes(driver: Driver) -> Vec<&'static str> {
    match driver {
        Driver::Bridge => vec![],
        Driver::Macvlan => MACVLAN_MODES.iter().map(|(name, _)| *name).collect(),
        Driver::Ipvlan => IPVLAN_MODES.iter().map(|(name, _)| *name).collect(),
    }
}

/// Makes those of a container's interfaces that are on an interface of the host's, in its namespace.
///
/// Must: run in the host's network namespace.
pub fn lay(cables: &[Cable], container: BorrowedFd<'_>) -> anyhow::Result<()> {
    for cable in cables {
        if let Some(parent) = &cable.parent {
            lay_one(cable, parent, container).with_context(|| {
                let (name, parent) = (&cable.interface, &parent.name);
                format!("cannot make interface {name} on interface {parent} of the host")
            })?;
        }
    }
    Ok(())
}

fn lay_one(cable: &Cable, parent: &Parent, container: BorrowedFd<'_>) -> anyhow::Result<()> {
    let index = match netlink::interface(&parent.name) {
        Err(err) if err.errno == Errno::NODEV => {
            return Err(fail(Kind::NotFound, "this host has no such interface"))
                .hint("`ip link` shows those it has; the network is made anew with another: `--opt parent=NAME`");
        }
        found => found?,
    };
    let kind = parent.driver.name();
    let mut body = link::on_parent(kind, &cable.interface, index, &parent.mode())
        .with(libc::IFLA_NET_NS_FD, &container.as_raw_fd().to_ne_bytes());
    if parent.driver == Driver::Macvlan {
        body = body.with(libc::IFLA_ADDRESS, &cable.mac);
    }
    if let Some(mtu) = parent.mtu {
        body = body.with(libc::IFLA_MTU, &u32::from(mtu).to_ne_bytes());
    }
    let mut batch = Batch::default();
    let flags = libc::NLM_F_CREATE | libc::NLM_F_EXCL;
    batch.push(
        libc::RTM_NEWLINK,
        flags,
        &body,
        format!("RTM_NEWLINK, {kind}"),
    );
    batch.run().map_err(|err| match err.errno {
        Errno::OPNOTSUPP => fail(Kind::Unsupported, err.to_string())
            .hint(format!("the kernel needs its module: `sudo modprobe {kind}`")),
        Errno::BUSY => fail(Kind::Conflict, err.to_string())
            .hint("an interface is the parent of macvlan or of ipvlan interfaces, or in a bridge; use another one"),
        _ => err.into(),
    })
}

/// Takes such an interface away.
///
/// Must: run in a process of its own.
pub fn remove(interface: &str, container: BorrowedFd<'_>) -> anyhow::Result<()> {
    process::setns(container, libc::CLONE_NEWNET)
        .context("cannot join the container's network namespace")?;
    match netlink::interface(interface) {
        Ok(index) => {
            let mut batch = Batch::default();
            let what = format!("RTM_DELLINK, {interface}");
            batch.push(libc::RTM_DELLINK, 0, &link::of(index), what);
            Ok(batch.run()?)
        }
        // The container has removed it.
        Err(err) if err.errno == Errno::NODEV => Ok(()),
        Err(err) => Err(err.into()),
    }
}
