//! Published ports: sockets of the host that listen before the container is started, so that a port that is
//! taken is an error before anything runs.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::rc::Rc;

use anyhow::Context;
use rustix::io::Errno;
use rustix::net::AddressFamily;
use rustix::net::SocketFlags;
use rustix::net::SocketType;
use rustix::net::sockopt;

use crate::error;
use crate::error::Kind;
use crate::error::WithHint;
use crate::error::fail;
use crate::sys::inet;
use crate::text::publish::Protocol;
use crate::text::publish::Publish;

/// As the kernel's own limit (`net.core.somaxconn`).
const BACKLOG: i32 = 4096;
/// How often a free port of one family is taken in the other.
const ATTEMPTS: usize = 16;

/// A socket that listens for one port of the container.
#[derive(Clone)]
pub struct Listener {
    pub socket: Rc<OwnedFd>,
    pub publish: Publish,
}

/// A socket that listens already, and what it is for.
pub struct Given {
    pub socket: OwnedFd,
    pub asked: Publish,
}

/// Listens on all that is asked for, or on nothing; what is given need not be made.
pub fn all(asked: &[Publish], given: Vec<Given>) -> anyhow::Result<Vec<Listener>> {
    let mut listeners = Vec::new();
    let mut given = given;
    for publish in asked {
        let (own, others): (Vec<Given>, Vec<Given>) =
            given.into_iter().partition(|one| one.asked == *publish);
        given = others;
        if own.is_empty() {
            listeners.extend(one(*publish)?);
        }
        for one in own {
            let cannot =
                || format!("cannot publish port \"{publish}\" by the socket that was given");
            listeners.push(take_over(one).with_context(cannot)?);
        }
    }
    Ok(listeners)
}

fn take_over(given: Given) -> anyhow::Result<Listener> {
    let Given { socket, asked } = given;
    rustix::io::ioctl_fionbio(&socket, true)?;
    let bound: SocketAddr = rustix::net::getsockname(&socket)?.try_into()?;
    if asked.protocol == Protocol::Udp {
        inet::want_local_address(socket.as_fd(), bound.is_ipv4())?;
    }
    Ok(Listener {
        socket: Rc::new(socket),
        publish: at(asked, bound),
    })
}

/// What is published by a socket of this address.
fn at(asked: Publish, bound: SocketAddr) -> Publish {
    Publish {
        host_ip: Some(bound.ip()),
        host_port: bound.port(),
        host_last: 0,
        descriptor: None,
        ..asked
    }
}

/// By the first port of several that is free.
fn one(publish: Publish) -> anyhow::Result<Vec<Listener>> {
    if publish.host_last == 0 {
        return at_port(publish);
    }
    for host_port in publish.host_port..=publish.host_last {
        match at_port(Publish {
            host_port,
            ..publish
        }) {
            Err(err) if error::kind(&err) == Some(Kind::Conflict) => {}
            done => return done,
        }
    }
    let ports = publish.host_ports();
    let text =
        format!("cannot publish port \"{publish}\": all ports {ports} of the host are in use");
    Err(fail(Kind::Conflict, text))
}

fn at_port(publish: Publish) -> anyhow::Result<Vec<Listener>> {
    let Some(ip) = publish.host_ip else {
        return both(publish);
    };
    let listener = bind(publish, ip, publish.host_port);
    Ok(vec![listener.map_err(|errno| explain(publish, errno))?])
}

/// On all addresses, by a socket for each family, with one port.
fn both(publish: Publish) -> anyhow::Result<Vec<Listener>> {
    for attempt in 1.. {
        let first = bind(publish, Ipv4Addr::UNSPECIFIED.into(), publish.host_port)
            .map_err(|errno| explain(publish, errno))?;
        let port = first.publish.host_port;
        match bind(publish, Ipv6Addr::UNSPECIFIED.into(), port) {
            Ok(second) => return Ok(vec![first, second]),
            // This host has no IPv6.
            Err(Errno::AFNOSUPPORT | Errno::ADDRNOTAVAIL) => return Ok(vec![first]),
            Err(Errno::ADDRINUSE) if publish.host_port == 0 && attempt < ATTEMPTS => {}
            Err(errno) => return Err(explain(publish, errno)),
        }
    }
    unreachable!("the attempts are counted")
}

fn bind(publish: Publish, ip: IpAddr, port: u16) -> Result<Listener, Errno> {
    let family = if ip.is_ipv4() {
        AddressFamily::INET
    } else {
        AddressFamily::INET6
    };
    let kind = match publish.protocol {
        Protocol::Tcp => SocketType::STREAM,
        Protocol::Udp => SocketType::DGRAM,
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(family, kind, flags, None)?;
    if ip.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, true)?;
    }
    if publish.protocol == Protocol::Tcp {
        // Connections of a former container that are still being closed are no hindrance.
        sockopt::set_socket_reuseaddr(&socket, true)?;
    } else {
        inet::want_local_address(socket.as_fd(), ip.is_ipv4()).map_err(|err| err.errno)?;
    }
    rustix::net::bind(&socket, &SocketAddr::new(ip, port))?;
    if publish.protocol == Protocol::Tcp {
        rustix::net::listen(&socket, BACKLOG)?;
    }
    let bound: SocketAddr = rustix::net::getsockname(&socket)?.try_into()?;
    Ok(Listener {
        socket: Rc::new(socket),
        publish: at(publish, bound),
    })
}

/// What works for a port that only root may use.
fn ways_below(first: u16, publish: Publish) -> String {
    let port = publish.host_port;
    let mut ways = format!(
        "use a port from {first} on; or let users have it: `sudo sysctl net.ipv4.ip_unprivileged_port_start={port}`"
    );
    if Path::new("/run/systemd/system").exists() {
        let listen = match publish.protocol {
            Protocol::Tcp => "ListenStream",
            Protocol::Udp => "ListenDatagram",
        };
        write!(ways,
            "; or let systemd listen: {listen}={port} in a system socket unit, whose service runs this command with User="
        )
        .ok();
    }
    let Publish { port, protocol, .. } = publish;
    ways + &format!("; or pass a socket that listens: `-p fd=3:{port}/{protocol}`")
}

fn explain(publish: Publish, errno: Errno) -> anyhow::Error {
    let port = publish.host_port;
    let text = |cause: &str| format!("cannot publish port \"{publish}\": {cause}");
    match errno {
        Errno::ADDRINUSE => {
            let show = match publish.protocol {
                Protocol::Tcp => "ss -ltnp",
                Protocol::Udp => "ss -lunp",
            };
            fail(
                Kind::Conflict,
                text(&format!("port {port} of the host is in use")),
            )
            .hint(format!(
                "`{show} sport = {port}` shows by whom; or choose another port"
            ))
        }
        Errno::ACCESS => {
            let first = std::fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start");
            let first: u16 = first
                .ok()
                .and_then(|text| text.trim().parse().ok())
                .unwrap_or(1024);
            fail(
                Kind::Unsupported,
                text(&format!(
                    "only root may use ports below {first} of this host"
                )),
            )
            .hint(ways_below(first, publish))
        }
        Errno::ADDRNOTAVAIL => {
            let ip = publish.host_ip.map(|ip| ip.to_string()).unwrap_or_default();
            fail(Kind::Usage, text(&format!("this host has no address {ip}")))
                .hint("`ip address` shows those it has")
        }
        errno => fail(
            Kind::Unsupported,
            text(&std::io::Error::from(errno).to_string()),
        ),
    }
}
