//! Containers with a network in user mode: what they reach, who reaches them, and that nothing is lost on the way.
use std::io::Read;
use std::io::Write;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;
use std::net::Shutdown;
use std::net::SocketAddr;
use std::net::TcpListener;
use std::net::TcpStream;
use std::net::UdpSocket;
use std::thread;
use std::thread::JoinHandle;
use std::time::Duration;
use std::time::Instant;

use serde_json::json;

use crate::support::Rbox;
use crate::support::call::Call;
use crate::support::hostile;
use crate::support::net::free_port;
use crate::support::net::gateway;
use crate::support::net::host;
use crate::support::net::noise;
use crate::support::net::private;
use crate::support::net::published;
use crate::support::net::retry;
use crate::support::net::try_connect;
use crate::support::processes;
use crate::support::random;
use crate::support::remote::Remote;

/// Serves connections on the host until `count` have come.
fn serve(
    ip: IpAddr,
    count: usize,
    each: impl Fn(TcpStream) + Send + 'static,
) -> (u16, JoinHandle<()>) {
    let listener = TcpListener::bind((ip, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let thread = thread::spawn(move || {
        for _ in 0..count {
            each(listener.accept().unwrap().0);
        }
    });
    (port, thread)
}

pub fn sh<'a>(rbox: &'a Rbox, network: &str, script: &str) -> Call<'a> {
    rbox.args([
        "run",
        "--rm",
        "--network",
        network,
        "busybox",
        "sh",
        "-c",
        script,
    ])
}

/// The process that has the network of the only container.
pub fn worker(rbox: &Rbox) -> i32 {
    retry(|| {
        let found = processes::called(rbox.dir(), "rbox-net: ");
        assert!(found.len() < 2, "{}", processes::describe(&found));
        found.first().map(|process| process.pid)
    })
}

fn connect(address: (IpAddr, u16)) -> TcpStream {
    let stream = try_connect(address).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    stream
        .set_write_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    stream
}

#[test]
fn the_container_has_addresses_routes_and_names() {
    let rbox = Rbox::with_busybox();
    let [subnet, gateway, resolver, own] = [0, 2, 3, 100].map(private);
    let script = format!(
        "ip -4 -o addr show eth0 | cut -d' ' -f7; ip -6 -o addr show eth0 scope global | cut -d' ' -f7; \
        ip route; grep -v localhost /etc/hosts; grep nameserver /etc/resolv.conf; cat /sys/class/net/eth0/mtu; \
        ping -c 1 -W 2 {gateway} | grep received; ping -c 1 -W 2 fd72:626f:7800::2 | grep received"
    );
    rbox.args([
        "run",
        "--rm",
        "--network",
        "private",
        "--name",
        "c",
        "--hostname",
        "h",
        "busybox",
        "sh",
        "-c",
        &script,
    ])
    .stdout(format!(
        "{own}/24\nfd72:626f:7800::100/64\n\
             default via {gateway} dev eth0 \n{subnet}/24 dev eth0 scope link  src {own} \n\
             {own}\th c\n{gateway}\thost.containers.internal host.docker.internal\n\
             nameserver {resolver}\n65520\n\
             1 packets transmitted, 1 packets received, 0% packet loss\n\
             1 packets transmitted, 1 packets received, 0% packet loss\n",
    ))
    .run();
}

#[test]
fn a_container_that_asks_by_dhcp_is_told_its_address() {
    let rbox = Rbox::with_busybox();
    let script = "udhcpc -i eth0 -n -q -f -s /bin/true 2>&1 | grep lease";
    sh(&rbox, "private", script)
        .stdout(format!(
            "udhcpc: lease of {} obtained from {}, lease time 86400\n",
            private(100),
            gateway()
        ))
        .run();
}

#[test]
fn what_the_image_exposes_is_published_on_free_ports() {
    let rbox = Rbox::new();
    hostile::Image::busybox()
        .with(json!({ "ExposedPorts": { "80/tcp": {}, "53/udp": {}, "junk": {}, "1-9/tcp": {} } }))
        .load(&rbox);
    let run = ["run", "-d", "--name", "c", "--network", "private", "-P"];
    rbox.args(run)
        .args(["-p", "127.0.0.1::80", "odd", "sleep", "1000"])
        .stdout("[ID]\n")
        .run();
    let ports = rbox.args(["port", "c"]).stdout_any().run().stdout;
    let (udp, tcp) = (published(&rbox, "c", "53/udp"), published(&rbox, "c", "80"));
    assert_eq!(
        ports,
        format!("53/udp -> 0.0.0.0:{udp}\n53/udp -> [::]:{udp}\n80/tcp -> 127.0.0.1:{tcp}\n")
    );
    rbox.remove(&["c"]);
}

#[test]
fn inspect_and_port_and_ps_show_the_network() {
    let rbox = Rbox::with_busybox();
    rbox.args([
        "run",
        "-d",
        "--name",
        "c",
        "--network",
        "pasta",
        "-p",
        "127.0.0.1::80",
        "-p",
        "127.0.0.1::53/udp",
    ])
    .args(["busybox", "sleep", "1000"])
    .stdout("[ID]\n")
    .run();
    let (tcp, udp) = (published(&rbox, "c", "80"), published(&rbox, "c", "53/udp"));
    rbox.args(["port", "c"])
        .stdout(format!(
            "53/udp -> 127.0.0.1:{udp}\n80/tcp -> 127.0.0.1:{tcp}\n"
        ))
        .run();
    rbox.args(["ps", "--format", "{{.Ports}}"])
        .stdout(format!(
            "127.0.0.1:{udp}->53/udp, 127.0.0.1:{tcp}->80/tcp\n"
        ))
        .run();
    let settings = "{{.HostConfig.NetworkMode}} {{.NetworkSettings.IPAddress}} {{.NetworkSettings.Gateway}} \
        {{json .NetworkSettings.Ports}} {{json .HostConfig.PortBindings}}";
    rbox.args(["inspect", "--format", settings, "c"])
        .stdout(format!(
            "private {} {} \
             {{\"53/udp\":[{{\"HostIp\":\"127.0.0.1\",\"HostPort\":\"{udp}\"}}],\"80/tcp\":[{{\"HostIp\":\"127.0.0.1\",\"HostPort\":\"{tcp}\"}}]}} \
             {{\"53/udp\":[{{\"HostIp\":\"127.0.0.1\",\"HostPort\":\"\"}}],\"80/tcp\":[{{\"HostIp\":\"127.0.0.1\",\"HostPort\":\"\"}}]}}\n",
            private(100),
            gateway()
        ))
        .run();
    rbox.args(["port", "c", "81"])
        .stderr("Error: container \"c\" does not publish port 81/tcp\n")
        .status(125)
        .run();
    rbox.remove(&["c"]);
}

#[test]
fn connections_go_out_and_keep_what_is_sent_after_the_other_end_has_closed() {
    let rbox = Rbox::with_busybox();
    // It answers only when the container has closed its direction: a half-closed connection.
    let (port, server) = serve(host(), 2, |mut stream| {
        let mut heard = Vec::new();
        stream.read_to_end(&mut heard).unwrap();
        stream
            .write_all(
                format!(
                    "heard {} from {}\n",
                    heard.len(),
                    stream.peer_addr().unwrap().ip()
                )
                .as_bytes(),
            )
            .unwrap();
    });
    for name in [host().to_string().as_str(), "host.containers.internal"] {
        sh(
            &rbox,
            "private",
            &format!("echo question | nc {name} {port}"),
        )
        .stdout(format!("heard 9 from {}\n", host()))
        .run();
    }
    server.join().unwrap();
}

#[test]
fn the_loopback_of_the_host_is_reached_only_when_asked() {
    let rbox = Rbox::with_busybox();
    let (port, server) = serve("127.0.0.1".parse().unwrap(), 3, |mut stream| {
        stream.write_all(b"private\n").unwrap();
    });
    let gateway = gateway();
    let ask = format!("nc {gateway} {port} </dev/null");
    sh(&rbox, "private", &ask)
        .stderr(format!(
            "nc: can't connect to remote host ({gateway}): Connection refused\n"
        ))
        .status(1)
        .run();
    for network in [
        "private:host-loopback",
        "pasta:--map-gw",
        "slirp4netns:allow_host_loopback=true",
    ] {
        sh(&rbox, network, &ask).stdout("private\n").run();
    }
    server.join().unwrap();
}

#[test]
fn what_cannot_be_reached_is_said_at_once() {
    let rbox = Rbox::with_busybox();
    let closed = free_port();
    sh(&rbox, "private", &format!("nc {} {closed}", host()))
        .stderr(format!(
            "nc: can't connect to remote host ({}): Connection refused\n",
            host()
        ))
        .status(1)
        .run();
    // No route of any machine leads there (RFC 1112, class E).
    let resolver = private(3);
    sh(
        &rbox,
        "private",
        &format!("nc 240.0.0.1 9; nc {resolver} 9"),
    )
    .stderr(format!(
        "nc: can't connect to remote host (240.0.0.1): No route to host\n\
             nc: can't connect to remote host ({resolver}): Connection refused\n"
    ))
    .status(1)
    .run();
}

#[test]
fn a_hundred_megabytes_arrive_whole_in_both_directions() {
    const SIZE: usize = 100 << 20;
    let rbox = Rbox::with_busybox();
    let (port, server) = serve(host(), 1, |mut stream| {
        let expected = noise(1, 1 << 20);
        let (mut chunk, mut total) = (vec![0; 1 << 20], 0);
        while total < SIZE {
            stream.read_exact(&mut chunk).unwrap();
            assert!(chunk == expected, "after {total} bytes");
            total += chunk.len();
        }
        assert_eq!(stream.read(&mut chunk).unwrap(), 0);
        for _ in 0..SIZE >> 20 {
            stream.write_all(&noise(2, 1 << 20)).unwrap();
        }
    });
    let file = rbox.write("chunk", noise(1, 1 << 20));
    let volume = format!("{}:/chunk:ro", file.display());
    let script = format!(
        "for i in $(seq 100); do cat /chunk; done | nc {} {port} | md5sum",
        host()
    );
    let sum = rbox
        .program("sh")
        .args(["-c", "for i in $(seq 100); do cat chunk2; done | md5sum"]);
    rbox.write("chunk2", noise(2, 1 << 20));
    let sum = sum.stdout_any().run().stdout;
    rbox.args([
        "run",
        "--rm",
        "--network",
        "private",
        "-v",
        &volume,
        "busybox",
        "sh",
        "-c",
        &script,
    ])
    .stdout(sum)
    .limit(Duration::from_mins(2))
    .run();
    server.join().unwrap();
}

/// Whoever reads slowly holds up whoever writes, and nothing is lost: windows close, and open again.
#[test]
fn slow_readers_on_either_side_get_all() {
    const SIZE: usize = 30 << 20;
    let rbox = Rbox::with_busybox();
    let (port, server) = serve(host(), 1, |mut stream| {
        let sent = noise(4, SIZE);
        let mut heard = Vec::new();
        thread::sleep(Duration::from_secs(2));
        stream.read_to_end(&mut heard).unwrap();
        assert!(heard == sent);
        stream.write_all(&heard).unwrap();
    });
    let file = rbox.write("sent", noise(4, SIZE));
    let sum = rbox.program("sh").args(["-c", "md5sum <sent"]);
    let sum = sum.stdout_any().run().stdout;
    let volume = format!("{}:/sent:ro", file.display());
    let script = format!("nc {} {port} </sent | (sleep 2; md5sum)", host());
    rbox.args(["run", "--rm", "--network", "private", "-v", &volume])
        .args(["busybox", "sh", "-c", &script])
        .stdout(sum)
        .run();
    server.join().unwrap();
}

#[test]
fn a_reset_of_either_end_reaches_the_other() {
    let rbox = Rbox::with_testinit();
    tell_peers(&rbox, &["-p", "80"]);
    let port = published(&rbox, "c", "80");
    let mut stream = connect((host(), port));
    stream.write_all(b"x").unwrap();
    let mut heard = [0; 4];
    stream.read_exact(&mut heard).unwrap();
    // What listens is killed, with what it was sent not read.
    rbox.remove(&["c"]);
    let mut rest = Vec::new();
    let ended = stream.read_to_end(&mut rest);
    assert!(
        ended.is_ok() || ended.as_ref().unwrap_err().kind() == std::io::ErrorKind::ConnectionReset,
        "{ended:?}"
    );
    rbox.load("busybox");
    let (port, server) = serve(host(), 1, |mut stream| {
        stream.read_exact(&mut [0; 2]).unwrap();
        rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO)).unwrap();
    });
    sh(
        &rbox,
        "private",
        &format!("wget -qO- http://{}:{port}/", host()),
    )
    .stderr_has("Connection reset by peer")
    .status(1)
    .run();
    server.join().unwrap();
}

#[test]
fn a_published_port_carries_much_in_both_directions_at_once() {
    let rbox = Rbox::with_busybox();
    rbox.args([
        "run",
        "-d",
        "--name",
        "c",
        "--network",
        "private",
        "-p",
        "80",
        "busybox",
        "nc",
        "-l",
        "-p",
        "80",
        "-e",
        "cat",
    ])
    .stdout("[ID]\n")
    .run();
    let mut stream = connect((host(), published(&rbox, "c", "80")));
    let mut reader = stream.try_clone().unwrap();
    let echo = thread::spawn(move || {
        let mut heard = Vec::new();
        reader.read_to_end(&mut heard).unwrap();
        heard
    });
    let sent = noise(3, 30 << 20);
    stream.write_all(&sent).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    assert!(echo.join().unwrap() == sent);
    rbox.args(["wait", "c"]).stdout("0\n").run();
    rbox.remove(&["c"]);
}

/// Whom a client of this machine finds itself to be, at a published port.
pub fn told(address: (IpAddr, u16)) -> (String, SocketAddr) {
    let mut stream = connect(address);
    stream.shutdown(Shutdown::Write).unwrap();
    let mut heard = String::new();
    stream.read_to_string(&mut heard).unwrap();
    (heard, stream.local_addr().unwrap())
}

fn tell_peers(rbox: &Rbox, options: &[&str]) {
    rbox.args(["run", "-d", "--name", "c", "--network", "private"])
        .args(options)
        .args(["testinit", "tell-peers", "80", "9"])
        .stdout("[ID]\n")
        .run();
    retry(|| (rbox.args(["logs", "c"]).stdout_any().run().stdout == "ready\n").then_some(()));
}

#[test]
fn local_clients_are_never_seen_as_loopback() {
    let rbox = Rbox::with_testinit();
    tell_peers(&rbox, &["-p", "80", "-p", "9/udp"]);
    let port = published(&rbox, "c", "80");
    for (ip, expected) in [
        (host(), host().to_string()),
        ("127.0.0.1".parse().unwrap(), gateway()),
        ("127.0.0.9".parse().unwrap(), gateway()),
        (Ipv6Addr::LOCALHOST.into(), "[fd72:626f:7800::2]".into()),
    ] {
        let (heard, own) = told((ip, port));
        assert_eq!(heard, format!("{expected}:{}", own.port()), "{ip}");
    }
    let port = published(&rbox, "c", "9/udp");
    for (ip, expected) in [
        (host(), host()),
        ("127.0.0.1".parse().unwrap(), gateway().parse().unwrap()),
    ] {
        let client = UdpSocket::bind((ip, 0)).unwrap();
        client
            .set_read_timeout(Some(Duration::from_secs(10)))
            .unwrap();
        client.send_to(b"who am I?", (ip, port)).unwrap();
        let mut buffer = [0; 64];
        let (length, from) = client.recv_from(&mut buffer).unwrap();
        let own = client.local_addr().unwrap().port();
        assert_eq!(
            String::from_utf8_lossy(&buffer[..length]),
            SocketAddr::new(expected, own).to_string()
        );
        assert_eq!(from, SocketAddr::new(ip, port));
    }
    rbox.remove(&["c"]);
}

#[test]
fn the_container_sees_the_real_address_of_a_remote_client() {
    let Some(remote) = Remote::new() else {
        return;
    };
    let rbox = Rbox::with_testinit();
    tell_peers(&rbox, &["-p", "80", "-p", "9/udp"]);
    let port = published(&rbox, "c", "80");
    for (ours, theirs) in [
        (&remote.ours, remote.theirs.clone()),
        (&remote.ours6, format!("[{}]", remote.theirs6)),
    ] {
        let heard = remote.run(&format!("busybox nc {ours} {port} </dev/null"));
        assert!(heard.starts_with(&format!("{theirs}:")), "{heard}");
    }
    let port = published(&rbox, "c", "9/udp");
    for (ours, theirs) in [
        (&remote.ours, remote.theirs.clone()),
        (&remote.ours6, format!("[{}]", remote.theirs6)),
    ] {
        let length = theirs.len();
        let script =
            format!("exec 3<>/dev/udp/{ours}/{port}; echo x >&3; timeout 5 head -c {length} <&3");
        let heard = remote.run(&format!("bash -c '{script}'"));
        assert_eq!(heard, theirs);
    }
    rbox.remove(&["c"]);
}

#[test]
fn nothing_listens_on_more_than_was_asked() {
    let Some(remote) = Remote::new() else {
        return;
    };
    let rbox = Rbox::with_busybox();
    rbox.args([
        "run",
        "-d",
        "--name",
        "c",
        "--network",
        "private",
        "-p",
        "127.0.0.1::80",
        "busybox",
    ])
    .args(["nc", "-ll", "-p", "80", "-e", "echo", "hello"])
    .stdout("[ID]\n")
    .run();
    let port = published(&rbox, "c", "80");
    let script = format!("busybox nc {} {port} </dev/null 2>&1", remote.ours);
    assert!(remote.run(&script).contains("Connection refused"));
    assert!(try_connect((host(), port)).is_err());
    assert!(try_connect((Ipv6Addr::LOCALHOST.into(), port)).is_err());
    let mut heard = String::new();
    retry(|| {
        let mut stream = try_connect((Ipv4Addr::LOCALHOST.into(), port)).ok()?;
        stream
            .read_to_string(&mut heard)
            .ok()
            .filter(|read| *read > 0)
    });
    assert_eq!(heard, "hello\n");
    rbox.remove(&["c"]);
}

#[test]
fn datagrams_go_both_ways_whole() {
    let rbox = Rbox::with_testinit();
    for ip in [host(), Ipv6Addr::LOCALHOST.into()] {
        let server = UdpSocket::bind((ip, 0)).unwrap();
        let port = server.local_addr().unwrap().port();
        let echo = thread::spawn(move || {
            let mut buffer = vec![0; 65536];
            for _ in 0..3 {
                let (length, peer) = server.recv_from(&mut buffer).unwrap();
                server.send_to(&buffer[..length], peer).unwrap();
            }
        });
        let (network, target) = if ip.is_ipv4() {
            ("private", format!("{ip}:{port}"))
        } else {
            (
                "private:host-loopback",
                format!("[fd72:626f:7800::2]:{port}"),
            )
        };
        for length in ["1", "8192", "60000"] {
            rbox.args([
                "run",
                "--rm",
                "--network",
                network,
                "testinit",
                "udp-ask",
                &target,
                length,
            ])
            .stdout(format!("{length} bytes\n"))
            .run();
        }
        echo.join().unwrap();
    }
}

#[test]
fn a_datagram_to_a_closed_port_is_answered() {
    let rbox = Rbox::with_testinit();
    let closed = SocketAddr::new(host(), free_port());
    for target in [closed.to_string(), "[fd72:626f:7800::3]:9".into()] {
        rbox.args([
            "run",
            "--rm",
            "--network",
            "private",
            "testinit",
            "udp-ask",
            &target,
            "5",
        ])
        .stdout("Connection refused (os error 111)\n")
        .run();
    }
}

/// What is private memory of a process, in KiB.
pub fn private_memory(pid: i32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("RssAnon:"));
    line.unwrap()
        .split_whitespace()
        .nth(1)
        .unwrap()
        .parse()
        .unwrap()
}

/// `RBOX_TEST_CONNECTIONS` says how many (4000).
#[test]
fn many_short_connections_leave_nothing_behind() {
    let each = random::count("RBOX_TEST_CONNECTIONS", 4000) / 4;
    let rbox = Rbox::with_testinit();
    tell_peers(&rbox, &["-p", "80"]);
    let port = published(&rbox, "c", "80");
    let gateway = gateway();
    // To an address of its own each, so that there are enough ports to come from.
    let ask = |at: u32, number: u32| {
        let target = Ipv4Addr::new(
            127,
            0,
            at.to_le_bytes()[0],
            (number >> 12).to_le_bytes()[0] + 1,
        );
        let (heard, _) = told((target.into(), port));
        assert!(heard.starts_with(&*gateway), "connection {number}: {heard}");
    };
    let worker = worker(&rbox);
    let descriptors = || {
        let listing = std::fs::read_dir(format!("/proc/{worker}/fd"));
        listing.unwrap().count()
    };
    let ask = &ask;
    let begin = |count: u32| {
        thread::scope(|scope| {
            for at in 0..4 {
                scope.spawn(move || (0..count).for_each(|number| ask(at, number)));
            }
        });
    };
    let before = descriptors();
    begin(100);
    let memory = private_memory(worker);
    begin(each);
    retry(|| (descriptors() <= before).then_some(()));
    let after = private_memory(worker);
    assert!(after < memory + 256, "from {memory} to {after} KiB");
    rbox.remove(&["c"]);
}

/// The container's kernel remembers a connection that it closed for a minute, and refuses another one between
/// the same ends unless its sequence numbers come later (RFC 6191).
#[test]
fn a_client_may_use_its_port_again_at_once() {
    let rbox = Rbox::with_busybox();
    rbox.args(["run", "-d", "--name", "c", "--network", "private"])
        .args(["-p", "127.0.0.1::80", "busybox"])
        .args(["nc", "-ll", "-p", "80", "-e", "echo", "hello"])
        .stdout("[ID]\n")
        .run();
    let target = SocketAddr::from((Ipv4Addr::LOCALHOST, published(&rbox, "c", "80")));
    let own = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
    let ask = || -> Result<String, std::io::Error> {
        use rustix::io::Errno;
        use rustix::net::AddressFamily;
        use rustix::net::SocketFlags;
        use rustix::net::SocketType;
        use rustix::net::socket_with;
        // What other tests start meanwhile would keep it open.
        let flags = SocketFlags::CLOEXEC;
        let socket = socket_with(AddressFamily::INET, SocketType::STREAM, flags, None).unwrap();
        rustix::net::sockopt::set_socket_reuseaddr(&socket, true).unwrap();
        rustix::net::bind(&socket, &own).unwrap();
        let ends = Instant::now() + Duration::from_secs(5);
        // Linux: the client's own end of the connection before may wait for its last acknowledgement.
        while let Err(errno) = rustix::net::connect(&socket, &target) {
            if errno != Errno::ADDRNOTAVAIL || Instant::now() > ends {
                return Err(errno.into());
            }
        }
        let mut stream = TcpStream::from(socket);
        stream
            .set_read_timeout(Some(Duration::from_secs(5)))
            .unwrap();
        let mut heard = String::new();
        stream.read_to_string(&mut heard)?;
        Ok(heard)
    };
    retry(|| ask().ok().filter(|heard| heard == "hello\n"));
    for at in 0..20 {
        assert_eq!(ask().unwrap(), "hello\n", "attempt {at}");
    }
    rbox.remove(&["c"]);
}

#[test]
fn hundreds_of_idle_connections_are_held_at_once() {
    const COUNT: usize = 500;
    let gateway = gateway();
    let rbox = Rbox::with_testinit();
    tell_peers(&rbox, &["-p", "127.0.0.1::80"]);
    let port = published(&rbox, "c", "80");
    let mut idle: Vec<TcpStream> = (0..COUNT)
        .map(|_| connect(("127.0.0.1".parse().unwrap(), port)))
        .collect();
    for (at, stream) in idle.iter_mut().enumerate() {
        stream.write_all(format!(" {at}").as_bytes()).unwrap();
    }
    for (at, stream) in idle.iter_mut().enumerate() {
        let own = stream.local_addr().unwrap().port();
        let expected = format!("{gateway}:{own} {at}");
        let mut heard = vec![0; expected.len()];
        stream.read_exact(&mut heard).unwrap();
        assert_eq!(String::from_utf8_lossy(&heard), expected);
    }
    // Those that are idle hinder no other.
    let (heard, own) = told(("127.0.0.1".parse().unwrap(), port));
    assert_eq!(heard, format!("{gateway}:{}", own.port()));
    drop(idle);
    rbox.remove(&["c"]);
}

#[test]
fn ports_that_cannot_be_published_are_told_before_anything_starts() {
    let rbox = Rbox::with_busybox();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let marker = rbox.work("started");
    rbox.args(["run", "--rm", "--name", "c", "--network", "private", "-p", &format!("127.0.0.1:{port}:80")])
        .args(["-v", &format!("{}:/work", rbox.dir().join("work").display()), "busybox", "touch", "/work/started"])
        .stderr(format!(
            "Error: cannot start container \"c\": cannot publish port \"127.0.0.1:{port}:80/tcp\": port {port} of the host is in use\n\
             Hint: `ss -ltnp sport = {port}` shows by whom; or choose another port\n"
        ))
        .status(125)
        .run();
    assert!(!marker.exists());
    if rbox.account().uid != 0 {
        rbox.args(["run", "--rm", "--name", "c", "--network", "private", "-p", "80:80", "busybox", "true"])
            .stderr("Error: cannot start container \"c\": cannot publish port \"80:80/tcp\": only root may use ports below 1024 of this host\nHint: use a port from 1024 on; or let users have it: `sudo sysctl net.ipv4.ip_unprivileged_port_start=80`; or pass a socket that listens: `-p fd=3:80/tcp`\n")
            .status(125)
            .run();
    }
    rbox.args(["run", "--rm", "--network", "none", "-p", "8080:80", "busybox", "true"])
        .stderr(
            "Error: cannot create container: cannot publish port \"8080:80/tcp\": with --network none there is nothing to publish from\n\
             Hint: use `--network private`\n",
        )
        .status(125)
        .run();
    rbox.args(["ps", "-aq"]).run();
}

/// The image could not be pulled: what is wrong without it is told first.
#[test]
fn what_no_image_makes_possible_is_refused_before_one_is_pulled() {
    let rbox = Rbox::new();
    for (flags, why) in [
        (
            "--network=none -p 8080:80",
            "cannot publish port \"8080:80/tcp\": with --network none there is nothing to publish from\n\
             Hint: use `--network private`",
        ),
        (
            "--network=host -P",
            "--publish-all: with --network host there is nothing to publish from\n\
             Hint: leave it away: the container listens on the host itself",
        ),
        (
            "-p 8080:80 -p 8080:81",
            "cannot publish port \"8080:81/tcp\": \"8080:80/tcp\" has that port of the host",
        ),
        (
            "--network-policy allow:dns",
            "--network-policy: what no rule matches is allowed: expected a rule that denies, as deny at the end",
        ),
        (
            "--net-rate 1m --network=container:x",
            "flag --net-rate cannot be used with --network container:x: that container's own settings count",
        ),
        (
            "--hostname h --uts host",
            "--hostname=\"h\": the host name of --uts host is not the container's to set",
        ),
        (
            "--dns 1.1.1.1 --network=container:x",
            "flag --dns cannot be used with --network container:x: the files are those of that container",
        ),
        (
            "--network=container:x",
            "no container with name or id \"x\"\nHint: `rbox ps -a` lists the containers there are",
        ),
        (
            "--pid=container:x",
            "no container with name or id \"x\"\nHint: `rbox ps -a` lists the containers there are",
        ),
        (
            "--network=nosuch",
            "no network named \"nosuch\"\nHint: `rbox network ls` lists the networks there are",
        ),
        (
            "--network=bridge,podman",
            "--network=\"podman\": it is given twice",
        ),
        (
            "--ip 10.1.2.3 --network=bridge",
            "address 10.1.2.3 is outside of network \"bridge\", whose subnets are 10.88.0.0/16",
        ),
    ] {
        rbox.args(["run", "--name=c"])
            .args(flags.split(' '))
            .args(["127.0.0.1:1/none", "true"])
            .stderr(format!("Error: cannot create container \"c\": {why}\n"))
            .status(125)
            .run();
    }
}

#[test]
fn a_port_is_free_again_when_its_container_has_ended() {
    let rbox = Rbox::with_busybox();
    let port = free_port();
    for _ in 0..5 {
        rbox.args([
            "run",
            "--rm",
            "--network",
            "private",
            "-p",
            &format!("127.0.0.1:{port}:80"),
            "busybox",
            "true",
        ])
        .run();
    }
}

/// A server of its own in place of the host's resolver, behind a resolv.conf of its own.
#[test]
fn names_are_asked_of_the_hosts_resolvers_which_may_change() {
    let Some(rbox) = Rbox::as_root() else {
        return;
    };
    rbox.load("busybox");
    let resolver = |ip: &str, answer: [u8; 4]| {
        let socket = UdpSocket::bind((ip, 53)).unwrap();
        thread::spawn(move || {
            let mut buffer = [0; 512];
            while let Ok((length, peer)) = socket.recv_from(&mut buffer) {
                let reply = answer_to(&buffer[..length], answer);
                socket.send_to(&reply, peer).unwrap();
            }
        })
    };
    resolver("127.0.0.51", [192, 0, 2, 51]);
    resolver("127.0.0.52", [192, 0, 2, 52]);
    let file = rbox.write(
        "resolv.conf",
        "junk\nnameserver fe80::1%nosuch\nnameserver 127.0.0.51\nsearch example.org\n",
    );
    // In a mount namespace where /etc/resolv.conf is that file.
    let script = format!(
        "mount --bind {0} /etc/resolv.conf; R={1}; \
         $R run -d --name c --network private busybox sleep 1000 >/dev/null; \
         $R exec c cat /etc/resolv.conf; $R exec c nslookup -type=a name.example | grep Address: | tail -n 1; \
         echo 'nameserver 127.0.0.52' > {0}; $R exec c nslookup -type=a name.example | grep Address: | tail -n 1; \
         echo > {0}; $R exec c nslookup -type=a name.example | grep -o SERVFAIL | head -n 1; $R rm -f c
         umount /etc/resolv.conf; cp -a /etc {2}; mount --bind {2} /etc; cat /dev/null >/etc/resolv.conf; \
         $R run -d --name c --network private busybox sleep 1000 >/dev/null; \
         for n in 51 52 51; do echo nameserver 127.0.0.$n >/etc/new; mv /etc/new /etc/resolv.conf; \
         $R exec c nslookup -type=a name.example | grep Address: | tail -n 1; done; $R rm -f c",
        file.display(),
        rbox.program_path().display(),
        rbox.work("etc").display()
    );
    rbox.program("unshare")
        .args(["--mount", "sh", "-ec", &script])
        .stdout(format!(
            "search example.org\nnameserver {}\nAddress: 192.0.2.51\nAddress: 192.0.2.52\nSERVFAIL\nc\n\
             Address: 192.0.2.51\nAddress: 192.0.2.52\nAddress: 192.0.2.51\nc\n",
            private(3)
        ))
        .run();
}

/// RFC 1035: the question, and one address for its name.
fn answer_to(question: &[u8], address: [u8; 4]) -> Vec<u8> {
    let mut reply = question.to_vec();
    reply[2] |= 0x80;
    reply[7] = 1;
    reply.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
    reply.extend(address);
    reply
}

/// A host with no route at all: its own network namespace with loopback alone.
#[test]
fn containers_start_on_a_host_without_a_network() {
    let Some(rbox) = Rbox::as_root() else {
        return;
    };
    rbox.load("busybox");
    let run = format!(
        "ip link set lo up; {} run --rm --network private -p 8080:80 busybox sh -c \
         'nc 198.51.100.1 9; ping -c 1 -W 1 10.0.2.2 | grep -c 1.packets.received'",
        rbox.program_path().display()
    );
    rbox.program("unshare")
        .args(["--net", "sh", "-c", &run])
        .stdout("1\n")
        .stderr("nc: can't connect to remote host (198.51.100.1): Network is unreachable\n")
        .run();
}

/// What parses the container's frames could do nothing with what it is talked into, and its end is not the container's.
#[test]
fn the_network_is_served_by_a_confined_process_that_may_die() {
    for rbox in [Some(Rbox::new()), Rbox::as_root()].into_iter().flatten() {
        rbox.load("busybox");
        rbox.args(["run", "-d", "--name", "c", "--network", "private"])
            .args(["-p", "127.0.0.1::80", "busybox"])
            .args(["nc", "-ll", "-p", "80", "-e", "echo", "hello"])
            .stdout("[ID]\n")
            .run();
        let port = published(&rbox, "c", "80");
        let ask = || {
            let mut stream = try_connect((Ipv4Addr::LOCALHOST.into(), port)).ok()?;
            let mut heard = String::new();
            stream.read_to_string(&mut heard).ok()?;
            (heard == "hello\n").then_some(())
        };
        retry(ask);
        let first = worker(&rbox);
        let status = std::fs::read_to_string(format!("/proc/{first}/status")).unwrap();
        for line in [
            "CapInh:\t0000000000000000",
            "CapPrm:\t0000000000000000",
            "CapEff:\t0000000000000000",
            "CapAmb:\t0000000000000000",
            "NoNewPrivs:\t1",
            "Seccomp:\t2",
        ] {
            assert!(status.lines().any(|found| found == line), "{status}");
        }
        // No log, no lock, no namespace, no socket file.
        for fd in std::fs::read_dir(format!("/proc/{first}/fd")).unwrap() {
            let target = std::fs::read_link(fd.unwrap().path()).unwrap();
            let target = target.to_string_lossy().into_owned();
            let kinds = [
                "/dev/null",
                "anon_inode:[eventpoll]",
                "anon_inode:[timerfd]",
            ];
            let is_known = kinds.contains(&&*target)
                || target.starts_with("socket:")
                || target.starts_with("pipe:")
                || target.ends_with("/net/tun");
            assert!(is_known, "{target}");
        }
        let pid = rustix::process::Pid::from_raw(first).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::SYS).unwrap();
        retry(ask);
        assert_ne!(worker(&rbox), first);
        rbox.args(["logs", "c"])
            .stderr("rbox: the network has lost its connections and begins anew: it made a system call that is forbidden to it\n")
            .run();
        rbox.remove(&["c"]);
    }
}
