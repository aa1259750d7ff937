//! Clients on the loopback of the host, whose connections are made anew within the container's namespace.
use std::io::ErrorKind;
use std::io::Read;
use std::io::Write;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;
use std::net::Shutdown;
use std::thread;
use std::time::Duration;
use std::time::Instant;

use crate::support::Rbox;
use crate::support::net::host;
use crate::support::net::make_network;
use crate::support::net::noise;
use crate::support::net::published;
use crate::support::net::remove_network;
use crate::support::net::retry;
use crate::support::net::try_connect;

const MUCH: usize = 24 << 20;

/// A container that gives back what each client sends.
fn echoing(rbox: &Rbox, options: &[&str]) -> u16 {
    rbox.args(["run", "-d", "--name", "c", "-p", "80"])
        .args(options)
        .args(["busybox", "nc", "-ll", "-p", "80", "-e", "cat"])
        .stdout("[ID]\n")
        .stderr_any()
        .run();
    let port = published(rbox, "c", "80");
    retry(|| (echo((Ipv4Addr::LOCALHOST.into(), port), b"?".to_vec())? == b"?").then_some(()));
    port
}

fn echo(address: (IpAddr, u16), sent: Vec<u8>) -> Option<Vec<u8>> {
    let mut stream = try_connect(address).ok()?;
    let patience = Some(Duration::from_secs(20));
    stream.set_read_timeout(patience).ok()?;
    stream.set_write_timeout(patience).ok()?;
    let mut writer = stream.try_clone().ok()?;
    let writing = thread::spawn(move || {
        writer.write_all(&sent)?;
        writer.shutdown(Shutdown::Write)
    });
    let mut heard = vec![];
    stream.read_to_end(&mut heard).ok()?;
    writing.join().unwrap().ok()?;
    Some(heard)
}

/// What has come to the container by its interface.
fn arrived(rbox: &Rbox) -> usize {
    let counter = "/sys/class/net/eth0/statistics/rx_bytes";
    let found = rbox.args(["exec", "c", "cat", counter]).stdout_any().run();
    found.stdout.trim().parse().unwrap()
}

#[test]
fn what_local_clients_send_does_not_pass_the_interface() {
    let rbox = Rbox::with_busybox();
    make_network(&rbox, "n", &["--ipv6"]);
    let sent = noise(1, MUCH);
    for network in ["private", "n"] {
        let port = echoing(&rbox, &["--network", network]);
        let local = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
        let before = arrived(&rbox);
        for ip in local {
            assert!(
                echo((ip, port), sent.clone()).unwrap() == sent,
                "{network} {ip}"
            );
        }
        let after = arrived(&rbox);
        assert!(after - before < MUCH / 10, "{network}: {}", after - before);
        // Others come as frames.
        assert!(
            echo((host(), port), sent.clone()).unwrap() == sent,
            "{network}"
        );
        assert!(arrived(&rbox) - after > MUCH, "{network}");
        rbox.remove(&["c"]);
    }
    remove_network(&rbox, "n");
}

/// Where nobody listens the client hears so at once.
#[test]
fn a_port_on_which_nobody_listens_is_closed() {
    let rbox = Rbox::with_busybox();
    rbox.args(["run", "-d", "--name", "c", "-p", "80", "busybox"])
        .args(["sleep", "1000"])
        .stdout("[ID]\n")
        .run();
    let port = published(&rbox, "c", "80");
    for ip in [
        IpAddr::from(Ipv4Addr::LOCALHOST),
        Ipv6Addr::LOCALHOST.into(),
    ] {
        let mut times = (0..10).map(|_| {
            let began = Instant::now();
            let heard = try_connect((ip, port)).and_then(|mut stream| {
                stream.set_read_timeout(Some(Duration::from_secs(20)))?;
                stream.read(&mut [0])
            });
            let refused = heard.unwrap_err().kind();
            assert_eq!(refused, ErrorKind::ConnectionReset, "{ip}");
            began.elapsed()
        });
        // A second one is asked only after a second; a busy machine may hold up any of them.
        let at_once = times.any(|time| time < Duration::from_millis(900));
        assert!(at_once, "{ip}");
    }
    rbox.args(["rm", "-f", "-t", "0", "c"]).stdout("c\n").run();
}

/// What a server has said before it closes with something unread, and so with a reset, arrives.
#[test]
fn the_last_words_before_a_reset_arrive() {
    let rbox = Rbox::with_busybox();
    rbox.args(["run", "-d", "--name", "c", "-p", "127.0.0.1::80", "busybox"])
        .args(["nc", "-ll", "-p", "80", "-e", "echo", "too large"])
        .stdout("[ID]\n")
        .run();
    let port = published(&rbox, "c", "80");
    let ask = || {
        let mut stream = try_connect((Ipv4Addr::LOCALHOST.into(), port)).ok()?;
        stream
            .set_read_timeout(Some(Duration::from_secs(20)))
            .ok()?;
        stream.write_all(&[b'x'; 100]).ok()?;
        let mut heard = vec![0; 10];
        // The reset may come after it.
        stream.read_exact(&mut heard).ok()?;
        (heard == b"too large\n").then_some(())
    };
    retry(ask);
    for at in 0..50 {
        assert!(ask().is_some(), "{at}");
    }
    rbox.remove(&["c"]);
}
