//! Names of containers: for the programs of the host, and over TCP for containers.

use std::io::Read;
use std::io::Write;
use std::net::SocketAddr;
use std::net::TcpStream;
use std::net::UdpSocket;
use std::time::Duration;

use rustix::process::Signal;

use crate::support::Rbox;
use crate::support::net::make_network;
use crate::support::net::published;
use crate::support::net::remove_network;

const A: u16 = 1;
const SRV: u16 = 33;

fn question(name: &str, kind: u16) -> Vec<u8> {
    let mut text = b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0".to_vec();
    for label in name.split('.') {
        text.push(u8::try_from(label.len()).unwrap());
        text.extend(label.bytes());
    }
    text.push(0);
    text.extend(kind.to_be_bytes());
    text.extend([0, 1]);
    text
}

/// The code and the data of each record, asked by UDP; over TCP it has to be the same.
fn ask(server: SocketAddr, name: &str, kind: u16) -> (u8, Vec<Vec<u8>>) {
    let asked = question(name, kind);
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(server).unwrap();
    socket
        .set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    socket.send(&asked).unwrap();
    let mut reply = vec![0; 1000];
    let length = socket.recv(&mut reply).unwrap();
    reply.truncate(length);

    let mut stream = TcpStream::connect_timeout(&server, Duration::from_secs(10)).unwrap();
    let length = u16::try_from(asked.len()).unwrap().to_be_bytes();
    // A byte at a time, as a client may do it.
    for byte in [&length, &asked[..]].concat() {
        stream.write_all(&[byte]).unwrap();
    }
    let mut same = vec![0; reply.len() + 2];
    stream.read_exact(&mut same).unwrap();
    assert_eq!(same[2..], reply);

    assert_eq!(reply[..2], asked[..2]);
    let mut rest = &reply[asked.len()..];
    let mut records = Vec::new();
    while let [0xc0, 12, _, _, 0, 1, 0, 0, 0, 5, 0, length, data @ ..] = rest {
        let (data, after) = data.split_at(usize::from(*length));
        records.push(data.to_vec());
        rest = after;
    }
    assert_eq!(rest, b"");
    assert_eq!(reply[7], u8::try_from(records.len()).unwrap());
    (reply[3] & 15, records)
}

#[test]
fn programs_of_the_host_find_published_ports_by_name() {
    let rbox = Rbox::with_busybox();
    for (name, more) in [("web", &["-p", "127.0.0.1::80"][..]), ("quiet", &[])] {
        rbox.args(["run", "-d", "--name", name, "--network", "private"])
            .args(more)
            .args(["busybox", "sleep", "1000"])
            .stdout("[ID]\n")
            .run();
    }
    let port = published(&rbox, "web", "80");
    let stub = rbox
        .args(["dns", "--listen", "127.0.0.1:0"])
        .stdout_any()
        .status_any()
        .spawn();
    stub.wait_for("\n");
    let server: SocketAddr = stub.stdout.so_far().trim().parse().unwrap();
    let service = [&[0, 0, 0, 0][..], &port.to_be_bytes(), b"\x03web\x04rbox\0"].concat();
    for (name, kind, expected) in [
        ("web.rbox", A, (0, vec![vec![127, 0, 0, 1]])),
        ("WEB", A, (0, vec![vec![127, 0, 0, 1]])),
        ("_80._tcp.web.rbox", SRV, (0, vec![service])),
        ("quiet.rbox", A, (0, vec![])),
        ("none.rbox", A, (3, vec![])),
        ("example.com", A, (5, vec![])),
    ] {
        assert_eq!(ask(server, name, kind), expected, "{name}");
    }
    rbox.remove(&["web"]);
    std::thread::sleep(Duration::from_millis(1100));
    assert_eq!(ask(server, "web.rbox", A), (3, vec![]));
    rbox.args(["dns", "--listen", &server.to_string()])
        .status(125)
        .stderr(format!(
            "Error: cannot listen on {server}: Address already in use (os error 98)\n\
             Hint: `ss -lntup sport = {}` shows by whom it is used; or choose another port\n",
            server.port()
        ))
        .run();
    stub.signal(Signal::TERM);
    stub.wait();
    rbox.remove(&["quiet"]);
    rbox.args(["dns", "--listen", "5533"])
        .status(125)
        .stderr(
            "Error: --listen=\"5533\": expected an IP address and a port, such as 127.0.0.1:5533 or [::1]:5533\n\
             Hint: `rbox dns --help` tells what there is\n",
        )
        .run();
}

/// From the first moment of the container's command on.
#[test]
fn containers_ask_over_tcp_and_at_once() {
    let rbox = Rbox::with_busybox();
    make_network(&rbox, "lan", &["--subnet", "10.123.40.0/24"]);
    // The length of the question is 23 (octal 27), and the last bytes of the answer are the address.
    let script = "ip route | wc -l; \
        printf '\\0\\027\\1\\2\\1\\0\\0\\1\\0\\0\\0\\0\\0\\0\\1c\\3lan\\0\\0\\1\\0\\1' | \
        nc -w 5 10.123.40.1 53 | hexdump -v -e '1/1 \"%u.\"' | grep -o '0.5.0.4.*'";
    for _ in 0..6 {
        rbox.args(["run", "--rm", "--name", "c", "--network", "lan", "busybox"])
            .args(["sh", "-c", script])
            .stdout("2\n0.5.0.4.10.123.40.2.\n")
            .run();
    }
    remove_network(&rbox, "lan");
}
