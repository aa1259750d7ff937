//! What containers may reach, how fast, and by which sockets of others they are reached.
use std::io::Write;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::TcpListener;
use std::net::UdpSocket;
use std::thread;
use std::time::Duration;
use std::time::Instant;

use crate::network::sh;
use crate::network::told;
use crate::support::Rbox;
use crate::support::net::free_port;
use crate::support::net::gateway;
use crate::support::net::host;
use crate::support::net::private;
use crate::support::net::published;
use crate::support::net::retry;

/// Connections to the host, by its own address and by the gateway's.
fn try_both(rbox: &Rbox, rules: &str, port: u16, expected: &str) {
    let script = format!(
        "for ip in {} {}; do nc -w 2 $ip {port} </dev/null 2>&1 | sed 's/.*: //'; done",
        host(),
        gateway()
    );
    rbox.args(["run", "--rm", "--network-policy", rules])
        .args(["busybox", "sh", "-c", &script])
        .stdout(expected)
        .run();
}

#[test]
fn rules_say_what_is_reached() {
    let rbox = Rbox::with_busybox();
    let server = TcpListener::bind((host(), 0)).unwrap();
    let port = server.local_addr().unwrap().port();
    thread::spawn(move || {
        while let Ok((mut stream, _)) = server.accept() {
            stream.write_all(b"hello\n").ok();
        }
    });
    let (yes, no) = ("hello\n", "No route to host\n");
    let host = host();
    for (rules, direct, gateway) in [
        ("deny".to_owned(), no, no),
        (format!("deny:{host}"), no, no),
        (format!("deny:any:{port}/tcp"), no, no),
        (format!("deny:any:{port}/udp"), yes, yes),
        ("deny:host".into(), no, no),
        (format!("allow:{}/24,deny", private(0)), no, no),
        (format!("allow:{host}:{port}/tcp,deny"), yes, yes),
        (format!("deny:{host}:{},deny/icmp", port - 1), yes, yes),
    ] {
        try_both(&rbox, &rules, port, &format!("{direct}{gateway}"));
    }
    // They change while it runs.
    let script = format!(
        "until nc -w 1 {host} {port} </dev/null 2>/dev/null; do sleep 0.1; done; sleep 1000"
    );
    rbox.args(["run", "-d", "--name", "c", "--network-policy", "deny"])
        .args(["busybox", "sh", "-c", &script])
        .stdout("[ID]\n")
        .run();
    rbox.args([
        "exec",
        "c",
        "nc",
        "-w",
        "1",
        &host.to_string(),
        &port.to_string(),
    ])
    .stderr(format!(
        "nc: can't connect to remote host ({host}): No route to host\n"
    ))
    .status(1)
    .run();
    rbox.args([
        "inspect",
        "--format",
        "{{json .HostConfig.NetworkPolicy}}",
        "c",
    ])
    .stdout("[\"deny\"]\n")
    .run();
    rbox.args(["update", "--network-policy", "", "c"])
        .stdout("c\n")
        .run();
    retry(|| (rbox.args(["logs", "c"]).stdout_any().run().stdout == yes).then_some(()));
    rbox.remove(&["c"]);
    for (flags, why) in [
        (
            &["--network-policy", "allow:dns"][..],
            "cannot create container: --network-policy: what no rule matches is allowed: expected a rule that denies, as deny at the end",
        ),
        (
            &["--network-policy", "deny:example.com"],
            "--network-policy=\"deny:example.com\": rule \"deny:example.com\": \"example.com\": expected an address as 10.0.0.0/8 or [2001:db8::]/32, any, internet, private, host or dns\nHint: `rbox run --help` tells what there is",
        ),
        (
            &["--network-policy", "deny", "--network", "host"],
            "cannot create container: flag --network-policy cannot be used with --network host: the container's packets are the host's own",
        ),
        (
            &["--net-rate", "1m", "--network", "none"],
            "cannot create container: flag --net-rate cannot be used with --network none: there is nothing to limit",
        ),
        (
            &["--net-rate", "fast"],
            "--net-rate=\"fast\": rate \"fast\": expected bytes per second as 500k or 10m, or bits as 10mbit, from 8k on\nHint: `rbox run --help` tells what there is",
        ),
    ] {
        rbox.args(["run", "--rm"])
            .args(flags)
            .args(["busybox", "true"])
            .stderr(format!("Error: {why}\n"))
            .status(125)
            .run();
    }
}

/// The first time below a limit, of some: a busy machine may hold up any of them.
fn below(limit: Duration, mut measure: impl FnMut() -> Duration) -> Duration {
    let mut times = (0..10).map(|_| measure());
    let found = times.find(|time| *time < limit);
    found.unwrap_or_else(|| panic!("never below {limit:?}"))
}

#[test]
fn a_rate_is_kept_and_can_be_lifted() {
    const SIZE: usize = 600 << 10;
    let rbox = Rbox::with_busybox();
    let server = TcpListener::bind((host(), 0)).unwrap();
    let port = server.local_addr().unwrap().port();
    thread::spawn(move || {
        while let Ok((mut stream, _)) = server.accept() {
            stream.write_all(&vec![b'x'; SIZE]).ok();
        }
    });
    let script = format!("nc {} {port} </dev/null | wc -c", host());
    rbox.args([
        "run",
        "-d",
        "--name",
        "c",
        "--net-rate",
        "in=400k,64k",
        "busybox",
        "sleep",
        "1000",
    ])
    .stdout("[ID]\n")
    .run();
    let fetch = || {
        let began = Instant::now();
        rbox.args(["exec", "c", "sh", "-c", &script])
            .stdout(format!("{SIZE}\n"))
            .run();
        began.elapsed()
    };
    let limited = below(Duration::from_secs(4), || {
        let time = fetch();
        assert!(time >= Duration::from_millis(1200), "{time:?}");
        time
    });
    rbox.args(["update", "--net-rate", "unlimited", "c"])
        .stdout("c\n")
        .run();
    below(limited / 2, fetch);
    rbox.remove(&["c"]);
}

/// What systemd does: a TCP socket of both families, one of UDP, and a file; and then the command.
const MANAGER: &str = "use Socket qw(:DEFAULT inet_pton); $^F = 20; my ($tcp, $udp) = splice @ARGV, 0, 2; \
    socket my $a, PF_INET6, SOCK_STREAM, 0 or die; setsockopt $a, SOL_SOCKET, SO_REUSEADDR, 1; \
    bind $a, pack_sockaddr_in6($tcp, inet_pton(AF_INET6, '::')) or die; listen $a, 10 or die; \
    socket my $b, PF_INET, SOCK_DGRAM, 0 or die; bind $b, pack_sockaddr_in($udp, inet_aton('127.0.0.1')) or die; \
    open my $c, '<', '/etc/passwd' or die; \
    @ENV{'LISTEN_FDS', 'LISTEN_PID', 'LISTEN_FDNAMES'} = (3, $$, 'web:dns:file'); exec @ARGV or die";

#[test]
fn sockets_of_a_service_manager_are_those_of_published_ports() {
    let rbox = Rbox::with_testinit();
    rbox.load("busybox");
    let (tcp, udp) = (free_port(), free_port());
    let managed = || {
        let call = rbox
            .program("perl")
            .args(["-e", MANAGER, &tcp.to_string(), &udp.to_string()]);
        call.arg(rbox.program_path()).arg("run")
    };
    let web = format!("{tcp}:80");
    let dns = format!("127.0.0.1:{udp}:9/udp");
    // What is none of theirs comes to the container, numbered anew.
    managed()
        .args(["--rm", "-p", &web, "-p", &dns, "busybox", "sh", "-c"])
        .arg("echo $LISTEN_FDS $LISTEN_FDNAMES; head -c 4 <&3; ls /proc/self/fd | wc -l")
        .stdout("1 file\nroot5\n")
        .run();
    managed()
        .args([
            "-d",
            "--name",
            "c",
            "-p",
            &web,
            "-p",
            "fd=4:9/udp",
            "testinit",
            "tell-peers",
            "80",
            "9",
        ])
        .stdout("[ID]\n")
        .run();
    retry(|| (rbox.args(["logs", "c"]).stdout_any().run().stdout == "ready\n").then_some(()));
    rbox.args(["port", "c"])
        .stdout(format!("9/udp -> 127.0.0.1:{udp}\n80/tcp -> [::]:{tcp}\n"))
        .run();
    // A client of IPv4 is one for the container too.
    for (ip, expected) in [
        (IpAddr::from(Ipv4Addr::LOCALHOST), gateway()),
        (host(), host().to_string()),
    ] {
        let (heard, own) = told((ip, tcp));
        assert_eq!(heard, format!("{expected}:{}", own.port()));
    }
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client
        .set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    client.send_to(b"?", ("127.0.0.1", udp)).unwrap();
    let mut buffer = [0; 64];
    let (length, _) = client.recv_from(&mut buffer).unwrap();
    assert!(buffer[..length].starts_with(format!("{}:", gateway()).as_bytes()));
    rbox.remove(&["c"]);
    for (number, why) in [
        ("19", "is not open"),
        ("5", "is no socket that listens on an address"),
    ] {
        managed()
            .args(["--rm", "--name", "d", "-p", &format!("fd={number}:80"), "busybox", "true"])
            .stderr(format!(
                "Error: cannot start container \"d\": cannot publish port \"fd={number}:80/tcp\": descriptor {number} {why}\n"
            ))
            .status(125)
            .run();
    }
    rbox.args(["ps", "-aq"]).run();
}

#[test]
fn ports_that_clash_are_told_and_one_of_a_range_is_found() {
    let rbox = Rbox::with_busybox();
    rbox.args(["create", "-p", "8080:80", "-p", "127.0.0.1:8080:81", "busybox"])
        .stderr("Error: cannot create container: cannot publish port \"127.0.0.1:8080:81/tcp\": \"8080:80/tcp\" has that port of the host\n")
        .status(125)
        .run();
    let first = rbox.args([
        "run",
        "-d",
        "--name",
        "a",
        "-p",
        "127.0.0.1::80",
        "busybox",
        "sleep",
        "1000",
    ]);
    first.stdout("[ID]\n").run();
    let port = published(&rbox, "a", "80");
    rbox.args(["run", "--rm", "--name", "b", "-p", &format!("127.0.0.1:{port}:80"), "busybox", "true"])
        .stderr(format!(
            "Error: cannot start container \"b\": cannot publish port \"127.0.0.1:{port}:80/tcp\": port {port} of the host is in use\n\
             Hint: container \"a\" publishes it; or choose another port\n"
        ))
        .status(125)
        .run();
    let range = format!("127.0.0.1:{port}-{}:80", port.saturating_add(50));
    rbox.args([
        "run", "-d", "--name", "b", "-p", &range, "busybox", "sleep", "1000",
    ])
    .stdout("[ID]\n")
    .run();
    let found = published(&rbox, "b", "80");
    assert!(found > port && found <= port.saturating_add(50), "{found}");
    // What is exposed, by options or by the image, is published by -P alone.
    rbox.args([
        "run",
        "-d",
        "--name",
        "c",
        "--expose",
        "80/tcp,udp",
        "-P",
        "busybox",
        "sleep",
        "1000",
    ])
    .stdout("[ID]\n")
    .run();
    let (tcp, udp) = (published(&rbox, "c", "80"), published(&rbox, "c", "80/udp"));
    rbox.args(["port", "c"])
        .stdout(format!(
            "80/tcp -> 0.0.0.0:{tcp}\n80/tcp -> [::]:{tcp}\n80/udp -> 0.0.0.0:{udp}\n80/udp -> [::]:{udp}\n"
        ))
        .run();
    rbox.remove(&["a", "b", "c"]);
}

#[test]
fn options_of_podmans_networks_mean_the_same() {
    let rbox = Rbox::with_busybox();
    let script = "cat /sys/class/net/eth0/mtu; ip -o addr show eth0 scope global | cut -d' ' -f6; grep -c ^10.0 /etc/hosts";
    for (network, expected) in [
        ("pasta:--ipv4-only,--mtu,1500", "1500\ninet\n2\n"),
        (
            "slirp4netns:mtu=9000,enable_ipv6=true",
            "9000\ninet\ninet6\n2\n",
        ),
        ("private:ipv4-only", "65520\ninet\n2\n"),
    ] {
        sh(&rbox, network, script).stdout(expected).run();
    }
    sh(&rbox, "pasta:-6", "ip -o addr show eth0 scope global | cut -d' ' -f6; ip -4 route; tail -n +3 /etc/hosts | cut -f1")
        .stdout("inet6\nfd72:626f:7800::100\nfd72:626f:7800::2\n")
        .run();
    rbox.args(["run", "--rm", "--network", "pasta:-a,10.9.0.2", "busybox"])
        .stderr("Error: --network=\"pasta:-a,10.9.0.2\": option \"-a\": each container has an Ethernet of its own, whose addresses rbox chooses; `rbox network create --subnet` makes one with yours\nHint: `rbox run --help` tells what there is\n")
        .status(125)
        .run();
}
