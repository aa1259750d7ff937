//! Programs that are used by many, in containers: web server, database, resolver, and those that measure.
use std::fmt::Write as _;
use std::io::Read;
use std::io::Write;
use std::net::IpAddr;
use std::net::Ipv6Addr;
use std::net::Shutdown;
use std::net::TcpStream;
use std::net::UdpSocket;
use std::time::Duration;

use serde_json::Value;
use serde_json::json;

use crate::support::Rbox;
use crate::support::archive::Tar;
use crate::support::hostile;
use crate::support::net::free_port;
use crate::support::net::gateway;
use crate::support::net::host;
use crate::support::net::inside;
use crate::support::net::make_network;
use crate::support::net::noise;
use crate::support::net::published;
use crate::support::net::remove_network;
use crate::support::net::retry;
use crate::support::net::try_connect;
use crate::support::remote::Remote;

/// The image `odd` has no programs: those of the host are mounted.
pub fn with_programs() -> Rbox {
    let rbox = Rbox::new();
    load(&rbox);
    rbox
}

pub fn load(rbox: &Rbox) {
    let mut tar = Tar::default();
    for name in ["bin", "sbin", "lib", "lib64"] {
        tar.symlink(name, &format!("usr/{name}"));
    }
    tar.dir("usr", 0o755)
        .dir("tmp", 0o1777)
        .file(
            "etc/passwd",
            0o644,
            b"root:x:0:0::/root:/bin/sh\npostgres:x:70:70::/tmp:/bin/sh\n",
        )
        .file("etc/group", 0o644, b"root:x:0:\npostgres:x:70:\n");
    let path = json!({ "Env": ["PATH=/usr/sbin:/usr/bin"] });
    hostile::Image::of(vec![tar.finish()]).with(path).load(rbox);
}

/// One that runs a script of the host's programs.
pub fn start(rbox: &Rbox, name: &str, network: &str, more: &[&str], script: &str) {
    rbox.args(["run", "-d", "--name", name, "--network", network])
        .args(["-v", "/usr:/usr:ro"])
        .args(more)
        .args(["odd", "sh", "-c", script])
        .stdout("[ID]\n")
        .run();
}

/// Who connects to see whether it is there may be reset, or be the only client that is served.
pub fn wait_for_listener(rbox: &Rbox, name: &str, port: u16) {
    let listens = format!("ss -Hltn 'sport = {port}' | grep -q . && echo yes || echo no");
    retry(|| {
        let call = inside(rbox, name, &listens);
        (call.stdout_any().run().stdout == "yes\n").then_some(())
    });
}

pub fn connect(ip: IpAddr, port: u16) -> TcpStream {
    let limit = Duration::from_secs(20);
    let stream = retry(|| try_connect((ip, port)).ok());
    stream.set_read_timeout(Some(limit)).unwrap();
    stream.set_write_timeout(Some(limit)).unwrap();
    stream
}

/// What is in its log is who asked.
const NGINX: &str = "daemon off; user root; pid /tmp/pid; error_log stderr; worker_processes 2;
    events {}
    http { log_format who '$remote_addr $status $body_bytes_sent'; access_log /dev/stdout who; sendfile on;
        client_body_temp_path /tmp/a; proxy_temp_path /tmp/b; fastcgi_temp_path /tmp/c;
        uwsgi_temp_path /tmp/d; scgi_temp_path /tmp/e;
        server { listen 80; listen [::]:80; root /www; } }";

#[test]
fn a_web_server_serves_everybody_and_knows_who_they_are() {
    let Some(remote) = Remote::new() else {
        return;
    };
    let rbox = with_programs();
    make_network(
        &rbox,
        "one",
        &["--subnet", "10.123.20.0/24", "--subnet", "fd12:20::/64"],
    );
    let file = noise(1, 3 << 20);
    let digest = hostile::hex(&file);
    rbox.write("file", &file);
    let volume = format!("{}:/www:ro", rbox.work("").display());
    rbox.write("nginx.conf", NGINX);
    let gateway = gateway();
    for (network, gateway4, gateway6) in [
        ("private", gateway.as_str(), "fd72:626f:7800::2"),
        ("one", "10.123.20.1", "fd12:20::1"),
    ] {
        let command = "exec nginx -e stderr -c /www/nginx.conf";
        start(
            &rbox,
            "web",
            network,
            &["-v", &volume, "-p", "80", "--stop-signal", "QUIT"],
            command,
        );
        let port = published(&rbox, "web", "80");
        wait_for_listener(&rbox, "web", 80);
        let mut expected = String::new();
        let fetch =
            |url: &str| format!("curl -sS --max-time 30 http://{url}:{port}/file | sha256sum");
        for (url, client) in [
            (host().to_string(), host().to_string()),
            ("127.0.0.1".into(), gateway4.into()),
            ("[::1]".into(), gateway6.into()),
        ] {
            let call = rbox.program("sh").args(["-c", &fetch(&url)]);
            assert_eq!(
                call.stdout_any().run().stdout,
                format!("{digest}  -\n"),
                "{url}"
            );
            writeln!(expected, "{client} 200 {}", file.len()).unwrap();
        }
        for (url, client) in [
            (remote.ours.clone(), &remote.theirs),
            (format!("[{}]", remote.ours6), &remote.theirs6),
        ] {
            assert_eq!(remote.run(&fetch(&url)), format!("{digest}  -\n"));
            writeln!(expected, "{client} 200 {}", file.len()).unwrap();
        }
        retry(|| (rbox.args(["logs", "web"]).stdout_any().run().stdout == expected).then_some(()));
        rbox.remove(&["web"]);
    }
    remove_network(&rbox, "one");
}

#[test]
fn a_database_is_found_by_its_name_and_knows_who_asks() {
    let rbox = with_programs();
    make_network(
        &rbox,
        "one",
        &["--subnet", "10.123.21.0/24", "--subnet", "fd12:21::/64"],
    );
    let serve = "PATH=$PATH:$(echo /usr/lib/postgresql/*/bin); initdb --no-sync --auth trust --encoding UTF8 --locale C /tmp/db >/dev/null; \
        echo 'host all all all trust' >>/tmp/db/pg_hba.conf; \
        exec postgres -D /tmp/db -k /tmp -c listen_addresses='*' -c fsync=off 2>&1";
    start(&rbox, "db", "one", &["--user", "postgres"], serve);
    start(&rbox, "app", "one", &[], "sleep 1000");
    let ready = "until pg_isready -q -h db; do sleep 0.05; done; ";
    let psql = "psql -h db -U postgres -qAt";
    let script = format!(
        "PATH=$PATH:$(echo /usr/lib/postgresql/*/bin); {ready} {psql} -c 'select inet_client_addr(), inet_server_addr()'; \
         {psql} -h 10.123.21.2 -c 'select inet_client_addr()'; \
         {psql} -c 'create table t (n int, word text); insert into t select n, md5(n::text) from generate_series(1, 50000) n; \
         select count(*), sum(n) from t'; {psql} -c 'copy t to stdout' | sha256sum; \
         seq 50000 | {psql} -c 'create table u (n int)' -c 'copy u from stdin' \
         -c 'select sum(n) from u'"
    );
    let mut copied = String::new();
    for number in 1..=50_000 {
        writeln!(copied, "{number}").unwrap();
    }
    let out = inside(&rbox, "app", &script).stdout_any().run().stdout;
    let lines: Vec<&str> = out.lines().collect();
    let [first, by_address, sums, sum, total] = lines[..] else {
        panic!("{out}");
    };
    assert!(
        ["fd12:21::3|fd12:21::2", "10.123.21.3|10.123.21.2"].contains(&first),
        "{first}"
    );
    assert_eq!(
        [by_address, sums, total],
        ["10.123.21.3", "50000|1250025000", "1250025000"]
    );
    // The same from the database's own side.
    let own = "psql -h /tmp -qAt -c 'copy t to stdout' | sha256sum";
    let own = inside(&rbox, "db", own).stdout_any().run().stdout;
    assert_eq!(own, format!("{sum}\n"));
    rbox.remove(&["db", "app"]);
    remove_network(&rbox, "one");
}

#[test]
fn resolvers_agree_with_every_answer() {
    let rbox = with_programs();
    make_network(
        &rbox,
        "one",
        &["--subnet", "10.123.22.0/24", "--subnet", "fd12:22::/64"],
    );
    start(&rbox, "web", "one", &[], "sleep 1000");
    start(&rbox, "db", "one:alias=bee", &[], "sleep 1000");
    let script = "for way in '' +tcp '+bufsize=512 +noedns'; do \
        dig $way +short web.dns.podman A bee AAAA db A; dig $way +short -x 10.123.22.3; dig $way +short -x fd12:22::3; \
        dig $way nobody.dns.podman | grep -Eo 'status: [A-Z]+|ANSWER: [0-9]'; \
        dig $way web MX | grep -Eo 'status: [A-Z]+|ANSWER: [0-9]'; \
        dig $way web | grep -Ei 'warning|malformed|extra|bad'; done; \
        nslookup bee; getent ahosts web | grep STREAM; \
        dig +short +subnet=192.0.2.0/24 db; dig +dnssec +short db; dig +cookie=0011223344556677 +short db";
    let each = "10.123.22.2\nfd12:22::3\n10.123.22.3\ndb.\ndb.\nstatus: NXDOMAIN\nANSWER: 0\nstatus: NOERROR\nANSWER: 0\n";
    inside(&rbox, "db", script)
        .stdout(format!(
            "{each}{each}{each}\
             Server:\t\t10.123.22.1\nAddress:\t10.123.22.1#53\n\n\
             Name:\tbee.dns.podman\nAddress: 10.123.22.3\nName:\tbee.dns.podman\nAddress: fd12:22::3\n\n\
             fd12:22::2      STREAM web.dns.podman\n10.123.22.2     STREAM \n10.123.22.3\n10.123.22.3\n10.123.22.3\n"
        ))
        .run();
    rbox.remove(&["web", "db"]);
    remove_network(&rbox, "one");
}

/// What iperf3 tells of one run.
fn measured(text: &str) -> Value {
    let told: Value = serde_json::from_str(text).unwrap();
    assert_eq!(told["error"], Value::Null, "{text}");
    told["end"].clone()
}

#[test]
fn iperf3_runs_in_both_directions_from_both_sides() {
    let rbox = with_programs();
    let port = free_port();
    let (tcp, udp) = (format!("{port}:{port}"), format!("{port}:{port}/udp"));
    let serve = format!("exec iperf3 -s -p {port} >/dev/null");
    start(
        &rbox,
        "server",
        "private",
        &["-p", &tcp, "-p", &udp],
        &serve,
    );
    start(&rbox, "client", "private", &[], "sleep 1000");
    wait_for_listener(&rbox, "server", port);
    let host = host();
    for (number, (way, length)) in [
        ("", 20 << 20),
        ("-R", 20 << 20),
        ("-u -b 20M", 1 << 20),
        ("-u -b 20M -R", 1 << 20),
    ]
    .into_iter()
    .enumerate()
    {
        let script = format!("iperf3 -J -c {host} -p {port} -n {length} {way}");
        // From the host by the published port; and by one container of another.
        let text = if number % 2 == 0 {
            let call = rbox.program("sh").args(["-c", &script]);
            [
                call.stdout_any().run().stdout,
                inside(&rbox, "client", &script).stdout_any().run().stdout,
            ]
        } else {
            let text = inside(&rbox, "client", &script).stdout_any().run().stdout;
            let call = rbox.program("sh").args(["-c", &script]);
            [text, call.stdout_any().run().stdout]
        };
        for text in text {
            let end = measured(&text);
            if way.starts_with("-u") {
                let [lost, all] = ["lost_packets", "packets"].map(|key| end["sum"][key].as_u64());
                // Where the machine has no time for the receiver, its queue is short.
                assert!(lost.unwrap() * 20 < all.unwrap(), "{way}: {end}");
            } else {
                // Who receives stops to count when the other one says that all is sent.
                let received = end["sum_received"]["bytes"].as_u64().unwrap();
                assert!(received > length / 2, "{way}: {received}");
            }
        }
    }
    rbox.remove(&["server", "client"]);
}

/// Either end may stop sending, and still hear all that the other one says.
#[test]
fn socat_hears_on_when_it_has_closed_and_the_other_way_round() {
    let rbox = with_programs();
    let serve = "socat -t 30 TCP6-LISTEN:80,fork,reuseaddr SYSTEM:'sha256sum; seq 100000' & \
        socat -T 5 UDP6-RECVFROM:82,fork,reuseaddr EXEC:'wc -c' & \
        while echo early | socat -t 30 - TCP6-LISTEN:81,reuseaddr | sha256sum >/tmp/new; do mv /tmp/new /tmp/sum; done";
    start(
        &rbox,
        "c",
        "private",
        &["-p", "80", "-p", "81", "-p", "82/udp"],
        serve,
    );
    wait_for_listener(&rbox, "c", 80);
    let sent = noise(1, 2 << 20);
    let numbers = (1..=100_000).fold(String::new(), |mut text, number| {
        writeln!(text, "{number}").unwrap();
        text
    });
    let expected = format!("{}  -\n", hostile::hex(&sent));
    for ip in [host(), Ipv6Addr::LOCALHOST.into()] {
        let mut stream = connect(ip, published(&rbox, "c", "80"));
        stream.write_all(&sent).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut heard = String::new();
        stream.read_to_string(&mut heard).unwrap();
        assert_eq!(heard, format!("{expected}{numbers}"));

        let port = published(&rbox, "c", "81");
        let mut stream = retry(|| {
            let mut stream = connect(ip, port);
            let mut heard = String::new();
            let end = stream.read_to_string(&mut heard);
            (end.is_ok() && heard == "early\n").then_some(stream)
        });
        std::thread::sleep(Duration::from_millis(50));
        stream.write_all(&sent).unwrap();
        drop(stream);
        retry(|| {
            let call = inside(&rbox, "c", "cat /tmp/sum && rm /tmp/sum");
            let out = call.stdout_any().stderr_any().status_any().run().stdout;
            (out == expected).then_some(())
        });
        let client = UdpSocket::bind((ip, 0)).unwrap();
        client
            .set_read_timeout(Some(Duration::from_secs(10)))
            .unwrap();
        client
            .send_to(b"12345", (ip, published(&rbox, "c", "82/udp")))
            .unwrap();
        let mut buffer = [0; 64];
        let length = client.recv(&mut buffer).unwrap();
        assert_eq!(buffer[..length], *b"5\n");
    }
    rbox.remove(&["c"]);
}
