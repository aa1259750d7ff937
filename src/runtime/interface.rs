//! The network interface of a container: a TAP device in its network namespace, made and configured by its init, so
//! that no program in the container has to. Its other end goes to the process that made init.

use std::net::IpAddr;
use std::os::fd::OwnedFd;

use anyhow::Context;
use rustix::net::AddressFamily;
use rustix::net::SocketFlags;
use rustix::net::SocketType;

use crate::error::Kind;
use crate::error::WithHint;
use crate::error::fail;
use crate::sys::netlink::Batch;
use crate::sys::netlink::Body;
use crate::sys::tap;

pub const NAME: &str = "eth0";

/// No attempt to find out whether anybody has the address: nobody else is on this Ethernet.
const IFA_F_NODAD: u8 = 0x02;
/// linux/rtnetlink.h
const RTAX_QUICKACK: u16 = 15;
const RTAX_CC_ALGO: u16 = 16;
const RTAX_INITCWND: u16 = 11;

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
                .hint("`--network private` needs /dev/net/tun (`sudo modprobe tun`, mode 0666); or use `--network none` or `host`")
        })?;
        let any = rustix::net::socket_with(
            AddressFamily::INET,
            SocketType::DGRAM,
            SocketFlags::CLOEXEC,
            None,
        )
        .context("cannot make a socket")?;
        let index = rustix::net::netdevice::name_to_index(&any, NAME)
            .with_context(|| format!("cannot find interface {NAME}"))?;
        self.requests(index)
            .run()
            .with_context(|| format!("cannot configure interface {NAME}"))?;
        Ok(tap)
    }

    fn requests(&self, index: u32) -> Batch {
        let mut batch = Batch::default();
        batch.push(
            libc::RTM_NEWLINK,
            0,
            &self.link(index),
            format!("RTM_NEWLINK, {NAME}"),
        );
        for address in &self.addresses {
            let requests = [
                (
                    libc::RTM_NEWADDR,
                    address.body(index),
                    format!("RTM_NEWADDR, {}/{}", address.ip, address.prefix),
                ),
                (
                    libc::RTM_NEWNEIGH,
                    self.neighbour(index, address.gateway),
                    format!("RTM_NEWNEIGH, {}", address.gateway),
                ),
                (
                    libc::RTM_NEWROUTE,
                    address.route(index),
                    format!("RTM_NEWROUTE, {}", address.gateway),
                ),
            ];
            for (kind, body, what) in requests {
                let flags = libc::NLM_F_CREATE | libc::NLM_F_REPLACE;
                if address.ip.is_ipv4() {
                    batch.push(kind, flags, &body, what);
                } else {
                    // A kernel may have no IPv6.
                    batch.try_push(kind, flags, &body, what);
                }
            }
        }
        batch
    }

    /// `struct ifinfomsg`: family, type, index, flags, and which flags change.
    fn link(&self, index: u32) -> Body {
        let up = u32::try_from(libc::IFF_UP).expect("a flag");
        let mut head = vec![0; 4];
        for field in [index, up, up] {
            head.extend(field.to_ne_bytes());
        }
        Body::new(&head)
            .with(libc::IFLA_ADDRESS, &self.mac)
            .with(libc::IFLA_MTU, &u32::from(self.mtu).to_ne_bytes())
    }

    /// `struct ndmsg`: family, index, state, flags, type. Known for ever: nobody has to ask for it.
    fn neighbour(&self, index: u32, ip: IpAddr) -> Body {
        let mut head = vec![family(ip), 0, 0, 0];
        head.extend(index.to_ne_bytes());
        head.extend(libc::NUD_PERMANENT.to_ne_bytes());
        head.extend([0, 0]);
        Body::new(&head)
            .with(libc::NDA_DST, &octets(ip))
            .with(libc::NDA_LLADDR, &self.gateway_mac)
    }
}

impl Address {
    /// `struct ifaddrmsg`: family, prefix length, flags, scope, index.
    fn body(&self, index: u32) -> Body {
        let flags = if self.ip.is_ipv6() { IFA_F_NODAD } else { 0 };
        let mut head = vec![family(self.ip), self.prefix, flags, 0];
        head.extend(index.to_ne_bytes());
        Body::new(&head)
            .with(libc::IFA_LOCAL, &octets(self.ip))
            .with(libc::IFA_ADDRESS, &octets(self.ip))
    }

    /// `struct rtmsg`: family, lengths of target and source, TOS, table, protocol, scope, type, flags. What TCP does
    /// on this route is chosen for a device that loses nothing: no congestion control that measures it, and answers at once.
    fn route(&self, index: u32) -> Body {
        let head = [
            family(self.ip),
            0,
            0,
            0,
            libc::RT_TABLE_MAIN,
            libc::RTPROT_BOOT,
            libc::RT_SCOPE_UNIVERSE,
            libc::RTN_UNICAST,
            0,
            0,
            0,
            0,
        ];
        let metrics = Body::default()
            .with(RTAX_CC_ALGO, b"reno\0")
            .with(RTAX_INITCWND, &64_u32.to_ne_bytes())
            .with(RTAX_QUICKACK, &1_u32.to_ne_bytes());
        Body::new(&head)
            .with(libc::RTA_OIF, &index.to_ne_bytes())
            .with(libc::RTA_GATEWAY, &octets(self.gateway))
            .with_nested(libc::RTA_METRICS, &metrics)
    }
}

fn family(ip: IpAddr) -> u8 {
    let family = if ip.is_ipv4() {
        libc::AF_INET
    } else {
        libc::AF_INET6
    };
    u8::try_from(family).expect("families are small numbers")
}

fn octets(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}
