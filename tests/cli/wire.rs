//! Wires that lose, delay and reorder, ends that stop, reset or change: nothing is lost, nothing grows.
use std::collections::HashMap;
use std::fs::File;
use std::io::ErrorKind;
use std::io::Read;
use std::io::Write;
use std::net::IpAddr;
use std::net::Shutdown;
use std::net::TcpListener;
use std::net::TcpStream;
use std::net::UdpSocket;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::thread;
use std::time::Duration;

use crate::network::private_memory;
use crate::network::worker;
use crate::programs;
use crate::programs::connect;
use crate::programs::start;
use crate::programs::wait_for_listener;
use crate::programs::with_programs;
use crate::support::Rbox;
use crate::support::account;
use crate::support::hostile;
use crate::support::net::gateway;
use crate::support::net::host;
use crate::support::net::inside;
use crate::support::net::make_network;
use crate::support::net::noise;
use crate::support::net::published;
use crate::support::net::remove_network;
use crate::support::net::retry;
use crate::support::remote::Faults;
use crate::support::remote::Remote;
use crate::support::skip::skip;

/// Says what came, when all has come, and then sends the same again.
const ECHO: &str =
    "exec socat -t 60 TCP6-LISTEN:80,fork,reuseaddr SYSTEM:'tee /tmp/$$ | sha256sum; cat /tmp/$$'";

/// What a client of it gets.
fn echoed(sent: &[u8]) -> Vec<u8> {
    let mut expected = format!("{}  -\n", hostile::hex(sent)).into_bytes();
    expected.extend_from_slice(sent);
    expected
}

/// One that waits for its listeners, with the port of the host for the container's port 80.
fn serve(rbox: &Rbox, network: &str, more: &[&str], script: &str) -> u16 {
    let all: Vec<&str> = [&["-p", "80"], more].concat();
    start(rbox, "c", network, &all, script);
    wait_for_listener(rbox, "c", 80);
    published(rbox, "c", "80")
}

fn exchange(ip: IpAddr, port: u16, sent: &[u8]) {
    let mut stream = connect(ip, port);
    stream.write_all(sent).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut heard = vec![];
    stream.read_to_end(&mut heard).unwrap();
    assert!(heard == echoed(sent), "{} bytes", heard.len());
}

fn pid(rbox: &Rbox) -> String {
    let format = ["inspect", "--format", "{{.State.Pid}}", "c"];
    let told = rbox.args(format).stdout_any().run().stdout;
    told.trim().to_owned()
}

/// A script of root's in the network namespace of the container, which only root can run.
fn on_its_side(rbox: &Rbox, script: &str) -> String {
    let done = Command::new("nsenter")
        .args(["-t", &pid(rbox), "-n", "sh", "-ec", script])
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{script}: {told}");
    String::from_utf8(done.stdout).unwrap()
}

fn may_look_inside() -> bool {
    let may = account::is_root();
    if !may {
        skip("only root can change the interfaces of a container");
    }
    may
}

#[test]
fn a_client_behind_a_bad_wire_sends_and_gets_all() {
    let faults = Faults {
        lost: 60,
        late: 23,
        delay: 1,
    };
    let Some(remote) = Remote::behind(&faults) else {
        return;
    };
    let rbox = with_programs();
    let port = serve(&rbox, "private", &[], ECHO);
    let sent = noise(1, 2 << 20);
    let file = rbox.write("sent", &sent);
    let expected = format!("{}  -\n", hostile::hex(&echoed(&sent)));
    for (way, target) in [("TCP4", &remote.ours), ("TCP6", &remote.ours6)] {
        let target = if way == "TCP6" {
            format!("[{target}]")
        } else {
            target.clone()
        };
        let script = format!(
            "socat -t 60 - {way}:{target}:{port} <{} | sha256sum",
            file.display()
        );
        assert_eq!(remote.run(&script), expected);
    }
    rbox.remove(&["c"]);
}

/// Both directions of the container's interface: what does not fit into a short queue is lost; and of what goes to the
/// container, segments whose sequence numbers have certain bits come late.
const BAD_LINK: &str = "ip link add ifb0 type ifb; ip link set ifb0 up
    tc qdisc add dev eth0 ingress
    tc filter add dev eth0 parent ffff: protocol all u32 match u32 0 0 action mirred egress redirect dev ifb0
    for dev in eth0 ifb0; do
        tc qdisc add dev $dev root handle 1: htb default 10
        tc class add dev $dev parent 1: classid 1:10 htb rate 300mbit burst 3000 cburst 3000 quantum 3000
        tc class add dev $dev parent 1: classid 1:20 htb rate 80mbit burst 3000 cburst 3000 quantum 3000
        tc qdisc add dev $dev parent 1:10 handle 10: bfifo limit ${limit:-150000}; limit=60000
    done
    tc filter add dev ifb0 parent 1: protocol ip u32 match u32 0 0x700 at 24 classid 1:20";

/// Which of them had to drop.
const DROPPED: &str = "for dev in eth0 ifb0; do tc -s qdisc show dev $dev | grep -A1 bfifo | \
    grep -o 'dropped [0-9]*' | sed 's/dropped 0/none/; s/dropped.*/some/'; done";

/// How many bytes have come to the container.
const BROUGHT: &str =
    "tc -s qdisc show dev eth0 ingress | grep -o 'Sent [0-9]*' | tail -n 1 | cut -d' ' -f2";

#[test]
fn a_bad_link_of_the_container_loses_nothing() {
    if !may_look_inside() {
        return;
    }
    let rbox = with_programs();
    let options = ["--subnet", "10.123.30.0/24", "--opt", "mtu=1500"];
    make_network(&rbox, "one", &options);
    let sent = noise(1, 4 << 20);
    for network in ["pasta:--mtu,1500", "one"] {
        let port = serve(&rbox, network, &[], ECHO);
        on_its_side(&rbox, BAD_LINK);
        exchange(host(), port, &sent);
        assert_eq!(on_its_side(&rbox, DROPPED), "some\nsome\n", "{network}");
        // What is lost is sent again, but not all that comes after it.
        let brought = on_its_side(&rbox, BROUGHT).trim().parse::<usize>().unwrap();
        assert!(brought < sent.len() * 2, "{network}: {brought}");
        rbox.remove(&["c"]);
    }
    remove_network(&rbox, "one");
}

/// Does with a connection what its first line says: it is reset, or what is heard in the end is told.
const BREAKER: &str = r#"use strict; use Socket; use IO::Socket::INET; $| = 1;
    sub meet { my ($peer, $what) = @_;
        if ($what eq "reset") { setsockopt $peer, SOL_SOCKET, SO_LINGER, pack "ii", 1, 0; close $peer }
        else { print {$peer} "ok\n"; $peer->flush; my $got = sysread $peer, my $data, 9; print defined $got ? "end\n" : "$!\n" } }
    if (@ARGV) { my $peer = IO::Socket::INET->new("$ARGV[0]:$ARGV[1]") or die; meet($peer, $ARGV[2]); exit }
    my $listener = IO::Socket::INET->new(LocalPort => 80, Listen => 9, ReuseAddr => 1) or die;
    while (my $peer = $listener->accept) { my $what = <$peer>; chomp $what; meet($peer, $what) }"#;

fn reset(stream: TcpStream) {
    rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO)).unwrap();
    drop(stream);
}

fn is_reset(stream: &mut TcpStream) -> bool {
    let ended = stream.read(&mut [0; 9]);
    ended.is_err_and(|error| error.kind() == ErrorKind::ConnectionReset)
}

#[test]
fn a_reset_of_one_end_is_no_end_for_the_other() {
    let rbox = with_programs();
    make_network(&rbox, "one", &["--subnet", "10.123.31.0/24"]);
    let breaker = rbox.write("breaker", BREAKER);
    let volume = format!("{}:/breaker:ro", breaker.display());
    let listener = TcpListener::bind((host(), 0)).unwrap();
    let target = listener.local_addr().unwrap();
    for network in ["private", "one"] {
        let port = serve(&rbox, network, &["-v", &volume], "exec perl /breaker");
        let mut stream = connect(host(), port);
        stream.write_all(b"reset\n").unwrap();
        assert!(is_reset(&mut stream), "{network}");
        let mut stream = connect(host(), port);
        stream.write_all(b"hear\n").unwrap();
        stream.read_exact(&mut [0; 3]).unwrap();
        reset(stream);
        let logged = || rbox.args(["logs", "c"]).stdout_any().run().stdout;
        retry(|| (logged() == "Connection reset by peer\n").then_some(()));

        let outward = |what: &str| {
            let (ip, port) = (target.ip(), target.port());
            let script = format!("perl /breaker {ip} {port} {what}");
            let call = inside(&rbox, "c", &script).stdout_any().spawn();
            (listener.accept().unwrap().0, call)
        };
        let (mut stream, call) = outward("reset");
        assert!(is_reset(&mut stream), "{network}");
        call.wait();
        let (mut stream, call) = outward("hear");
        stream.read_exact(&mut [0; 3]).unwrap();
        reset(stream);
        assert_eq!(call.wait().stdout, "Connection reset by peer\n");
        rbox.remove(&["c"]);
    }
    remove_network(&rbox, "one");
}

/// The time of a processor that a process has used, in hundredths of a second.
fn used(pid: i32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

/// With all windows closed, nothing is held but what one window is, and after a while nothing runs.
fn rests(worker: i32, memory: u64) {
    let is_quiet = |_| {
        let before = used(worker);
        thread::sleep(Duration::from_millis(400));
        used(worker) - before < 10
    };
    assert!((0..20).any(is_quiet), "it never rests");
    let now = private_memory(worker);
    assert!(now < memory + 3000, "from {memory} to {now} KiB");
}

#[test]
fn who_stops_for_a_while_gets_all_and_costs_nothing() {
    // Only root has control groups everywhere.
    let Some(rbox) = Rbox::as_root() else {
        return;
    };
    programs::load(&rbox);
    let script = "while socat -u TCP6-LISTEN:80,reuseaddr - | sha256sum; do :; done";
    let sent = noise(1, 24 << 20);
    let file = rbox.write("sent", &sent);
    let volume = format!("{}:/sent:ro", file.display());
    let port = serve(&rbox, "private", &["-v", &volume], script);
    let worker = worker(&rbox);
    let memory = private_memory(worker);
    let expected = format!("{}  -\n", hostile::hex(&sent));
    let stop = |is_stop: bool, by_signal: bool| {
        if by_signal {
            let signal = if is_stop { "STOP" } else { "CONT" };
            inside(&rbox, "c", &format!("pkill -{signal} -x socat")).run();
        } else {
            let verb = if is_stop { "pause" } else { "unpause" };
            rbox.args([verb, "c"]).stdout("c\n").run();
        }
    };
    for by_signal in [true, false] {
        let data = sent.clone();
        let mut stream = connect(host(), port);
        stream.write_all(&data[..1000]).unwrap();
        stop(true, by_signal);
        let writer = thread::spawn(move || stream.write_all(&data[1000..]).unwrap());
        rests(worker, memory);
        assert!(!writer.is_finished());
        stop(false, by_signal);
        writer.join().unwrap();
        let all = expected.repeat(2 - usize::from(by_signal));
        let is_there = || rbox.args(["logs", "c"]).stdout_any().run().stdout == all;
        retry(|| is_there().then_some(()));
        wait_for_listener(&rbox, "c", 80);
    }
    // The other way round: a reader of the host's.
    let listener = TcpListener::bind((host(), 0)).unwrap();
    let target = listener.local_addr().unwrap();
    let script = format!("socat -u OPEN:/sent TCP:{}:{}", target.ip(), target.port());
    let call = inside(&rbox, "c", &script).spawn();
    let mut stream = listener.accept().unwrap().0;
    rests(worker, memory);
    let mut heard = vec![];
    stream.read_to_end(&mut heard).unwrap();
    assert!(heard == sent);
    call.wait();
    rbox.remove(&["c"]);
}

/// Makes the device `cap0`, and tells in a file for tshark what is sent there.
const CAPTURE: &str = "use strict; use Time::HiRes 'gettimeofday'; $| = 1; open my $tap, '+<', '/dev/net/tun' or die $!;
    my $request = pack 'a16 S x22', 'cap0', 0x1002; ioctl $tap, 0x400454ca, $request or die $!;
    print pack 'LSSlLLL', 0xa1b2c3d4, 2, 4, 0, 0, 262144, 1;
    while (sysread $tap, my $frame, 70000) {
        print pack('LLLL', gettimeofday, length $frame, length $frame), $frame;
    }";

/// A copy of all that goes over the interface, to a device that can do nothing for its kernel: what is left to the
/// hardware elsewhere, checksums and segments, is done before.
const MIRROR: &str = "until ip link show cap0 >/dev/null 2>&1; do sleep 0.01; done
    ip link set cap0 mtu 65521 txqueuelen 20000 addrgenmode none arp off up
    tc qdisc replace dev cap0 root pfifo limit 20000
    tc qdisc del dev eth0 clsact 2>/dev/null || true; tc qdisc add dev eth0 clsact
    for way in ingress egress; do
        tc filter add dev eth0 $way protocol all u32 match u32 0 0 action mirred egress mirror dev cap0
    done";

/// Sends a frame over `cap0` alone, by its index (packet(7)), of a protocol that is nobody's (IEEE 802: 88B5).
const MARK: &str = r#"perl -e 'use strict; socket my $socket, 17, 3, 0 or die $!;
    my $request = pack "a16 x24", "cap0"; ioctl $socket, 0x8933, $request or die $!;
    my $to = pack "S n i S C C a8", 17, 0x88b5, unpack("x16 i", $request), 0, 0, 6, "";
    send $socket, pack("x12 n a60", 0x88b5, "all has come"), 0, $to or die $!'"#;
const MARKED: &[u8] = b"all has come";

/// Whether the mark is there, after which there may be a few frames of whoever has not ended quite yet.
fn ends(capture: &[u8]) -> bool {
    let last = &capture[capture.len().saturating_sub(1 << 14)..];
    last.windows(MARKED.len()).any(|found| found == MARKED)
}

/// All frames of the container's interface while something is done.
fn captured(rbox: &Rbox, act: impl FnOnce()) -> PathBuf {
    let path = rbox.work("capture");
    let pid = pid(rbox);
    let mut capture = Command::new("setpriv")
        .args(["--pdeathsig", "KILL", "nsenter", "-t", &pid, "-n"])
        .args(["perl", "-e", CAPTURE])
        .stdout(File::create(&path).unwrap())
        .spawn()
        .unwrap();
    on_its_side(rbox, MIRROR);
    act();
    on_its_side(rbox, MARK);
    retry(|| ends(&std::fs::read(&path).unwrap()).then_some(()));
    capture.kill().unwrap();
    capture.wait().unwrap();
    path
}

/// What tshark tells of each frame, as a line of fields.
fn told_by_tshark(capture: &Path, fields: &[&str]) -> Vec<Vec<String>> {
    let checks = ["ip", "tcp", "udp"].map(|kind| format!("-o{kind}.check_checksum:TRUE"));
    let fields = fields.iter().flat_map(|field| ["-e", field]);
    let done = Command::new("tshark")
        .arg("-r")
        .arg(capture)
        .args(checks)
        .args(["--disable-protocol=http", "-Tfields", "-Eseparator=,"])
        .args(fields)
        .output()
        .unwrap();
    let text = String::from_utf8(done.stdout).unwrap();
    let lines = text.lines();
    lines
        .map(|line| line.split(',').map(str::to_owned).collect())
        .collect()
}

const FAULTS: [&str; 13] = [
    "frame.number",
    "_ws.malformed",
    "ip.checksum.status",
    "tcp.checksum.status",
    "udp.checksum.status",
    "icmp.checksum.status",
    "icmpv6.checksum.status",
    "tcp.analysis.retransmission",
    "tcp.analysis.out_of_order",
    "tcp.analysis.lost_segment",
    "tcp.analysis.ack_lost_segment",
    "tcp.analysis.duplicate_ack",
    "tcp.analysis.zero_window_probe",
];

const WINDOWS: [&str; 6] = [
    "frame.len",
    "tcp.stream",
    "tcp.srcport",
    "tcp.flags.syn",
    "tcp.ack",
    "tcp.window_size",
];

/// Where what each end has promised ends never goes back, but for what the scale of windows rounds.
fn assert_no_window_shrinks(lines: &[Vec<String>]) {
    let mut edges: HashMap<(&str, &str), u64> = HashMap::new();
    for line in lines {
        let [_, stream, port, is_syn, acked, window] = &line[..] else {
            panic!("{line:?}");
        };
        // A reset of what is closed already acknowledges nothing (RFC 9293, 3.5.2).
        if port.is_empty() || is_syn == "1" || acked.is_empty() {
            continue;
        }
        let edge = acked.parse::<u64>().unwrap() + window.parse::<u64>().unwrap();
        let last = edges.entry((stream, port)).or_default();
        assert!(edge + 1024 > *last, "{line:?}: {last} was promised");
        *last = edge.max(*last);
    }
    assert!(edges.len() >= 8, "{edges:?}");
}

/// Clients of both families whose exchanges are frames, and what the container asks itself.
fn talk(rbox: &Rbox, gateway: &str, ip6: &str, port: u16) {
    let sent = noise(1, 1 << 20);
    exchange(host(), port, &sent);
    exchange(ip6.parse().unwrap(), port, &sent);
    let ask = format!(
        "dig +time=1 +tries=1 +short c.dns.podman >/dev/null; dig +time=1 +tries=1 +tcp +short -x {gateway} >/dev/null; \
         busybox ping -c 1 {gateway} >/dev/null"
    );
    inside(rbox, "c", &ask).run();
    for (way, ip) in [("TCP4", host()), ("TCP6", ip6.parse().unwrap())] {
        let listener = TcpListener::bind((ip, 0)).unwrap();
        let script = format!(
            "echo hello | socat - {way}:{}",
            listener.local_addr().unwrap()
        );
        let call = inside(rbox, "c", &script).spawn();
        drop(listener.accept().unwrap());
        call.wait();
    }
    let client = UdpSocket::bind((host(), 0)).unwrap();
    let udp = published(rbox, "c", "81/udp");
    client
        .set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    client.send_to(&sent[..5000], (host(), udp)).unwrap();
    let mut heard = [0; 9000];
    let length = client.recv(&mut heard).unwrap();
    assert!(heard[..length] == sent[..5000]);
}

/// Whether no frame was there twice, late or in vain, as it may be where the machine is busy; all are as they should be.
fn is_faultless(capture: &Path) -> bool {
    let lines = told_by_tshark(capture, &FAULTS);
    for line in &lines {
        let [number, malformed, checksums @ .., _, _, _, _, _, _] = &line[..] else {
            panic!("{line:?}");
        };
        let mut checksums = checksums.iter();
        let all_good = checksums.all(|status| status.is_empty() || status == "1");
        assert!(all_good && malformed.is_empty(), "frame {number}: {line:?}");
    }
    let mut analysed = lines.iter().flat_map(|line| &line[7..]);
    analysed.all(String::is_empty)
}

#[test]
fn tshark_finds_no_fault_with_what_the_container_sees() {
    let Some(remote) = Remote::new() else {
        return;
    };
    let rbox = with_programs();
    let subnets = ["--subnet", "10.123.32.0/24", "--subnet", "fd12:32::/64"];
    let options = [&subnets[..], &["--opt", "mtu=1400"]].concat();
    make_network(&rbox, "one", &options);
    let private = gateway();
    for (network, gateway, largest) in [
        ("private", private.as_str(), 65520 + 14),
        ("one", "10.123.32.1", 1400 + 14),
    ] {
        let script = format!("(socat UDP6-LISTEN:81,fork,reuseaddr EXEC:cat &); {ECHO}");
        let port = serve(&rbox, network, &["-p", "81/udp"], &script);
        let attempt = |_| {
            let capture = captured(&rbox, || talk(&rbox, gateway, &remote.ours6, port));
            let is_faultless = is_faultless(&capture);
            let lines = told_by_tshark(&capture, &WINDOWS);
            assert!(lines.len() > 50, "{} frames", lines.len());
            let length = lines.iter().map(|line| line[0].parse().unwrap()).max();
            assert_eq!(length, Some(largest), "{network}");
            assert_no_window_shrinks(&lines);
            is_faultless
        };
        assert!((0..5).any(attempt), "{network}: never without a fault");
        rbox.remove(&["c"]);
    }
    remove_network(&rbox, "one");
}

#[test]
fn an_interface_may_change_its_mtu_while_it_is_used() {
    if !may_look_inside() {
        return;
    }
    let rbox = with_programs();
    let script = "(socat UDP6-LISTEN:81,fork,reuseaddr EXEC:cat &); exec socat TCP6-LISTEN:80,fork,reuseaddr EXEC:cat";
    let port = serve(&rbox, "private", &["-p", "81/udp"], script);
    let sent = noise(1, 1 << 20);
    let mut stream = connect(host(), port);
    let client = UdpSocket::bind((host(), 0)).unwrap();
    client
        .set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    client
        .connect((host(), published(&rbox, "c", "81/udp")))
        .unwrap();
    for mtu in [65520, 1400, 9000, 1280, 65520] {
        on_its_side(&rbox, &format!("ip link set eth0 mtu {mtu}"));
        let mut writer = stream.try_clone().unwrap();
        let data = sent.clone();
        let writer = thread::spawn(move || writer.write_all(&data).unwrap());
        let mut heard = vec![0; sent.len()];
        stream.read_exact(&mut heard).unwrap();
        writer.join().unwrap();
        assert!(heard == sent, "{mtu}");
        client.send(&sent[..8000]).unwrap();
        let length = client.recv(&mut heard).unwrap();
        assert!(heard[..length] == sent[..8000], "{mtu}: {length}");
    }
    rbox.remove(&["c"]);
}

/// As programs in a container may want it: the address by router advertisements, and by DHCP.
#[test]
fn who_asks_for_an_address_gets_it_by_either_way() {
    if !may_look_inside() {
        return;
    }
    let rbox = with_programs();
    start(&rbox, "c", "private", &[], "sleep 1000");
    let alone = "ip -6 addr flush dev eth0; echo 2 >/proc/sys/net/ipv6/conf/eth0/accept_ra; \
        echo 1 >/proc/sys/net/ipv6/conf/eth0/autoconf; ip link set eth0 down; ip link set eth0 up
        for i in $(seq 500); do ip -6 -o addr show dev eth0 scope global -tentative | grep -q dynamic && break; sleep 0.01; done
        ip -6 -o addr show dev eth0 scope global | grep -o 'fd72:[^ ]*'; ip -6 route show default | grep -o 'proto ra'";
    assert_eq!(
        on_its_side(&rbox, alone),
        "fd72:626f:7800:0:5062:6fff:fe78:2/64\nproto ra\n"
    );
    inside(
        &rbox,
        "c",
        "busybox ping -6 -c 1 -W 2 fd72:626f:7800::2 | grep -c '1 packets received'",
    )
    .stdout("1\n")
    .run();
    rbox.remove(&["c"]);
}
