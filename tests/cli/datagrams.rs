//! Datagrams that come faster than the network process is given a processor go on together, and arrive one by one.
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;
use std::net::UdpSocket;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::Pid;
use rustix::process::Signal;

use crate::network::worker;
use crate::programs::start;
use crate::programs::with_programs;
use crate::support::Rbox;
use crate::support::hostile::hex;
use crate::support::net::host;
use crate::support::net::inside;
use crate::support::net::make_network;
use crate::support::net::noise;
use crate::support::net::published;
use crate::support::net::remove_network;
use crate::support::net::retry;
use crate::support::remote::Remote;
use crate::support::skip::skip;

const SIZES: [usize; 33] = {
    let mut sizes = [100; 33];
    sizes[20] = 40;
    let (_, rest) = sizes.split_at_mut(21);
    rest.copy_from_slice(&[300, 300, 300, 300, 1, 8000, 8000, 8000, 7, 9, 11, 11]);
    sizes
};

/// Cut into datagrams.
fn cut(bytes: &[u8]) -> Vec<&[u8]> {
    let mut rest = bytes;
    let one = |size: &usize| rest.split_off(..*size).unwrap();
    SIZES.iter().map(one).collect()
}

/// While the network process of the container stands still.
fn meanwhile(rbox: &Rbox, act: impl FnOnce()) {
    let worker = Pid::from_raw(worker(rbox)).unwrap();
    rustix::process::kill_process(worker, Signal::STOP).unwrap();
    act();
    rustix::process::kill_process(worker, Signal::CONT).unwrap();
}

/// What its interface has got.
fn frames(rbox: &Rbox) -> u32 {
    let told = inside(rbox, "c", "cat /sys/class/net/eth0/statistics/rx_packets");
    told.stdout_any().run().stdout.trim().parse().unwrap()
}

/// Linux: a frame carries many since 6.2.
fn takes_many() -> bool {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release.split('.').map(|text| text.parse().unwrap_or(0));
    let version = (numbers.next(), numbers.next());
    version >= (Some(6), Some(2))
}

fn goes_in(rbox: &Rbox, ip: IpAddr, port: u16) {
    let sent = noise(1, SIZES.iter().sum());
    let any: IpAddr = match ip {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let client = UdpSocket::bind((any, 0)).unwrap();
    let before = frames(rbox);
    meanwhile(rbox, || {
        for one in cut(&sent) {
            client.send_to(one, (ip, port)).unwrap();
        }
    });
    retry(|| {
        let size = inside(rbox, "c", "wc -c </tmp/got").stdout_any().run();
        (size.stdout == format!("{}\n", sent.len())).then_some(())
    });
    let few = frames(rbox) - before;
    assert!(!takes_many() || few < 16, "{few}");
    let sum = inside(rbox, "c", "sha256sum </tmp/got; : >/tmp/got")
        .stdout_any()
        .run();
    assert_eq!(sum.stdout, format!("{}  -\n", hex(&sent)));
}

fn goes_out(rbox: &Rbox, ip: IpAddr) {
    let server = UdpSocket::bind((ip, 0)).unwrap();
    let patience = Some(Duration::from_secs(10));
    server.set_read_timeout(patience).unwrap();
    let target = server.local_addr().unwrap();
    let script = "head -c 3240 /dev/urandom >/tmp/sent; sha256sum </tmp/sent; wc -c </tmp/sent";
    let told = inside(rbox, "c", script).stdout_any().run().stdout;
    let send = format!("socat -u -b 100 OPEN:/tmp/sent UDP:{target}");
    // The first one tells the ends of each other.
    inside(rbox, "c", &format!("echo | socat -u - UDP:{target}")).run();
    let mut buffer = vec![0; 65536];
    assert_eq!(server.recv(&mut buffer).unwrap(), 1);
    meanwhile(rbox, || {
        inside(rbox, "c", &send).run();
    });
    let mut got = vec![];
    while got.len() < 3240 {
        let size = server.recv(&mut buffer).unwrap();
        assert_eq!(size, if got.len() < 3200 { 100 } else { 40 });
        got.extend_from_slice(&buffer[..size]);
    }
    let sum = hex(&got);
    assert_eq!(told, format!("{sum}  -\n3240\n"));
}

#[test]
fn datagrams_that_wait_go_together_and_arrive_one_by_one() {
    if !takes_many() {
        skip("frames of many datagrams need Linux 6.2");
    }
    let rbox = with_programs();
    make_network(&rbox, "lan", &[]);
    let serve = "exec socat -u -b 65536 UDP6-RECV:81 OPEN:/tmp/got,creat,append";
    for network in ["private", "lan"] {
        start(&rbox, "c", network, &["-p", "81/udp"], serve);
        retry(|| {
            let listens = inside(&rbox, "c", "ss -Hlun 'sport = 81'");
            (!listens.stdout_any().run().stdout.is_empty()).then_some(())
        });
        let port = published(&rbox, "c", "81/udp");
        for ip in [
            host(),
            Ipv4Addr::LOCALHOST.into(),
            Ipv6Addr::LOCALHOST.into(),
        ] {
            goes_in(&rbox, ip, port);
        }
        goes_out(&rbox, host());
        rbox.remove(&["c"]);
    }
    remove_network(&rbox, "lan");
}

/// The kernel sends none at once that do not fit the way.
#[test]
fn datagrams_that_are_too_large_for_the_way_go_one_by_one() {
    let Some(remote) = Remote::new() else {
        return;
    };
    let rbox = with_programs();
    start(&rbox, "c", "private", &[], "sleep 1000");
    let hears = "timeout 20 perl -e 'use Socket; socket my $socket, PF_INET, SOCK_DGRAM, 0;
        bind $socket, sockaddr_in(9999, INADDR_ANY); for (1..10) { recv $socket, my $one, 65536, 0; print $one }' | sha256sum";
    let hearing = remote
        .command(hears)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    retry(|| (!remote.run("ss -Hlun 'sport = 9999'").is_empty()).then_some(()));
    let script = "head -c 30000 /dev/urandom >/tmp/sent; sha256sum </tmp/sent";
    let told = inside(&rbox, "c", script).stdout_any().run().stdout;
    let send = format!("socat -u -b 3000 OPEN:/tmp/sent UDP:{}:9999", remote.theirs);
    meanwhile(&rbox, || {
        inside(&rbox, "c", &send).run();
    });
    let heard = hearing.wait_with_output().unwrap();
    assert_eq!(String::from_utf8_lossy(&heard.stdout), told);
    rbox.remove(&["c"]);
}
