//! The kernel objects of networks: a bridge for each, a cable from it to each container, and the device of the
//! container's supervisor, which is at the cable and not at the bridge.
//!
//! ```text
//!  container         hub                                        supervisor
//!  eth0 ===== port --+-- what is for the gateway ---> TAP ====> stack
//!                    |          and back         <---
//!                    +-- everything else -- bridge -- ports of the others
//! ```
//!
//! So the way to the world is each container's own, which no other one can hear or use, and a supervisor that is killed
//! takes its container's way only. The bridge has no address, learns none, and gives nobody what is for another: what
//! a container says of its hardware address changes nothing for the others. Of its address it says to them what is so
//! (`Cable::rules`); but packets in other names than the gateway's it may send, as routers and nested engines do. Frames
//! with tags of VLANs go to nobody.

use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;
use std::os::fd::AsRawFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;

use anyhow::Context;
use rustix::io::Errno;

use crate::error::Kind;
use crate::error::WithHint;
use crate::error::fail;
use crate::network::direct;
use crate::network::direct::Parent;
use crate::network::setting;
use crate::network::stack::GATEWAY_MAC;
use crate::sys::SyscallError;
use crate::sys::link;
use crate::sys::link::Match;
use crate::sys::netlink;
use crate::sys::netlink::Batch;
use crate::sys::process;
use crate::sys::tap;

const MAKE: i32 = libc::NLM_F_CREATE | libc::NLM_F_EXCL;
const SET: i32 = libc::NLM_F_CREATE | libc::NLM_F_REPLACE;

/// Headers behind which the kernel looks for neighbour discovery: options for each hop, a route, options for the target.
/// In fragments it heeds none (RFC 6980).
const EXTENSIONS: [u8; 3] = [0, 43, 60];

/// A container's place on one network.
#[derive(Clone, Debug)]
pub struct Cable {
    /// Of one that goes to an interface of the host's, and to no bridge.
    pub parent: Option<Parent>,
    /// The interface of the network in the hub.
    pub bridge: String,
    pub mtu: u16,
    /// The end in the hub, and the one in the container.
    pub port: String,
    pub interface: String,
    pub mac: [u8; 6],
    pub addresses: Vec<(IpAddr, u8)>,
    /// Subnets behind other members of the network, those, and the metric that is asked for.
    pub routes: Vec<((IpAddr, u8), IpAddr, Option<u32>)>,
    /// One of each family that the network has.
    pub gateways: Vec<IpAddr>,
    /// The device of the supervisor, in the hub.
    pub device: String,
    /// The container's way to the world, if it is by this network.
    pub uplink: Option<Uplink>,
}

/// How a container reaches the stack of its supervisor.
#[derive(Clone, Debug)]
pub struct Uplink {
    /// Whether everything else is behind the gateways, or nothing.
    pub is_default: bool,
}

/// Connects a container: makes the supervisor's device if it is told a name for it, which it returns, and what is not
/// there yet of bridges and cables. Its interfaces on those of the host are there (`direct::lay`).
///
/// Must: run in the hub, in a process of its own.
pub fn connect(
    new_device: Option<&str>,
    cables: &[Cable],
    container: BorrowedFd<'_>,
) -> anyhow::Result<Option<OwnedFd>> {
    let device = new_device.map(tap::open).transpose().map_err(|err| {
        fail(Kind::Unsupported, format!("cannot make a network device: {err}"))
            .hint("networks need /dev/net/tun (`sudo modprobe tun`, mode 0666; in a container `--device /dev/net/tun`); or use `--network none` or `host`")
    })?;
    for cable in cables.iter().filter(|cable| cable.parent.is_none()) {
        cable
            .lay(container)
            .map_err(explain)
            .with_context(|| format!("cannot make interface {}", cable.interface))?;
        cable.lead().map_err(explain)?;
    }
    process::setns(container, libc::CLONE_NEWNET)
        .context("cannot join the container's network namespace")?;
    for cable in cables {
        cable
            .arrive()
            .with_context(|| format!("cannot configure interface {}", cable.interface))?;
    }
    Ok(device)
}

/// Takes a cable away, and leads the way to the world by another, if it went by that.
///
/// Must: run in the hub, in a process of its own.
pub fn disconnect(
    port: &str,
    next: Option<&Cable>,
    container: BorrowedFd<'_>,
) -> anyhow::Result<()> {
    // A container that has removed its end has removed both.
    remove(port)?;
    let Some(cable) = next else {
        return Ok(());
    };
    cable.lead().map_err(explain)?;
    process::setns(container, libc::CLONE_NEWNET)
        .context("cannot join the container's network namespace")?;
    cable.arrive()
}

/// Removes an interface, if it is there.
///
/// Must: run in the hub, in a process of its own.
pub fn remove(interface: &str) -> anyhow::Result<()> {
    let index = match netlink::interface(interface) {
        Err(err) if err.errno == Errno::NODEV => return Ok(()),
        found => found?,
    };
    let mut batch = Batch::default();
    let what = format!("RTM_DELLINK, {interface}");
    batch.push(libc::RTM_DELLINK, 0, &link::of(index), what);
    Ok(batch.run()?)
}

impl Cable {
    /// In the hub: the bridge, and a cable from it to the container.
    fn lay(&self, container: BorrowedFd<'_>) -> Result<(), SyscallError> {
        let bridge = match netlink::interface(&self.bridge) {
            Err(err) if err.errno == Errno::NODEV => {
                let mut batch = Batch::default();
                let what = format!("RTM_NEWLINK, bridge {}", self.bridge);
                let body = link::bridge(&self.bridge).with(libc::IFLA_MTU, &self.mtu_bytes());
                batch.push(libc::RTM_NEWLINK, MAKE, &body, what);
                batch.run()?;
                netlink::interface(&self.bridge)?
            }
            found => found?,
        };
        let peer = link::of(0)
            .with(libc::IFLA_IFNAME, &link::terminated(&self.interface))
            .with(libc::IFLA_ADDRESS, &self.mac)
            .with(libc::IFLA_MTU, &self.mtu_bytes())
            .with(libc::IFLA_NET_NS_FD, &container.as_raw_fd().to_ne_bytes());
        let cable = link::veth(&self.port, &peer)
            .with(libc::IFLA_MTU, &self.mtu_bytes())
            .with(libc::IFLA_MASTER, &bridge.to_ne_bytes());
        let mut batch = Batch::default();
        let what = format!("RTM_NEWLINK, veth {}", self.port);
        batch.push(
            libc::RTM_NEWLINK,
            0,
            &link::up(bridge),
            format!("RTM_NEWLINK, {} up", self.bridge),
        );
        batch.push(libc::RTM_NEWLINK, MAKE, &cable, what);
        batch.run()?;
        let port = netlink::interface(&self.port)?;
        let mut batch = Batch::default();
        let what = |kind: &str| format!("{kind}, {}", self.port);
        batch.push(
            libc::RTM_SETLINK,
            0,
            &link::fixed_port(port),
            what("RTM_SETLINK"),
        );
        batch.push(
            libc::RTM_NEWNEIGH,
            SET,
            &link::behind_port(port, self.mac),
            what("RTM_NEWNEIGH"),
        );
        batch.push(libc::RTM_NEWLINK, 0, &link::up(port), what("RTM_NEWLINK"));
        batch.run()
    }

    fn mtu_bytes(&self) -> [u8; 4] {
        u32::from(self.mtu).to_ne_bytes()
    }

    /// Guards the port, and leads what is for the gateway from it to the device if this is the uplink, wherever it was
    /// led before.
    fn lead(&self) -> Result<(), SyscallError> {
        let port = netlink::interface(&self.port)?;
        let device = netlink::interface(&self.device)?;
        let mut batch = Batch::default();
        let mut filtered = vec![port];
        if self.uplink.is_some() {
            let up = link::up(device).with(libc::IFLA_MTU, &self.mtu_bytes());
            batch.push(libc::RTM_NEWLINK, 0, &up, "RTM_NEWLINK, tap".into());
            filtered.push(device);
        }
        for index in filtered {
            // With what it is filtered by its filters go.
            let body = link::filtered(index);
            batch.try_push(libc::RTM_DELQDISC, 0, &body, "RTM_DELQDISC, clsact".into());
            batch.push(
                libc::RTM_NEWQDISC,
                MAKE,
                &body,
                "RTM_NEWQDISC, clsact".into(),
            );
        }
        for (number, (matches, passes)) in (1..).zip(self.rules()) {
            let to = (!passes).then_some(device);
            let body = link::filter(port, number, &matches, to);
            let what = format!("RTM_NEWTFILTER, u32 {matches:?}");
            batch.push(libc::RTM_NEWTFILTER, MAKE, &body, what);
        }
        if self.uplink.is_some() {
            let back = link::filter(device, 1, &Match::all(), Some(port));
            batch.push(
                libc::RTM_NEWTFILTER,
                MAKE,
                &back,
                "RTM_NEWTFILTER, u32".into(),
            );
        }
        batch.run()
    }

    /// What of the container's frames goes to the bridge, and what to its own supervisor, who answers for the gateway and
    /// drops what is nobody's. What no rule matches goes to the bridge.
    fn rules(&self) -> Vec<(Match, bool)> {
        const ASKS: u8 = 135;
        const ANSWERS: u8 = 136;
        let mut rules = Vec::new();
        let gateways = self.gateways.iter();
        // Linux: a tag of VLAN 0 is as none to who gets it, and what is behind a tag no rule sees.
        let tags = [libc::ETH_P_8021Q, libc::ETH_P_8021AD];
        rules.extend(tags.map(|tag| (Match::of(tag), false)));
        if self.uplink.is_some() {
            rules.push((Match::to(GATEWAY_MAC), false));
            rules.extend(gateways.clone().map(|gateway| match gateway {
                IpAddr::V4(ip) => (Match::arp_for(*ip), false),
                IpAddr::V6(ip) => (Match::neighbour(ASKS, *ip, 128), false),
            }));
        }
        // Nobody says of an address that is not its own where it is; those who have none yet say nothing.
        rules.push((Match::arp_from(Ipv4Addr::UNSPECIFIED), true));
        rules.push((Match::neighbour_from(Ipv6Addr::UNSPECIFIED, 128), true));
        let own = self.addresses.iter().map(|(ip, _)| *ip);
        for ip in own.chain([link_local(self.mac).into()]) {
            match ip {
                IpAddr::V4(ip) => rules.push((Match::arp_from(ip), true)),
                IpAddr::V6(ip) => rules.extend([
                    (Match::neighbour(ANSWERS, ip, 128), true),
                    (Match::neighbour_from(ip, 128), true),
                ]),
            }
        }
        rules.push((Match::arp(), false));
        rules.push((Match::neighbour(ANSWERS, Ipv6Addr::UNSPECIFIED, 0), false));
        rules.push((Match::neighbour_from(Ipv6Addr::UNSPECIFIED, 0), false));
        // Reports of who listens to a group, with options for each hop, have a hop limit of 1 (RFC 3810) and go on.
        rules.extend(EXTENSIONS.map(|header| (Match::near_behind(header), false)));
        // Nor does it speak as the gateway.
        rules.extend(gateways.map(|gateway| (Match::from(*gateway), false)));
        rules
    }

    /// In the container: addresses and routes.
    fn arrive(&self) -> anyhow::Result<()> {
        let index = netlink::interface(&self.interface)?;
        distrust(&self.interface)?;
        if self.parent.is_none() {
            // Its address on the link is the one that it may speak of (`link_local`), not one by chance.
            setting::set(&format!("ipv6/conf/{}/addr_gen_mode", self.interface), "0")?;
        }
        let mut batch = Batch::default();
        let up = format!("RTM_NEWLINK, {} up", self.interface);
        batch.push(libc::RTM_NEWLINK, 0, &link::up(index), up);
        for (ip, prefix) in &self.addresses {
            let what = format!("RTM_NEWADDR, {ip}/{prefix}");
            let body = link::address(index, *ip, *prefix);
            // A kernel may have no IPv6.
            if ip.is_ipv4() {
                batch.push(libc::RTM_NEWADDR, SET, &body, what);
            } else {
                batch.try_push(libc::RTM_NEWADDR, SET, &body, what);
            }
        }
        for (to, gateway, metric) in &self.routes {
            let what = format!("RTM_NEWROUTE, {}/{} by {gateway}", to.0, to.1);
            let mut route = link::route(index, *to, *gateway);
            if let Some(metric) = metric {
                route = route.with(libc::RTA_PRIORITY, &metric.to_ne_bytes());
            }
            batch.push(libc::RTM_NEWROUTE, SET, &route, what);
        }
        if let Some(uplink) = &self.uplink {
            uplink.add_to(&mut batch, index, &self.gateways);
        }
        if self.parent.as_ref().is_some_and(|parent| parent.is_default) {
            for gateway in &self.gateways {
                let metric = direct::METRIC + index;
                let route = link::route(index, (*gateway, 0), *gateway)
                    .with(libc::RTA_PRIORITY, &metric.to_ne_bytes());
                let what = format!("RTM_NEWROUTE, {gateway}");
                batch.push(libc::RTM_NEWROUTE, SET, &route, what);
            }
        }
        Ok(batch.run()?)
    }
}

/// The address that Linux makes of a hardware address (RFC 4291, appendix A).
fn link_local(mac: [u8; 6]) -> Ipv6Addr {
    let [first, second, third, rest @ ..] = mac;
    let mut octets = [0; 16];
    octets[..2].copy_from_slice(&[0xfe, 0x80]);
    octets[8..13].copy_from_slice(&[first ^ 2, second, third, 0xff, 0xfe]);
    octets[13..].copy_from_slice(&rest);
    octets.into()
}

/// Neighbours are no routers, and name none (CVE-2020-13401, CVE-2020-10749).
fn distrust(interface: &str) -> anyhow::Result<()> {
    setting::set("ipv4/conf/all/accept_redirects", "0")?;
    for setting in ["ipv4/conf", "ipv6/conf"] {
        setting::set(&format!("{setting}/{interface}/accept_redirects"), "0")?;
    }
    setting::set(&format!("ipv6/conf/{interface}/accept_ra"), "0")
}

impl Uplink {
    fn add_to(&self, batch: &mut Batch, index: u32, gateways: &[IpAddr]) {
        for gateway in gateways {
            let neighbour = link::neighbour(index, *gateway, GATEWAY_MAC);
            let mut requests = vec![(
                libc::RTM_NEWNEIGH,
                neighbour,
                format!("RTM_NEWNEIGH, {gateway}"),
            )];
            if self.is_default {
                let everywhere = (*gateway, 0);
                let route = link::route(index, everywhere, *gateway)
                    .with_nested(libc::RTA_METRICS, &link::eager());
                requests.push((
                    libc::RTM_NEWROUTE,
                    route,
                    format!("RTM_NEWROUTE, {gateway}"),
                ));
            }
            for (kind, body, what) in requests {
                if gateway.is_ipv4() {
                    batch.push(kind, SET, &body, what);
                } else {
                    batch.try_push(kind, SET, &body, what);
                }
            }
        }
    }
}

/// Linux: devices, queues and filters come with modules, which are loaded when the first is made.
fn explain(err: SyscallError) -> anyhow::Error {
    let hint = match err.errno {
        Errno::OPNOTSUPP | Errno::NOENT => {
            "networks need the kernel modules bridge, veth, sch_ingress, cls_u32 and act_mirred: `sudo modprobe -a bridge veth sch_ingress cls_u32 act_mirred`; `--network private` needs none of them"
        }
        _ => return err.into(),
    };
    fail(Kind::Unsupported, err.to_string()).hint(hint)
}
