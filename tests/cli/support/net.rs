//! What tests of networks share: the addresses and ports of this host, published ports, networks with names, and
//! bytes to send.
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;
use std::net::SocketAddr;
use std::net::TcpListener;
use std::net::TcpStream;
use std::net::UdpSocket;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use super::call::Call;
use super::rbox::Rbox;

/// The address with which this machine is reached by others; a network in user mode reaches it too.
pub fn host() -> IpAddr {
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    // Nothing is sent.
    let routed = socket
        .connect("198.51.100.1:9")
        .and_then(|()| socket.local_addr());
    routed.expect("a route to test with").ip()
}

/// An address of a container's own Ethernet: they are in the first of 10.0.2.0/24, 10.0.3.0/24 and so on that
/// overlaps none of this host's routes.
pub fn private(last: u8) -> String {
    let text = std::fs::read_to_string("/proc/net/route").unwrap();
    let route = |line: &str| {
        // proc(5): hexadecimal, in the order of the network.
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [to, mask] = [1, 7].map(|at| u32::from_str_radix(fields[at], 16).unwrap().swap_bytes());
        (to, mask)
    };
    let routes: Vec<_> = text.lines().skip(1).map(route).collect();
    let is_free = |number: &u8| {
        let subnet = Ipv4Addr::new(10, 0, *number, 0).to_bits();
        let mut others = routes.iter().filter(|(_, mask)| *mask != 0);
        others.all(|(to, mask)| (to ^ subnet) & mask & 0xffff_ff00 != 0)
    };
    let number = (2..=250).find(is_free).unwrap_or(2);
    Ipv4Addr::new(10, 0, number, last).to_string()
}

/// The host, as a container sees it on its own Ethernet.
pub fn gateway() -> String {
    private(2)
}

/// A port that is free for TCP and UDP, and stays so until its test takes it: it is none of those that Linux gives to
/// whoever asks for any (ip-sysctl, `ip_local_port_range`: from 32768 on), and no other test gets it.
pub fn free_port() -> u16 {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    loop {
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        // Other test runs begin elsewhere.
        let at = (std::process::id().wrapping_mul(64) + number) % 12_000;
        let address =
            SocketAddr::from((Ipv6Addr::UNSPECIFIED, 20_000 + u16::try_from(at).unwrap()));
        if TcpListener::bind(address).is_ok() && UdpSocket::bind(address).is_ok() {
            return address.port();
        }
    }
}

/// The port of the host for a port of the container.
pub fn published(rbox: &Rbox, name: &str, port: &str) -> u16 {
    let out = rbox.args(["port", name, port]).stdout_any().run().stdout;
    let first = out.lines().next().unwrap();
    first.rsplit(':').next().unwrap().parse().unwrap()
}

pub fn try_connect(address: (IpAddr, u16)) -> std::io::Result<TcpStream> {
    TcpStream::connect_timeout(&address.into(), Duration::from_secs(20))
}

pub fn retry<T>(mut attempt: impl FnMut() -> Option<T>) -> T {
    for _ in 0..500 {
        if let Some(value) = attempt() {
            return value;
        }
        thread::sleep(Duration::from_millis(20));
    }
    panic!("waited ten seconds");
}

pub fn inside<'a>(rbox: &'a Rbox, name: &str, script: &str) -> Call<'a> {
    rbox.args(["exec", name, "sh", "-c", script])
}

pub fn make_network(rbox: &Rbox, name: &str, options: &[&str]) {
    rbox.args(["network", "create"])
        .args(options)
        .arg(name)
        .stdout(format!("{name}\n"))
        .run();
}

pub fn remove_network(rbox: &Rbox, name: &str) {
    rbox.args(["network", "rm", name])
        .stdout(format!("{name}\n"))
        .run();
}

/// Bytes of which no two parts are alike, others with each seed.
pub fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(seed);
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    std::iter::repeat_with(next).take(length).collect()
}
