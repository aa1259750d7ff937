//! Networks that users define: made, listed, changed and removed; what cannot be is refused and leaves nothing.
use std::collections::BTreeSet;
use std::time::Instant;

use rustix::process::Signal;
use serde_json::Value;
use serde_json::json;

use crate::support::Rbox;
use crate::support::net::make_network;
use crate::support::net::remove_network;

fn network<'a>(rbox: &'a Rbox, args: &[&str]) -> crate::support::call::Call<'a> {
    rbox.args(["network"]).args(args)
}

fn inspected(rbox: &Rbox, name: &str) -> Value {
    let out = network(rbox, &["inspect", name]).stdout_any().run().stdout;
    let mut values: Vec<Value> = serde_json::from_str(&out).unwrap();
    assert_eq!(values.len(), 1);
    values.remove(0)
}

/// Files in the directory of the networks' records.
fn files(rbox: &Rbox) -> Vec<String> {
    let entries = std::fs::read_dir(rbox.data().join("networks"))
        .into_iter()
        .flatten();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// A network about which much is said.
fn make_lan(rbox: &Rbox) {
    network(
        rbox,
        &[
            "create",
            "--subnet",
            "192.168.55.0/24",
            "--gateway",
            "192.168.55.3",
        ],
    )
    .args([
        "--ip-range",
        "192.168.55.128/25",
        "--subnet",
        "fd52:2a5a::/64",
        "--label",
        "tier=back",
    ])
    .args([
        "--label",
        "mine",
        "--opt",
        "mtu=1400",
        "-o",
        "com.docker.network.bridge.name=br-lan",
    ])
    .args([
        "--route",
        "10.7.0.0/16,192.168.55.9,5",
        "--dns",
        "192.0.2.1",
        "--isolate",
    ])
    .args(["--aux-address", "printer=192.168.55.200", "lan"])
    .stdout("lan\n")
    .run();
}

#[test]
fn a_network_is_shown_as_podman_shows_it() {
    let rbox = Rbox::new();
    make_lan(&rbox);
    let mut shown = inspected(&rbox, "lan");
    for (key, length) in [("id", 64), ("created", 20)] {
        let text = shown[key].take();
        assert!(text.as_str().unwrap().len() >= length, "{key}: {text}");
    }
    let expected = json!({
        "name": "lan",
        "id": null,
        "driver": "bridge",
        "network_interface": "br-lan",
        "created": null,
        "subnets": [
            {
                "subnet": "192.168.55.0/24",
                "gateway": "192.168.55.3",
                "lease_range": { "start_ip": "192.168.55.129", "end_ip": "192.168.55.254" },
            },
            { "subnet": "fd52:2a5a::/64", "gateway": "fd52:2a5a::1" },
        ],
        "routes": [{ "destination": "10.7.0.0/16", "gateway": "192.168.55.9", "metric": 5 }],
        "ipv6_enabled": true,
        "internal": false,
        "dns_enabled": true,
        "network_dns_servers": ["192.0.2.1"],
        "labels": { "mine": "", "tier": "back" },
        "options": { "isolate": "true", "mtu": "1400" },
        "ipam_options": { "driver": "host-local" },
        "reserved_addresses": { "printer": "192.168.55.200" },
        "containers": {},
    });
    assert_eq!(shown, expected);
    let format = "{{.Name}} {{.DNSEnabled}} {{range .Subnets}}{{.Subnet}} {{end}}{{.Label \"tier\"}} {{(index .IPAM.Config 0).Gateway}}";
    network(&rbox, &["inspect", "-f", format, "lan"])
        .stdout("lan true 192.168.55.0/24 fd52:2a5a::/64 back 192.168.55.3\n")
        .run();
    network(&rbox, &["rm", "lan"]).stdout("lan\n").run();
}

#[test]
fn networks_are_listed_changed_and_removed() {
    let rbox = Rbox::new();
    network(&rbox, &["ls"])
        .stdout("NETWORK ID    NAME        DRIVER\n[ID]  bridge      bridge\n")
        .run();
    network(&rbox, &["create"]).stdout("rbox1\n").run();
    make_lan(&rbox);
    network(
        &rbox,
        &[
            "update",
            "--dns-add",
            "192.0.2.2,192.0.2.1",
            "--dns-drop",
            "192.0.2.1",
            "lan",
        ],
    )
    .run();
    let servers = &inspected(&rbox, "lan")["network_dns_servers"];
    assert_eq!(servers, &json!(["192.0.2.2", "192.0.2.1"]));
    for (filter, expected) in [
        ("label=tier", "lan\n"),
        ("label!=tier", "bridge\nrbox1\n"),
        ("name=^r", "rbox1\n"),
        ("type=builtin", "bridge\n"),
        ("dangling=true", "lan\nrbox1\n"),
        ("dangling=false", "bridge\n"),
        ("driver=macvlan", ""),
        ("until=1h", ""),
    ] {
        network(&rbox, &["ls", "-q", "--filter", filter])
            .stdout(expected)
            .run();
    }
    network(
        &rbox,
        &[
            "ls",
            "-n",
            "--format",
            "{{.Name}} {{.Driver}} {{.IPv6Enabled}}",
        ],
    )
    .stdout("bridge bridge false\nlan bridge true\nrbox1 bridge false\n")
    .run();

    rbox.args([
        "inspect",
        "--format",
        "{{.Name}} {{.NetworkInterface}}",
        "lan",
    ])
    .stdout("lan br-lan\n")
    .run();
    rbox.args(["info", "--format", "{{.Plugins.Network}}"])
        .stdout("[bridge macvlan ipvlan]\n")
        .run();
    network(&rbox, &["exists", "lan"]).run();
    network(&rbox, &["rm", "lan", "nope"])
        .stdout("lan\n")
        .stderr("Error: no network named \"nope\"\nHint: `rbox network ls` lists the networks there are\n")
        .status(1)
        .run();
    network(&rbox, &["exists", "lan"]).status(1).run();
    network(&rbox, &["rm", "--force", "nope"]).run();
    network(&rbox, &["prune"])
        .stdin("y\n")
        .stdout("WARNING! This will remove all networks not used by at least one container.\nAre you sure you want to continue? [y/N] rbox1\n")
        .run();
    rbox.args(["events", "--stream=false", "--filter", "type=network"])
        .args(["--format", "{{.Type}} {{.Status}} {{.Network}} {{.Attributes.driver}}"])
        .stdout("network create rbox1 bridge\nnetwork create lan bridge\nnetwork remove lan bridge\nnetwork remove rbox1 bridge\n")
        .run();
    assert_eq!(files(&rbox), [".lock"]);
}

#[test]
fn the_default_network_has_two_names_and_stays() {
    let rbox = Rbox::new();
    for name in ["bridge", "podman"] {
        let shown = inspected(&rbox, name);
        assert_eq!(shown["name"], "bridge");
        assert_eq!(
            shown["subnets"],
            json!([{ "subnet": "10.88.0.0/16", "gateway": "10.88.0.1" }])
        );
        assert_eq!(shown["dns_enabled"], json!(false));
        network(&rbox, &["rm", "-f", name])
            .stderr("Error: cannot remove network \"bridge\": it is the default network, which is always there\n")
            .status(125)
            .run();
        network(&rbox, &["create", name])
            .stderr(format!("Error: cannot create network \"{name}\": there is one of this name\nHint: use another name, or `--ignore` to take the one there is\n"))
            .status(125)
            .run();
    }
    network(&rbox, &["update", "--dns-add", "192.0.2.1", "podman"]).run();
    assert_eq!(
        inspected(&rbox, "bridge")["network_dns_servers"],
        json!(["192.0.2.1"])
    );
    network(&rbox, &["prune", "--force"]).run();
    assert_eq!(files(&rbox), [".lock", "bridge.json"]);
}

/// Each in one line, with what would work.
#[test]
fn what_cannot_be_is_refused_and_leaves_nothing() {
    let rbox = Rbox::new();
    // The first that is free on this host.
    make_network(&rbox, "any", &[]);
    let free = inspected(&rbox, "any")["subnets"][0]["subnet"].take();
    let free = format!(
        "use one that is free, as `--subnet {}`",
        free.as_str().unwrap()
    );
    remove_network(&rbox, "any");
    make_network(&rbox, "taken", &["--subnet", "10.123.60.0/22"]);
    let before = files(&rbox);
    for (args, error) in [
        (
            "taken",
            "cannot create network \"taken\": there is one of this name\nHint: use another name, or `--ignore` to take the one there is",
        ),
        (
            "--subnet 10.123.61.0/24 n",
            &format!(
                "cannot create network \"n\": subnet 10.123.61.0/24 overlaps 10.123.60.0/22 of network \"taken\"\nHint: {free}"
            ),
        ),
        (
            "--subnet 10.88.7.0/24 n",
            &format!(
                "cannot create network \"n\": subnet 10.88.7.0/24 overlaps 10.88.0.0/16 of network \"bridge\"\nHint: {free}"
            ),
        ),
        (
            "--gateway 10.1.0.1 n",
            "cannot create network \"n\": gateway 10.1.0.1: it is in none of the network's subnets\nHint: give the subnet too, as `--subnet 10.89.0.0/24`",
        ),
        (
            "--subnet 10.1.0/24 n",
            "--subnet=\"10.1.0/24\": expected a network as 10.89.0.0/24 or fd00::/64\nHint: `rbox network create --help` tells what there is",
        ),
        (
            "--opt mtu=15oo n",
            "cannot create network \"n\": option mtu=\"15oo\": expected a number from 68 to 65520",
        ),
        (
            "--opt isolate=false n",
            "cannot create network \"n\": option isolate=\"false\": no way leads from one network of rbox to another, so they are always isolated\nHint: give a container both networks: `--network A --network B`",
        ),
        (
            "--driver ipvlan n",
            "--driver ipvlan: only root can put a container on an interface of the host (CAP_NET_ADMIN over it)\nHint: use `--driver bridge`, and publish ports with `-p`",
        ),
        (
            "--ipam-driver dhcp n",
            "--ipam-driver dhcp: the network joins none of the host's, so no server is there to ask\nHint: leave it out: rbox gives the addresses",
        ),
        (
            "--ipam-driver none --dns 192.0.2.1 n",
            "cannot create network \"n\": --dns: a network without addresses answers no names\nHint: give them to the container: `rbox run --dns ADDRESS`",
        ),
        (
            "-o com.docker.network.driver.mtu=68 -o com.docker.network.enable_ipv6=true n",
            "cannot create network \"n\": option com.docker.network.driver.mtu=\"68\": expected a number from 1280 to 65520",
        ),
        (
            "-o mtu=1400 -o com.docker.network.driver.mtu=1500 n",
            "cannot create network \"n\": option com.docker.network.driver.mtu=\"1500\": expected 1400, as mtu says",
        ),
        ("--scope swarm n", "--scope swarm: rbox has no swarms"),
        (
            "--internal --dns 192.0.2.1 n",
            "cannot create network \"n\": --dns: an internal network asks no other resolvers\nHint: give them to the container: `rbox run --dns ADDRESS`",
        ),
        (
            "host",
            "cannot create network \"host\": `--network host` means something else\nHint: use another name",
        ),
        (
            "a/b",
            "cannot create network \"a/b\": names must match [a-zA-Z0-9][a-zA-Z0-9_.-]*",
        ),
    ] {
        network(&rbox, &["create"])
            .args(args.split(' '))
            .stderr(format!("Error: {error}\n"))
            .status(125)
            .run();
    }
    assert_eq!(files(&rbox), before);
    network(&rbox, &["create", "--ignore", "taken"])
        .stdout("taken\n")
        .run();
}

#[test]
fn what_an_interface_of_the_host_cannot_carry_is_refused() {
    let Some(root) = Rbox::as_root() else {
        return;
    };
    network(&root, &["create", "--driver", "macvlan", "n"])
        .stderr("Error: cannot create network \"n\": --driver macvlan: it needs an interface of the host\nHint: `--opt parent=eth0`; `ip link` shows those there are\n")
        .status(125)
        .run();
    for (options, error) in [
        (
            "parent=lo",
            "--driver macvlan: it needs the subnet that its interface is in\nHint: `--subnet 192.168.1.0/24 --ip-range 192.168.1.192/27`: the range keeps to addresses that nobody else has",
        ),
        (
            "parent=lo,mode=l2",
            "option mode=\"l2\": expected bridge, private, vepa, passthru",
        ),
        (
            "parent=lo,macvlan_mode=vepa,mode=bridge",
            "option mode=\"bridge\": expected \"vepa\", as is said too",
        ),
        (
            "parent=lo,isolate=true",
            "option \"isolate\": the driver macvlan has parent, mode, mtu and no_default_route",
        ),
    ] {
        let options = options.split(',').flat_map(|one| ["--opt", one]);
        network(&root, &["create", "--driver", "macvlan"])
            .args(options.collect::<Vec<_>>())
            .arg("n")
            .stderr(format!("Error: cannot create network \"n\": {error}\n"))
            .status(125)
            .run();
    }
    network(&root, &["create", "--driver", "macvlan", "--opt", "parent=lo"])
        .args(["--interface-name", "net0", "n"])
        .stderr("Error: cannot create network \"n\": --interface-name net0: of --driver macvlan it is the parent, and --opt says lo\nHint: `rbox run --network NAME:interface_name=net0` names that in a container\n")
        .status(125)
        .run();
    assert_eq!(files(&root), [""; 0]);
}

/// As above: what a network cannot do for its containers.
#[test]
fn what_a_network_would_ignore_is_refused() {
    let rbox = Rbox::with_busybox();
    network(&rbox, &["create", "--ipam-driver", "none", "bare"])
        .stdout("bare\n")
        .run();
    let dns = |rbox: &Rbox, name: &str, why: &str| {
        let hint = "Hint: give them to the container: `rbox run --dns ADDRESS`\n";
        network(rbox, &["update", "--dns-add", "192.0.2.1", name])
            .stderr(format!(
                "Error: cannot update network \"{name}\": --dns-add: {why}\n{hint}"
            ))
            .status(125)
            .run();
    };
    dns(
        &rbox,
        "bare",
        "a network without addresses answers no names",
    );
    for (args, error) in [
        (
            "--network bridge:ip=10.88.0.7 --ip 10.88.0.8",
            "--ip=\"10.88.0.8\": --network says 10.88.0.7\nHint: leave out one of them\n",
        ),
        (
            "--network bridge:mac=02:42:00:00:00:01 --mac-address 02:42:00:00:00:02",
            "--mac-address=\"02:42:00:00:00:02\": --network says 02:42:00:00:00:01\nHint: leave out one of them\n",
        ),
        (
            "--network bridge:ip=10.88.0.7,ip=10.88.0.8",
            "--network=\"bridge:ip=10.88.0.7,ip=10.88.0.8\": option \"ip=10.88.0.8\": it is given twice\n",
        ),
        (
            "--ip 10.88.0 --network bridge",
            "--ip=\"10.88.0\": expected an IPv4 address, as 10.89.0.5\n",
        ),
        (
            "--link db --network bridge",
            "--link: containers of one network find each other by name; --network NAME puts them on one\n",
        ),
    ] {
        rbox.args(["create"])
            .args(args.split(' '))
            .arg("busybox")
            .stderr_has(error)
            .status(125)
            .run();
    }
    rbox.args(["create", "--name", "c", "--network", "bridge:ip=10.88.0.7"])
        .args(["--ip", "10.88.0.7", "--network-alias", "one,two", "busybox"])
        .stdout("[ID]\n")
        .run();
    let aliases = "{{range .NetworkSettings.Networks}}{{.Aliases}}{{end}}";
    rbox.args(["inspect", "--format", aliases, "c"])
        .stdout("[one two]\n")
        .run();
    network(&rbox, &["connect", "nowhere", "c"])
        .stderr_has("Error: cannot connect container \"c\" to network \"nowhere\": no network named \"nowhere\"")
        .status(125)
        .run();
    network(&rbox, &["inspect", "-v", "bare"])
        .stderr("Error: --verbose: it tells of the services of swarms, and rbox has none\n")
        .status(125)
        .run();
    rbox.remove(&["c"]);
    let Some(root) = Rbox::as_root() else {
        return;
    };
    root.load("busybox");
    network(
        &root,
        &["create", "--driver", "ipvlan", "--opt", "parent=rbp0"],
    )
    .args(["--subnet", "10.123.98.0/24", "direct"])
    .stdout("direct\n")
    .run();
    dns(
        &root,
        "direct",
        "a network of --driver ipvlan answers no names",
    );
    root.args(["create", "--network", "direct", "--mac-address", "02:42:00:00:00:01"])
        .arg("busybox")
        .stderr(
            "Error: cannot create container: containers of network \"direct\" have the hardware address of its parent (--driver ipvlan)\n\
            Hint: leave it out, or use a network of `--driver macvlan`\n",
        )
        .status(125)
        .run();
    network(&root, &["rm", "direct"]).stdout("direct\n").run();
}

#[test]
fn a_network_in_use_stays_until_it_is_forced() {
    let rbox = Rbox::with_busybox();
    make_network(&rbox, "lan", &["--subnet", "10.123.50.0/24"]);
    let begin = ["create", "--network", "lan", "--name"];
    rbox.args(begin)
        .args(["idle", "busybox"])
        .stdout("[ID]\n")
        .run();
    let begin = [
        "run",
        "-d",
        "--network",
        "lan:ip=10.123.50.50,mac=02:42:0a:7b:32:32",
        "--name",
    ];
    let runs = rbox
        .args(begin)
        .args(["web", "busybox", "sleep", "1000"])
        .stdout("[ID]\n")
        .run();
    let id = runs.stdout.trim();
    let containers = json!({ id: { "name": "web", "interfaces": { "eth0": {
        "subnets": [{ "ipnet": "10.123.50.50/24", "gateway": "10.123.50.1" }],
        "mac_address": "02:42:0a:7b:32:32",
    } } } });
    assert_eq!(inspected(&rbox, "lan")["containers"], containers);
    network(
        &rbox,
        &[
            "inspect",
            "-f",
            "{{range .Containers}}{{.Name}} {{.IPv4Address}}{{end}}",
            "lan",
        ],
    )
    .stdout("web 10.123.50.50/24\n")
    .run();
    network(&rbox, &["rm", "lan"])
        .stderr("Error: cannot remove network \"lan\": containers \"idle\", \"web\" use it\nHint: `rbox network rm -f lan` stops and removes what uses it too\n")
        .status(2)
        .run();
    network(&rbox, &["prune", "-f"]).run();
    network(&rbox, &["ls", "-q", "--filter", "dangling=true"]).run();
    network(&rbox, &["reload", "--all"]).stdout("[ID]\n").run();
    network(&rbox, &["reload", "idle"])
        .stderr("Error: cannot reload the networks of container \"idle\": it is not running\nHint: `rbox start idle` connects it to its networks\n")
        .status(125)
        .run();
    network(&rbox, &["connect", "bridge", "idle"]).run();
    network(&rbox, &["disconnect", "bridge", "idle"]).run();
    rbox.args(["events", "--stream=false", "--filter", "network=bridge"])
        .args(["--format", "{{.Type}} {{.Status}} {{.Network}}"])
        .stdout("network connect bridge\nnetwork disconnect bridge\n")
        .run();
    network(&rbox, &["rm", "-f", "-t", "0", "lan"])
        .stdout("lan\n")
        .run();
    rbox.args(["ps", "-aq"]).run();
    assert_eq!(files(&rbox), [".lock"]);
}

/// Many at once choose different subnets and names, and of one name there is one.
#[test]
fn networks_made_at_once_do_not_collide() {
    let rbox = Rbox::new();
    let calls: Vec<_> = (0..12)
        .map(|number| {
            let name = if number % 2 == 0 {
                &["create", "same"][..]
            } else {
                &["create"]
            };
            network(&rbox, name)
                .stdout_any()
                .stderr_any()
                .status_any()
                .spawn()
        })
        .collect();
    let made = calls
        .into_iter()
        .map(|call| call.wait())
        .filter(|out| out.status.success());
    let names: Vec<String> = made.map(|out| out.stdout.trim().to_owned()).collect();
    // Six that chose their names, and one of those that were to have the same.
    assert_eq!(names.len(), 7, "{names:?}");
    assert_eq!(names.iter().filter(|name| *name == "same").count(), 1);
    let listed = network(
        &rbox,
        &[
            "ls",
            "--format",
            "{{.NetworkInterface}} {{range .Subnets}}{{.Subnet}}{{end}}",
        ],
    )
    .stdout_any()
    .run();
    let lines: Vec<&str> = listed.stdout.lines().collect();
    for column in 0..2 {
        let values = lines.iter().filter_map(|line| line.split(' ').nth(column));
        assert_eq!(
            values.collect::<BTreeSet<_>>().len(),
            8,
            "{}",
            listed.stdout
        );
    }
}

/// Killed anywhere, a network is there whole or not at all, and nothing stands in the way of the next. The moments are
/// spread over twice the time that an undisturbed one takes.
#[test]
fn a_killed_command_leaves_no_half_network() {
    const ROUNDS: u32 = 24;
    let rbox = Rbox::new();
    let create = |name: &str| {
        let call = network(&rbox, &["create", "--ipv6", name]);
        call.stdout_any().stderr_any().status_any().spawn()
    };
    let subnet = |name: &str| inspected(&rbox, name)["subnets"][0].take();
    let began = Instant::now();
    assert_eq!(create("whole").wait().stdout, "whole\n");
    let whole = began.elapsed();
    let first = subnet("whole");
    network(&rbox, &["rm", "whole"]).stdout("whole\n").run();
    // How many are there after the kill, and how many are not.
    let (mut made, mut lost) = (0, 0);
    for round in 0.. {
        if round >= ROUNDS && made > 0 && lost > 0 {
            break;
        }
        assert!(round < ROUNDS * 10, "{made} were made, {lost} were not");
        let name = format!("n{round}");
        let running = create(&name);
        std::thread::sleep(whole * (round % ROUNDS) * 2 / ROUNDS);
        running.signal(Signal::KILL);
        let told = running.wait().stdout;
        let listed = network(&rbox, &["ls", "-q"]).stdout_any().run().stdout;
        let is_there = listed.lines().any(|line| line == name);
        assert!(
            is_there || told.is_empty(),
            "{name} was made, and is not there"
        );
        if !is_there {
            lost += 1;
            continue;
        }
        made += 1;
        let subnets = inspected(&rbox, &name)["subnets"].take();
        assert_eq!(subnets.as_array().unwrap().len(), 2);
        network(&rbox, &["rm", &name])
            .stdout(format!("{name}\n"))
            .run();
    }
    network(&rbox, &["create", "last"]).stdout("last\n").run();
    assert_eq!(subnet("last"), first);
    assert_eq!(files(&rbox), [".lock", "last.json"]);
}

/// As other records: named where it is asked for, in nobody's way, and gone by force.
#[test]
fn a_damaged_record_is_named_and_goes_by_force() {
    let rbox = Rbox::new();
    network(&rbox, &["create", "bad"]).stdout("bad\n").run();
    let record = rbox.data().join("networks/bad.json");
    std::fs::write(&record, "{\"version\":1,").unwrap();
    let error = "cannot read network record [DIR]/data/rbox/networks/bad.json: EOF while parsing a value at line 1 column 13";
    let hint = "Hint: the record is damaged, or of another version of rbox; `rbox network rm -f bad` removes the network\n";
    network(&rbox, &["ls", "-q"])
        .stdout("bridge\n")
        .stderr(format!("Warning: {error}\n{hint}"))
        .run();
    for verb in ["inspect", "rm"] {
        let stdout = if verb == "inspect" { "[]\n" } else { "" };
        network(&rbox, &[verb, "bad"])
            .stdout(stdout)
            .stderr(format!("Error: {error}\n{hint}"))
            .status(125)
            .run();
    }
    network(&rbox, &["exists", "bad"]).run();
    network(&rbox, &["create", "good"]).stdout("good\n").run();
    network(&rbox, &["rm", "-f", "bad"]).stdout("bad\n").run();
    network(&rbox, &["ls", "-q"]).stdout("bridge\ngood\n").run();
}

/// It is never the container's own loopback.
#[test]
fn a_name_for_the_host_needs_a_network_that_leads_there() {
    let rbox = Rbox::with_busybox();
    network(&rbox, &["create", "--ipam-driver", "none", "bare"])
        .stdout("bare\n")
        .run();
    rbox.args(["create", "--name", "c", "--network", "bare"])
        .args(["--add-host", "up:host-gateway", "busybox", "sleep", "1000"])
        .stdout("[ID]\n")
        .run();
    rbox.args(["start", "c"])
        .stderr(
            "Error: cannot start container \"c\": --add-host=\"up:host-gateway\": with --network bare no address leads to the host\n\
            Hint: `rbox network connect bridge c` gives it one\n",
        )
        .status(125)
        .run();
    network(&rbox, &["connect", "bridge", "c"]).run();
    rbox.args(["start", "c"]).stdout("c\n").run();
    rbox.args(["exec", "c", "grep", "-w", "up", "/etc/hosts"])
        .stdout("10.88.0.1\tup\n")
        .run();
    network(&rbox, &["disconnect", "bridge", "c"]).run();
    rbox.args(["exec", "c", "grep", "-w", "up", "/etc/hosts"])
        .status(1)
        .run();
    rbox.remove(&["c"]);
    network(&rbox, &["rm", "bare"]).stdout("bare\n").run();
}
