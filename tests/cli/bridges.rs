//! Containers on networks with names: neighbours reach each other and nobody else does, whoever is killed or lies.

use std::io::Read;
use std::io::Write;
use std::net::IpAddr;
use std::net::Ipv6Addr;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::thread;
use std::time::Duration;

use crate::support::Rbox;
use crate::support::net::host;
use crate::support::net::inside;
use crate::support::net::make_network;
use crate::support::net::published;
use crate::support::net::remove_network;
use crate::support::net::retry;
use crate::support::net::try_connect;
use crate::support::remote::Remote;

/// Networks, and containers that sleep on them: `(name, network)`.
fn with(rbox: &Rbox, networks: &[&[&str]], containers: &[(&str, &str)]) {
    for create in networks {
        let (name, options) = create.split_last().unwrap();
        make_network(rbox, name, options);
    }
    for (name, network) in containers {
        start(rbox, name, network, &[]);
    }
}

fn start(rbox: &Rbox, name: &str, network: &str, more: &[&str]) {
    rbox.args(["run", "-d", "--name", name, "--network", network])
        .args(more)
        .args(["busybox", "sleep", "1000"])
        .stdout("[ID]\n")
        .run();
}

/// Whether one container gets answers from a name or an address.
fn reaches(rbox: &Rbox, from: &str, to: &str) -> bool {
    let script = format!("ping -c 1 -W 1 {to} >/dev/null 2>&1 && echo yes || echo no");
    let said = inside(rbox, from, &script).stdout_any().run().stdout;
    said == "yes\n"
}

/// Which of them answer. They are asked at once: the silence of each takes a second.
fn reached(rbox: &Rbox, from: &str, all: &[&str]) -> Vec<bool> {
    thread::scope(|scope| {
        let ask = |to| scope.spawn(move || reaches(rbox, from, to));
        let asked: Vec<_> = all.iter().copied().map(ask).collect();
        asked.into_iter().map(|one| one.join().unwrap()).collect()
    })
}

fn end(rbox: &Rbox, containers: &[&str], networks: &[&str]) {
    rbox.remove(containers);
    for network in networks {
        remove_network(rbox, network);
    }
    let left = rbox.dir().join("run/rbox/networks");
    for dir in std::fs::read_dir(left).unwrap().flatten() {
        let entries = std::fs::read_dir(dir.path()).into_iter().flatten();
        assert_eq!(entries.count(), 0, "{}", dir.path().display());
    }
}

/// As every kind of user.
fn everybody() -> impl Iterator<Item = Rbox> {
    let all = [Some(Rbox::new()), Rbox::without_subids(), Rbox::as_root()];
    all.into_iter()
        .flatten()
        .inspect(|rbox| rbox.load("busybox"))
}

#[test]
fn neighbours_reach_each_other_by_name_and_nobody_else_does() {
    for rbox in everybody() {
        let networks: [&[&str]; 2] = [
            &[
                "--subnet",
                "10.123.1.0/24",
                "--subnet",
                "fd12:3::/64",
                "one",
            ],
            &[
                "--subnet",
                "10.123.2.0/24",
                "--subnet",
                "fd12:4::/64",
                "two",
            ],
        ];
        with(
            &rbox,
            &networks,
            &[("a", "one"), ("b", "one:alias=bee"), ("c", "two")],
        );
        let show = "ip -4 -o addr show eth0 | cut -d' ' -f7; ip -6 -o addr show eth0 scope global | cut -d' ' -f7; \
            ip route; grep -v localhost /etc/hosts; cat /etc/resolv.conf /sys/class/net/eth0/address";
        let id = rbox
            .args(["inspect", "--format", "{{.Id}}", "b"])
            .stdout_any()
            .run()
            .stdout;
        inside(&rbox, "b", show)
            .stdout(
                "10.123.1.3/24\nfd12:3::3/64\ndefault via 10.123.1.1 dev eth0 \n\
                 10.123.1.0/24 dev eth0 scope link  src 10.123.1.3 \n10.123.1.3\t[ID] b\nfd12:3::3\t[ID] b\n\
                 10.123.1.1\thost.containers.internal host.docker.internal\n\
                 search dns.podman\nnameserver 10.123.1.1\n02:42:0a:7b:01:03\n",
            )
            .run();
        for name in [
            "b",
            "bee",
            &id[..12],
            "b.dns.podman",
            "10.123.1.3",
            "fd12:3::3",
        ] {
            assert!(reaches(&rbox, "a", name), "{name}");
        }
        assert!(reaches(&rbox, "b", "a"));
        // By the same ways it reaches what is its own.
        let own = ["c", "10.123.2.1", "fd12:4::1"];
        assert_eq!(reached(&rbox, "c", &own), [true; 3]);
        let others = ["a", "10.123.1.2", "fd12:3::2", "10.123.1.1", "fd12:3::1"];
        assert_eq!(reached(&rbox, "c", &others), [false; 5]);
        let script = "nslookup 10.123.1.3 | grep name";
        inside(&rbox, "a", script)
            .stdout("3.1.123.10.in-addr.arpa\tname = b\n")
            .run();
        end(&rbox, &["a", "b", "c"], &["one", "two"]);
    }
}

#[test]
fn networks_are_joined_and_left_while_the_container_runs() {
    let rbox = Rbox::with_busybox();
    let networks: [&[&str]; 2] = [
        &["--subnet", "10.123.3.0/24", "one"],
        &["--subnet", "10.123.4.0/24", "two"],
    ];
    with(&rbox, &networks, &[("a", "one"), ("b", "two")]);
    assert!(!reaches(&rbox, "a", "b"));
    rbox.args(["network", "connect", "--alias", "ay", "two", "a"])
        .run();
    assert!(reaches(&rbox, "a", "b") && reaches(&rbox, "b", "ay"));
    let names =
        "{{range $name, $one := .NetworkSettings.Networks}}{{$name}} {{$one.IPAddress}} {{end}}";
    rbox.args(["inspect", "--format", names, "a"])
        .stdout("one 10.123.3.2 two 10.123.4.3 \n")
        .run();
    rbox.args(["network", "connect", "two", "a"])
        .stderr("Error: cannot connect container \"a\" to network \"two\": it is on it already\n")
        .status(125)
        .run();
    // The way to the world goes on by the other one.
    let route = "ip route | grep default";
    inside(&rbox, "a", route)
        .stdout("default via 10.123.3.1 dev eth0 \n")
        .run();
    rbox.args(["network", "disconnect", "one", "a"]).run();
    inside(&rbox, "a", route)
        .stdout("default via 10.123.4.1 dev eth1 \n")
        .run();
    assert!(reaches(&rbox, "a", "10.123.4.1") && reaches(&rbox, "a", "b"));
    rbox.args(["network", "connect", "one", "a"]).run();
    rbox.args(["network", "disconnect", "one", "a"]).run();
    // From none at all there is a way back.
    rbox.args(["network", "disconnect", "two", "a"]).run();
    inside(&rbox, "a", "ip -o link | cut -d: -f2")
        .stdout(" lo\n")
        .run();
    rbox.args(["network", "disconnect", "two", "a"])
        .stderr("Error: cannot disconnect container \"a\" from network \"two\": it is not on it\n")
        .status(125)
        .run();
    // Where it cannot be on one it is not, by its record either; and where that cannot be written, it is on none.
    rbox.args(["network", "connect", "--ip", "10.123.4.2", "two", "a"])
        .stderr(
            "Error: cannot connect container \"a\" to network \"two\": address 10.123.4.2 is that of container \"b\"\n\
             Hint: leave it out, and the network gives a free one\n",
        )
        .status(125)
        .run();
    let mut data = rbox.data().join("names");
    data.push(data.join("a").read_link().unwrap());
    let may_write = |mode| {
        std::fs::set_permissions(&data, PermissionsExt::from_mode(mode)).unwrap();
    };
    may_write(0o500);
    rbox.args(["network", "connect", "two", "a"])
        .stderr_has("Permission denied")
        .status(125)
        .run();
    may_write(0o700);
    inside(&rbox, "a", "ip -o link | cut -d: -f2")
        .stdout(" lo\n")
        .run();
    rbox.args(["network", "connect", "--ip", "10.123.4.9", "two", "a"])
        .run();
    assert!(reaches(&rbox, "a", "b") && reaches(&rbox, "b", "10.123.4.9"));
    assert!(reaches(&rbox, "a", "10.123.4.1"));
    rbox.args(["rename", "b", "bee"]).run();
    assert!(reaches(&rbox, "a", "bee") && !reaches(&rbox, "a", "b"));
    rbox.args(["rename", "bee", "b"]).run();
    // It is where it was when it starts again.
    rbox.args(["restart", "-t", "0", "a"]).stdout("a\n").run();
    rbox.args(["inspect", "--format", names, "a"])
        .stdout("two 10.123.4.9 \n")
        .run();
    end(&rbox, &["a", "b"], &["one", "two"]);
}

/// In the order in which they were asked for, whatever their interfaces are called.
#[test]
fn the_way_to_the_world_goes_on_by_the_next_network() {
    let rbox = Rbox::with_busybox();
    let networks: [&[&str]; 3] = [
        &["--subnet", "10.123.11.0/24", "one"],
        &["--subnet", "10.123.12.0/24", "two"],
        &["--subnet", "10.123.13.0/24", "three"],
    ];
    with(&rbox, &networks, &[]);
    let more = ["two:interface_name=net2", "three:interface_name=net10"];
    let more = more.map(|network| format!("--network={network}"));
    let more: Vec<&str> = more.iter().map(String::as_str).collect();
    start(&rbox, "a", "one:interface_name=net30", &more);
    rbox.args(["network", "disconnect", "one", "a"]).run();
    inside(&rbox, "a", "ip route | grep default")
        .stdout("default via 10.123.12.1 dev net2 \n")
        .run();
    inside(&rbox, "a", "hostname -i; grep -c 10.123.11 /etc/hosts")
        .stdout("10.123.12.2\n0\n")
        .status(1)
        .run();
    end(&rbox, &["a"], &["one", "two", "three"]);
}

#[test]
fn a_killed_supervisor_takes_its_own_container_only() {
    let rbox = Rbox::with_busybox();
    let networks: [&[&str]; 1] = [&["--subnet", "10.123.5.0/24", "one"]];
    with(
        &rbox,
        &networks,
        &[("a", "one"), ("b", "one"), ("c", "one")],
    );
    // The first one made the hub.
    let pid = rbox
        .args(["inspect", "--format", "{{.State.ConmonPid}}", "a"])
        .stdout_any()
        .run()
        .stdout;
    assert!(
        Command::new("kill")
            .args(["-9", pid.trim()])
            .status()
            .unwrap()
            .success()
    );
    rbox.args(["wait", "a"])
        .stdout_any()
        .stderr_any()
        .status_any()
        .run();
    assert!(reaches(&rbox, "b", "c") && reaches(&rbox, "b", "10.123.5.1"));
    assert!(!reaches(&rbox, "b", "a"));
    // Who comes later finds them, and gets the address that is free.
    start(&rbox, "d", "one", &[]);
    assert!(reaches(&rbox, "d", "b") && reaches(&rbox, "c", "d"));
    inside(&rbox, "d", "hostname -i")
        .stdout("10.123.5.2\n")
        .run();
    end(&rbox, &["a", "b", "c", "d"], &["one"]);
}

/// ARP and bridges believe what they hear; these do not.
#[test]
fn who_claims_to_be_another_hears_nothing_that_is_for_him() {
    let rbox = Rbox::with_busybox();
    let networks: [&[&str]; 1] = [&["--subnet", "10.123.6.0/24", "one"]];
    with(&rbox, &networks, &[("a", "one"), ("victim", "one")]);
    start(&rbox, "liar", "one", &["--cap-add", "NET_ADMIN"]);
    assert!(reaches(&rbox, "a", "victim") && reaches(&rbox, "victim", "liar"));
    // The victim's address: in its answers, and unasked.
    let claim = "ip addr add 10.123.6.3/32 dev eth0; arping -c 2 -w 2 -U -I eth0 10.123.6.3 >/dev/null; ip addr del 10.123.6.3/32 dev eth0";
    inside(&rbox, "liar", claim).run();
    let neighbour = "ip neigh show 10.123.6.3 | grep -o 02:42:0a:7b:06:..";
    assert!(reaches(&rbox, "a", "victim"));
    inside(&rbox, "a", neighbour)
        .stdout("02:42:0a:7b:06:03\n")
        .run();
    // Who has forgotten the gateway asks, and is answered by nobody else.
    let forget = "ip link set eth0 down; ip link set eth0 up; ip route add default via 10.123.6.1";
    inside(&rbox, "liar", forget).run();
    assert!(reaches(&rbox, "liar", "10.123.6.1"));
    // The victim's hardware address, and that of everybody's gateway.
    for mac in ["02:42:0a:7b:06:03", "52:62:6f:78:00:01"] {
        let claim = format!(
            "ip link set eth0 address {mac}; arping -c 3 -w 2 -U -I eth0 10.123.6.4 >/dev/null; true"
        );
        inside(&rbox, "liar", &claim).run();
        assert!(reaches(&rbox, "a", "victim"), "{mac}");
        assert!(reaches(&rbox, "victim", "10.123.6.1"), "{mac}");
        assert!(reaches(&rbox, "a", "10.123.6.1"), "{mac}");
    }
    // Nor is a neighbour heard that says it is a router (CVE-2020-13401), or names another one.
    let settings = "cd /proc/sys/net; cat ipv6/conf/eth0/accept_ra ipv6/conf/eth0/accept_redirects \
        ipv4/conf/eth0/accept_redirects ipv4/conf/all/accept_redirects";
    inside(&rbox, "a", settings).stdout("0\n0\n0\n0\n").run();
    // The gateway's address in the name of another: nobody asks for it.
    let claim = "ip addr add 10.123.6.1/32 dev eth0; arping -c 3 -w 2 -U -I eth0 10.123.6.1 >/dev/null; true";
    inside(&rbox, "liar", claim).run();
    let script = "nslookup victim 10.123.6.1 | grep Address:.10.123.6.3";
    inside(&rbox, "a", script)
        .stdout("Address: 10.123.6.3\n")
        .run();
    end(&rbox, &["a", "victim", "liar"], &["one"]);
}

/// The hardware address of the first container on 10.123.14.0/24.
const NEIGHBOUR: [u8; 6] = [2, 0x42, 10, 123, 14, 2];

/// A message of neighbour discovery, as a frame: somebody at `mac` says that he is `who`, in a question or in an answer.
fn claim(kind: u8, mac: [u8; 6], who: Ipv6Addr, to: Ipv6Addr, header: Option<u8>) -> Vec<u8> {
    let option = if kind == 135 { 1 } else { 2 };
    let subject = if kind == 135 { to } else { who };
    let mut message = vec![kind, 0, 0, 0, 0x20, 0, 0, 0];
    message.extend(subject.octets());
    message.extend([option, 1]);
    message.extend(mac);
    let mut summed = [who.octets(), to.octets()].concat();
    summed.extend([0, 0, 0, 32, 0, 0, 0, 58]);
    summed.extend(&message);
    let words = summed.chunks(2);
    let sum: u32 = words
        .map(|word| u32::from(word[0]) << 8 | u32::from(word[1]))
        .sum();
    // RFC 1071: what is carried is added, and so is what that carries.
    let folded = (sum & 0xffff) + (sum >> 16);
    let folded = (folded & 0xffff) + (folded >> 16);
    message[2..4].copy_from_slice(&(!folded).to_be_bytes()[2..]);
    // Options of another header: padding.
    let more: &[u8] = if header.is_some() {
        &[58, 0, 1, 4, 0, 0, 0, 0]
    } else {
        &[]
    };
    let length = u8::try_from(more.len() + message.len()).unwrap();
    let mut frame = [NEIGHBOUR, mac].concat();
    frame.extend([
        0x86,
        0xdd,
        0x60,
        0,
        0,
        0,
        0,
        length,
        header.unwrap_or(58),
        255,
    ]);
    frame.extend(who.octets());
    frame.extend(to.octets());
    frame.extend(more);
    frame.extend(message);
    frame
}

/// Whatever it sends, and behind whatever headers.
#[test]
fn who_claims_another_address_of_ipv6_is_not_believed() {
    let rbox = Rbox::with_busybox();
    let networks: [&[&str]; 1] = [&[
        "--subnet",
        "10.123.14.0/24",
        "--subnet",
        "fd12:14::/64",
        "one",
    ]];
    with(&rbox, &networks, &[("a", "one"), ("victim", "one")]);
    let [a, victim, own] = [2, 3, 4].map(|host| Ipv6Addr::new(0xfd12, 0x14, 0, 0, 0, 0, 0, host));
    // Of the visitor, who comes third.
    let mac = [2, 0x42, 10, 123, 14, 4];
    let known = |who: Ipv6Addr| {
        let script = format!("ip -6 neigh show {who} | grep -o '02:42:[0-9a-f:]*'");
        inside(&rbox, "a", &script)
            .stdout_any()
            .status_any()
            .run()
            .stdout
    };
    let send = |frame: &[u8]| {
        let bytes: Vec<String> = frame.iter().map(|byte| format!("\\{byte:03o}")).collect();
        let script = format!("printf '{}' | socat -u - INTERFACE:eth0", bytes.concat());
        rbox.args(["network", "shell", "one", "sh", "-c", &script])
            .run();
    };
    assert!(reaches(&rbox, "a", "victim") && reaches(&rbox, "a", &victim.to_string()));
    for kind in [135, 136] {
        for header in [None, Some(0), Some(60)] {
            send(&claim(kind, mac, victim, a, header));
            assert_eq!(known(victim), "02:42:0a:7b:0e:03\n", "{kind} {header:?}");
        }
    }
    // What is so is believed.
    send(&claim(135, mac, own, a, None));
    assert_eq!(known(own), "02:42:0a:7b:0e:04\n");
    // What visitors leave goes with the next start.
    start(&rbox, "b", "one", &[]);
    end(&rbox, &["a", "b", "victim"], &["one"]);
}

#[test]
fn an_internal_network_leads_nowhere_and_any_other_to_the_world() {
    let rbox = Rbox::with_busybox();
    let networks: [&[&str]; 2] = [
        &["--internal", "--subnet", "10.123.7.0/24", "inner"],
        &["--subnet", "10.123.8.0/24", "outer"],
    ];
    with(&rbox, &networks, &[("a", "inner"), ("b", "inner,outer")]);
    let listener = TcpListener::bind((host(), 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.write_all(b"world\n").unwrap();
    });
    let (ip, port) = (address.ip(), address.port());
    let ask =
        |gateway: &str| format!("nc -w 2 {gateway} {port} </dev/null 2>/dev/null || echo nobody");
    inside(&rbox, "a", &ask(&ip.to_string()))
        .stdout("nobody\n")
        .run();
    // Nor by a route of its own, nor by the gateway's name.
    inside(&rbox, "a", &ask("10.123.7.1"))
        .stdout("nobody\n")
        .run();
    inside(&rbox, "a", "ip route")
        .stdout("10.123.7.0/24 dev eth0 scope link  src 10.123.7.2 \n")
        .run();
    inside(
        &rbox,
        "a",
        "nslookup -type=a example.com | grep -c NXDOMAIN",
    )
    .stdout("1\n")
    .run();
    assert!(reaches(&rbox, "a", "b"));
    inside(&rbox, "b", &ask(&ip.to_string()))
        .stdout("world\n")
        .run();
    // The way out goes with the network that leads there, and comes again.
    rbox.args(["network", "disconnect", "outer", "b"]).run();
    inside(&rbox, "b", "ip route | grep -c default")
        .stdout("0\n")
        .status(1)
        .run();
    assert!(reaches(&rbox, "b", "a") && reaches(&rbox, "b", "10.123.7.1"));
    rbox.args(["network", "connect", "outer", "b"]).run();
    assert!(reaches(&rbox, "b", "10.123.8.1"));
    rbox.args(["network", "disconnect", "outer", "b"]).run();
    server.join().unwrap();
    end(&rbox, &["a", "b"], &["inner", "outer"]);
}

fn fetch(ip: IpAddr, port: u16) -> std::io::Result<String> {
    let mut stream = try_connect((ip, port))?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
    let mut page = String::new();
    stream.read_to_string(&mut page)?;
    Ok(page)
}

#[test]
fn published_ports_of_networks_keep_the_client() {
    let rbox = Rbox::with_busybox();
    let networks: [&[&str]; 1] = [&["--subnet", "10.123.9.0/24", "one"]];
    with(&rbox, &networks, &[]);
    rbox.args([
        "run",
        "-d",
        "--name",
        "a",
        "--network",
        "one",
        "-p",
        "80",
        "busybox",
    ])
    .args([
        "sh",
        "-c",
        "mkdir /w; echo hi >/w/index.html; exec httpd -f -vv -p 80 -h /w 2>&1",
    ])
    .stdout("[ID]\n")
    .run();
    let port = published(&rbox, "a", "80");
    for ip in [host(), "127.0.0.1".parse().unwrap(), "::1".parse().unwrap()] {
        // The server may need a moment to listen.
        let page = retry(|| fetch(ip, port).ok());
        assert!(page.ends_with("\r\n\r\nhi\n"), "{page}");
    }
    let log = rbox.args(["logs", "a"]).stdout_any().run().stdout;
    let asked = log.lines().filter(|line| line.ends_with("url:/"));
    let clients: Vec<&str> = asked.filter_map(|line| line.split(']').next()).collect();
    // Loopback would be the container's own.
    let own = format!("[::ffff:{}", host());
    assert_eq!(
        clients,
        [own.as_str(), "[::ffff:10.123.9.1", "[::ffff:10.123.9.1"]
    );
    end(&rbox, &["a"], &["one"]);
}

#[test]
fn what_cannot_be_had_of_a_network_is_said_and_leaves_nothing() {
    let rbox = Rbox::with_busybox();
    let networks: [&[&str]; 1] = [&["--subnet", "10.123.10.0/29", "one"]];
    with(
        &rbox,
        &networks,
        &[("a", "one:ip=10.123.10.2,mac=02:00:00:00:00:07")],
    );
    let create = ["create", "--network"];
    for (network, error) in [
        (
            "none2",
            "cannot create container: no network named \"none2\"\nHint: `rbox network ls` lists the networks there are",
        ),
        (
            "one,one",
            "cannot create container: --network=\"one\": it is given twice",
        ),
        (
            "one:ip=10.123.11.2",
            "cannot create container: address 10.123.11.2 is outside of network \"one\", whose subnets are 10.123.10.0/29",
        ),
        (
            "one:ip=10.123.10.1",
            "cannot create container: address 10.123.10.1 is the gateway of network \"one\"",
        ),
    ] {
        rbox.args(create)
            .args([network, "busybox"])
            .stderr(format!("Error: {error}\n"))
            .status(125)
            .run();
    }
    for (network, error) in [
        (
            "one:ip=10.123.10.2",
            "address 10.123.10.2 is that of container \"a\"\nHint: leave it out, and the network gives a free one",
        ),
        (
            "one:mac=02:00:00:00:00:07",
            "hardware address 02:00:00:00:00:07 is that of container \"a\"",
        ),
    ] {
        rbox.args([
            "run",
            "--rm",
            "--name",
            "b",
            "--network",
            network,
            "busybox",
            "true",
        ])
        .stderr(format!(
            "Error: cannot start container \"b\": cannot connect to network \"one\": {error}\n"
        ))
        .status(125)
        .run();
    }
    // All that there are: five for containers.
    for name in ["b", "c", "d", "e"] {
        start(&rbox, name, "one", &[]);
    }
    rbox.args(["run", "--rm", "--name", "f", "--network", "one", "busybox", "true"])
        .stderr("Error: cannot start container \"f\": cannot connect to network \"one\": all addresses of network \"one\" (10.123.10.0/29) are in use\n")
        .status(125)
        .run();
    rbox.args([
        "run",
        "--rm",
        "--network",
        "none",
        "--ip",
        "10.0.0.1",
        "busybox",
        "true",
    ])
    .stderr(
        "Error: flag --ip cannot be used with --network none: it is for a network with a name\n\
         Hint: `rbox network create NAME` makes one, and `--network bridge` is there already\n",
    )
    .status(125)
    .run();
    end(&rbox, &["a", "b", "c", "d", "e"], &["one"]);
}

#[test]
fn a_person_looks_at_a_network_from_the_host() {
    for rbox in everybody() {
        let networks: [&[&str]; 1] = [&["--subnet", "10.123.12.0/24", "one"]];
        with(&rbox, &networks, &[("a", "one")]);
        // The bridge, the visitor's own device, and the end of the container's cable.
        let list = "ip -br link | cut -d' ' -f1 | sed -E 's/^([tv])[0-9a-f]{12}(@if2)?$/\\1/' | sort; exit 7";
        rbox.args(["network", "shell", "--hub", "sh", "-c", list])
            .stdout("lo\nrbox1\nt\nv\n")
            .status(7)
            .run();
        rbox.args([
            "network",
            "shell",
            "one",
            "sh",
            "-c",
            "ip -br link show eth0 | awk '{print $3}'; ip -o -4 addr show eth0 | awk '{print $4}'",
        ])
        .stdout("02:42:0a:7b:0c:03\n10.123.12.3/24\n")
        .run();
        rbox.args(["network", "shell", "one", "/nowhere"])
            .stderr("Error: cannot execute \"/nowhere\": No such file or directory (os error 2)\n")
            .status(127)
            .run();
        // What a visitor leaves goes with the next start.
        start(&rbox, "b", "one", &[]);
        end(&rbox, &["a", "b"], &["one"]);
    }
}

#[test]
fn root_puts_containers_on_an_interface_of_the_host() {
    let Some(rbox) = Rbox::as_root() else {
        return;
    };
    rbox.load("busybox");
    // This host has no address in that network: it has the interface, and there is the machine that is behind it.
    let Some(remote) = Remote::new() else {
        return;
    };
    remote.run(&format!("ip addr add 10.123.99.1/24 dev {}p", remote.name));
    let parent = format!("parent={}", remote.name);
    let one = [
        "--driver",
        "macvlan",
        "--opt",
        &parent,
        "--subnet",
        "10.123.99.0/24",
        "lan",
    ];
    with(
        &rbox,
        &[&one],
        &[("a", "lan"), ("b", "lan"), ("c", "bridge")],
    );
    inside(&rbox, "a", "hostname -i; ip route | cut -d' ' -f1-5; cat /sys/class/net/eth0/address")
        .stdout("10.123.99.2\ndefault via 10.123.99.1 dev eth0\n10.123.99.0/24 dev eth0 scope link\n02:42:0a:7b:63:02\n")
        .run();
    assert!(reaches(&rbox, "a", "10.123.99.1") && reaches(&rbox, "a", "10.123.99.3"));
    // The way to the world stays that of the other network.
    rbox.args(["network", "connect", "lan", "c"]).run();
    assert!(reaches(&rbox, "c", "10.123.99.2"));
    inside(&rbox, "c", "ip route | head -1 | cut -d' ' -f1-5")
        .stdout("default via 10.88.0.1 dev eth0\n")
        .run();
    rbox.args(["network", "disconnect", "lan", "c"]).run();
    inside(&rbox, "c", "ls /sys/class/net")
        .stdout("eth0\nlo\n")
        .run();
    for (flag, error) in [
        (
            "-p=80",
            "no port can be published on network \"lan\" (--driver macvlan): its containers have addresses that others reach\nHint: leave out `-p`; or give it another network too: `--network bridge`",
        ),
        (
            "--net-rate=1m",
            "--network-policy and --net-rate cannot be used on network \"lan\": what its containers send does not pass rbox (--driver macvlan)\nHint: use a network of `--driver bridge`",
        ),
    ] {
        rbox.args(["create", "--network", "lan", flag, "busybox"])
            .stderr(format!("Error: cannot create container: {error}\n"))
            .status(125)
            .run();
    }
    rbox.args(["network", "shell", "lan", "true"])
        .stderr("Error: cannot visit network \"lan\": the driver macvlan has no bridge\nHint: `ip link` shows its interface here, and `rbox exec CONTAINER COMMAND` what a container has there\n")
        .status(125)
        .run();
    let name = remote.name.clone();
    drop(remote);
    rbox.args(["restart", "-t", "0", "a"])
        .stderr(format!("Error: cannot start container \"a\": cannot make interface eth0 on interface {name} of the host: this host has no such interface\nHint: `ip link` shows those it has; the network is made anew with another: `--opt parent=NAME`\n"))
        .status(125)
        .run();
    end(&rbox, &["a", "b", "c"], &["lan"]);
}
