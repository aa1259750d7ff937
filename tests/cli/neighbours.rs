//! What containers of one network say of each other's hardware addresses: nobody is believed but who speaks of himself.

use crate::programs;
use crate::support::Rbox;
use crate::support::net::inside;
use crate::support::net::make_network;
use crate::support::net::remove_network;

/// Tells `a` in the victim's name that the hardware address is the liar's. The last part of each address is 2 for `a`,
/// 3 for the victim, 4 for the liar.
const LIE: &str = r#"
import socket, struct, sys
A, VICTIM, LIAR = 2, 3, 4
mac = lambda n: bytes([2, 0x42, 10, 123, 31, n])
ip4 = lambda n: bytes([10, 123, 31, n])
ip6 = lambda n: socket.inet_pton(socket.AF_INET6, f"fd12:31::{n}")
near = lambda n: socket.inet_pton(socket.AF_INET6, f"fe80::42:aff:fe7b:1f0{n}")
HARDWARE = {133: 1, 134: 1, 135: 1, 136: 2}

def arp():
    head = struct.pack("!HHHBBH", 0x806, 1, 0x800, 6, 4, 2)
    return head + mac(LIAR) + ip4(VICTIM) + mac(LIAR) + ip4(VICTIM)

def message(kind, middle, claimed=LIAR):
    return struct.pack("!BBH", kind, 0, 0) + middle + bytes([HARDWARE[kind], 1]) + mac(claimed)

def packet(source, to, message, first=58, header=b""):
    pseudo = source + to + struct.pack("!II", len(message), 58) + message
    total = sum(struct.unpack(f"!{len(pseudo) // 2}H", pseudo))
    while total >> 16:
        total = (total & 0xffff) + (total >> 16)
    message = message[:2] + struct.pack("!H", ~total & 0xffff) + message[4:]
    length = len(header) + len(message)
    return struct.pack("!HIHBB", 0x86dd, 6 << 28, length, first, 255) + source + to + header + message

def tagged(kind, frame):
    return struct.pack("!HH", kind, 0) + frame

answer = lambda of: message(136, struct.pack("!I", 0x60000000) + of)
ask = lambda of, claimed=LIAR: message(135, bytes(4) + of, claimed)
routing = bytes([58, 0, 0, 0, 0, 0, 0, 0])
options = bytes([58, 0, 1, 4, 0, 0, 0, 0])
told = lambda *more: packet(ip6(VICTIM), ip6(A), answer(ip6(VICTIM)), *more)
lies = {
    "arp": arp(),
    "answer": told(),
    "near-answer": packet(near(LIAR), near(A), answer(near(VICTIM))),
    "question": packet(ip6(VICTIM), ip6(A), ask(ip6(A))),
    "near-question": packet(near(VICTIM), near(A), ask(near(A))),
    "router": packet(near(VICTIM), near(A), message(134, bytes([64, 0, 0, 0]) + bytes(8))),
    "routed": packet(ip6(VICTIM), ip6(A), message(133, bytes(4))),
    "hop-by-hop": told(0, options),
    "routing": told(43, routing),
    "destination": told(60, options),
    "fragment": told(44, bytes([58, 0, 0, 0, 0, 0, 0, 1])),
    "tagged-arp": tagged(0x8100, arp()),
    "tagged-answer": tagged(0x8100, told()),
    "provider-arp": tagged(0x88a8, arp()),
    "twice-tagged": tagged(0x88a8, tagged(0x8100, arp())),
    "of-itself": packet(ip6(LIAR), ip6(A), ask(ip6(A), 9)),
}
wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
wire.bind(("eth0", 0))
wire.send(mac(A) + mac(LIAR) + lies[sys.argv[1]])
"#;

const LIES: [&str; 15] = [
    "arp",
    "answer",
    "near-answer",
    "question",
    "near-question",
    "router",
    "routed",
    "hop-by-hop",
    "routing",
    "destination",
    "fragment",
    "tagged-arp",
    "tagged-answer",
    "provider-arp",
    "twice-tagged",
];

fn say(rbox: &Rbox, what: &str) {
    let script = format!("python3 /lies/lie {what}");
    inside(rbox, "liar", &script).run();
}

/// How many neighbours `a` believes to have a hardware address.
fn believed(rbox: &Rbox, mac: &str) -> String {
    let script = format!("ip neigh | grep -c {mac}; true");
    inside(rbox, "a", &script).stdout_any().run().stdout
}

/// Linux reports what it listens to behind options for each hop, as lies may be sent; and routers for multicast hear it.
#[test]
fn who_listens_to_a_group_is_heard() {
    let rbox = programs::with_programs();
    make_network(&rbox, "one", &["--subnet", "10.123.47.0/24"]);
    for name in ["router", "listener"] {
        programs::start(&rbox, name, "one", &[], "sleep 1000");
    }
    let hear = r#"
import socket
wire = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(0x86dd))
wire.settimeout(10)
print("ready", flush=True)
group = socket.inet_pton(socket.AF_INET6, "ff05::123")
while group not in wire.recv(2000):
    pass
print("heard")
"#;
    let router = rbox
        .args(["exec", "router", "python3", "-c", hear])
        .stdout("ready\nheard\n")
        .spawn();
    router.wait_for("ready");
    let listen = r#"
import socket, struct
group = socket.inet_pton(socket.AF_INET6, "ff05::123") + struct.pack("I", socket.if_nametoindex("eth0"))
ear = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
ear.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, group)
"#;
    rbox.args(["exec", "listener", "python3", "-c", listen])
        .run();
    router.wait();
    rbox.remove(&["router", "listener"]);
    remove_network(&rbox, "one");
}

/// However those of the namespace are made.
#[test]
fn the_address_on_the_link_is_made_of_the_hardware_address() {
    let rbox = Rbox::with_busybox();
    make_network(&rbox, "one", &["--subnet", "10.123.45.0/24"]);
    make_network(&rbox, "two", &["--subnet", "10.123.46.0/24"]);
    // Linux: 1 is for none at all.
    let sysctl = "net.ipv6.conf.default.addr_gen_mode=1";
    rbox.args(["run", "-d", "--name", "a", "--network", "one"])
        .args(["--sysctl", sysctl, "busybox", "sleep", "1000"])
        .stdout("[ID]\n")
        .run();
    rbox.args(["network", "connect", "two", "a"]).run();
    let show = "ip -o addr show eth1 scope link | awk '{ print $4 }'";
    inside(&rbox, "a", show)
        .stdout("fe80::42:aff:fe7b:2e02/64\n")
        .run();
    rbox.remove(&["a"]);
    remove_network(&rbox, "one");
    remove_network(&rbox, "two");
}

#[test]
fn nobody_says_of_another_where_he_is() {
    let rbox = programs::with_programs();
    rbox.load("busybox");
    rbox.write("lie", LIE);
    let subnets = ["--subnet", "10.123.31.0/24", "--subnet", "fd12:31::/64"];
    make_network(&rbox, "one", &subnets);
    for name in ["a", "victim"] {
        // Linux: who forwards hears those who look for routers.
        let sysctl = "net.ipv6.conf.all.forwarding=1";
        rbox.args(["run", "-d", "--name", name, "--network", "one"])
            .args(["--cap-add", "NET_ADMIN", "--sysctl", sysctl])
            .args(["busybox", "sleep", "1000"])
            .stdout("[ID]\n")
            .run();
    }
    let lies = format!("{}:/lies:ro", rbox.work("").display());
    programs::start(&rbox, "liar", "one", &["-v", &lies], "sleep 1000");
    let meet = "ip neigh flush dev eth0
        ping -c 1 -W 3 10.123.31.3 && ping -c 1 -W 3 fd12:31::3 && ping -c 1 -W 3 fe80::42:aff:fe7b:1f03%eth0";
    let mut heard = Vec::new();
    for lie in LIES {
        inside(&rbox, "a", meet).stdout_any().run();
        assert_eq!(believed(&rbox, "02:42:0a:7b:1f:03"), "3\n", "{lie}");
        say(&rbox, lie);
        if believed(&rbox, "02:42:0a:7b:1f:04") != "0\n" {
            heard.push(lie);
        }
    }
    assert_eq!(heard, [""; 0]);
    // It was loud enough.
    say(&rbox, "of-itself");
    assert_eq!(believed(&rbox, "02:42:0a:7b:1f:09"), "1\n");
    rbox.remove(&["a", "victim", "liar"]);
    remove_network(&rbox, "one");
}
