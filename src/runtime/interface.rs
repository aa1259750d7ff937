//! The network interface of a container: a TAP device in its network namespace, made and configured by its init, so
//! that no program in the container has to. Its other end goes to the process that made init.

use std::net::IpAddr;
use std::os::fd::OwnedFd;

use anyhow::Context;

use crate::error::Kind;
use crate::error::WithHint;
use crate::error::fail;
use crate::sys::link;
use crate::sys::netlink;
use crate::sys::netlink::Batch;
use crate::sys::tap;

pub const NAME: &str = "eth0";
const ACCEPT_ROUTERS: &str = "/proc/sys/net/ipv6/conf/eth0/accept_ra";

pub struct Interface {
    pub mac: [u8; 6],
    pub mtu: u16,
    /// One address of each family.
    pub addresses: Vec<Address>,
    pub gateway_mac: [u8; 6],
}

pub struct Address {
    pub ip: IpAddr,
    pub prefix: u8,
    /// To everywhere else.
    pub gateway: IpAddr,
}

impl Interface {
    /// Makes it in the network namespace of this process.
    pub fn make(&self) -> anyhow::Result<OwnedFd> {
        let tap = tap::open(NAME).map_err(|err| {
            fail(Kind::Unsupported, format!("cannot make a network interface: {err}"))
                .hint("`--network private` needs /dev/net/tun (`sudo modprobe tun`, mode 0666; in a container `--device /dev/net/tun`); or use `--network none` or `host`")
        })?;
        // It is configured here; a program that configures it anew may have it ask for a router. Without IPv6 there is none.
        std::fs::write(ACCEPT_ROUTERS, "0").ok();
        let index = netlink::interface(NAME)?;
        self.requests(index)
            .run()
            .with_context(|| format!("cannot configure interface {NAME}"))?;
        Ok(tap)
    }

    fn requests(&self, index: u32) -> Batch {
        let mut batch = Batch::default();
        let link = link::up(index)
            .with(libc::IFLA_ADDRESS, &self.mac)
            .with(libc::IFLA_MTU, &u32::from(self.mtu).to_ne_bytes());
        batch.push(libc::RTM_NEWLINK, 0, &link, format!("RTM_NEWLINK, {NAME}"));
        for address in &self.addresses {
            let (ip, prefix, gateway) = (address.ip, address.prefix, address.gateway);
            let route = link::route(index, (gateway, 0), gateway)
                .with_nested(libc::RTA_METRICS, &link::eager());
            let requests = [
                (
                    libc::RTM_NEWADDR,
                    link::address(index, ip, prefix),
                    format!("RTM_NEWADDR, {ip}/{prefix}"),
                ),
                (
                    libc::RTM_NEWNEIGH,
                    link::neighbour(index, gateway, self.gateway_mac),
                    format!("RTM_NEWNEIGH, {gateway}"),
                ),
                (
                    libc::RTM_NEWROUTE,
                    route,
                    format!("RTM_NEWROUTE, {gateway}"),
                ),
            ];
            for (kind, body, what) in requests {
                let flags = libc::NLM_F_CREATE | libc::NLM_F_REPLACE;
                if ip.is_ipv4() {
                    batch.push(kind, flags, &body, what);
                } else {
                    // A kernel may have no IPv6.
                    batch.try_push(kind, flags, &body, what);
                }
            }
        }
        batch
    }
}
