//! The runtime specification, clause by clause, as the processes of a container see it.
use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;

use serde_json::Value;
use serde_json::json;

use crate::support::Rbox;
use crate::support::bundle::Bundle;
use crate::support::call::Call;
use crate::support::skip::skip;

/// As a plain user with sub-ids and, where the tests may, as root.
fn worlds() -> impl Iterator<Item = Rbox> {
    [Some(Rbox::new()), Rbox::as_root()].into_iter().flatten()
}

fn is_root(rbox: &Rbox) -> bool {
    rbox.account().uid == 0
}

/// Adds to a list of the configuration.
fn push(list: &mut Value, item: Value) {
    if list.is_null() {
        *list = json!([]);
    }
    list.as_array_mut().unwrap().push(item);
}

/// A name that no other test has: containers of root are groups in one directory.
fn id(bundle: &Bundle<'_>) -> String {
    let dir = bundle.dir.ancestors().nth(2).unwrap();
    dir.file_name().unwrap().to_str().unwrap().to_owned()
}

fn run<'a>(bundle: &Bundle<'a>) -> Call<'a> {
    bundle.run(&id(bundle))
}

/// What the command prints.
fn printed(bundle: &Bundle<'_>) -> String {
    run(bundle).stdout_any().run().stdout
}

/// What is mounted where: options of the mount, optional fields and type, by place; the topmost where there are several.
fn mounts(text: &str) -> BTreeMap<String, (String, String, String)> {
    let line = |line: &str| {
        let fields: Vec<&str> = line.split(' ').collect();
        let dash = fields.iter().position(|field| *field == "-")?;
        let optional = fields[6..dash].join(" ");
        let tuple = (fields[5].to_owned(), optional, fields[dash + 1].to_owned());
        Some((fields[4].to_owned(), tuple))
    };
    text.lines().filter_map(line).collect()
}

fn seen_mounts(bundle: Bundle<'_>) -> BTreeMap<String, (String, String, String)> {
    let bundle = bundle.command(&["cat", "/proc/self/mountinfo"]);
    mounts(&printed(&bundle))
}

#[test]
fn attributes_hold_for_one_mount_or_for_all_below_it() {
    for rbox in worlds() {
        let mut bundle = Bundle::new(&rbox);
        for (place, options) in [
            ("/plain", &["rbind", "ro", "nosuid", "noexec"][..]),
            ("/deep", &["rbind", "rro", "rnosuid", "rnoexec"][..]),
        ] {
            let mount =
                json!({"destination": place, "source": "/dev", "type": "none", "options": options});
            push(&mut bundle.config["mounts"], mount);
        }
        let seen = seen_mounts(bundle);
        let has = |place: &str, option: &str| seen[place].0.split(',').any(|one| one == option);
        for (place, option, top, below) in [
            ("/plain", "ro", true, false),
            ("/deep", "ro", true, true),
            ("/deep", "noexec", true, true),
            ("/deep", "nosuid", true, true),
        ] {
            assert_eq!(has(place, option), top, "{place} {option}");
            // The host's /dev/shm is writable.
            let shm = format!("{place}/shm");
            assert_eq!(has(&shm, option), below, "{shm} {option}");
        }
    }
}

#[test]
fn mounts_are_made_changed_and_found_from_the_bundle() {
    for rbox in worlds() {
        let mut bundle = Bundle::new(&rbox).command(&[
            "sh",
            "-c",
            "cat /data/file /proc/self/mountinfo; busybox stat -L -c '%a' /tmp /linked /mode",
        ]);
        std::fs::create_dir(bundle.dir.join("data")).unwrap();
        std::fs::write(bundle.dir.join("data/file"), "of the bundle\n").unwrap();
        let rootfs = bundle.rootfs();
        // An absolute link leads inside the root file system.
        std::fs::create_dir(rootfs.join("real")).unwrap();
        std::os::unix::fs::symlink("/real", rootfs.join("linked")).unwrap();
        std::fs::set_permissions(rootfs.join("tmp"), PermissionsExt::from_mode(0o1770)).unwrap();
        rbox.own(&rootfs.join("real"));
        let list = &mut bundle.config["mounts"];
        // Relative places, as the specification has it: of the source in the bundle, of the destination in the root.
        push(
            list,
            json!({"destination": "data", "source": "data", "options": ["bind"]}),
        );
        push(
            list,
            json!({"destination": "/data", "options": ["remount", "ro", "nodev"]}),
        );
        push(
            list,
            json!({"destination": "/tmp", "type": "tmpfs", "source": "tmpfs"}),
        );
        push(
            list,
            json!({"destination": "/linked", "type": "tmpfs", "source": "tmpfs", "options": ["mode=711", "sync", "iversion"]}),
        );
        push(
            list,
            json!({"destination": "/mode", "type": "tmpfs", "source": "tmpfs", "options": ["mode=700"]}),
        );
        push(
            list,
            json!({"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue"}),
        );
        let out = printed(&bundle);
        assert!(out.starts_with("of the bundle\n"), "{out}");
        assert!(out.ends_with("\n1770\n711\n700\n"), "{out}");
        let seen = mounts(&out);
        assert_eq!(seen["/data"].0, "ro,nodev,relatime");
        assert_eq!(seen["/real"].2, "tmpfs");
        assert_eq!(seen["/dev/mqueue"].2, "mqueue");
    }
}

#[test]
fn a_mount_that_is_not_possible_is_said() {
    let rbox = Rbox::new();
    let try_mount = |mount: Value, said: &str| {
        let mut bundle = Bundle::new(&rbox);
        push(&mut bundle.config["mounts"], mount);
        run(&bundle).stderr(format!("{said}\n")).status(1).run();
        std::fs::remove_dir_all(&bundle.dir).unwrap();
    };
    try_mount(
        json!({"destination": "/x", "source": "nowhere", "options": ["bind"]}),
        "cannot mount \"nowhere\": No such file or directory (os error 2)",
    );
    try_mount(
        json!({"destination": "/x", "source": "/dev", "options": ["rbind", "size=5"]}),
        "cannot mount \"/x\": unknown mount option \"size\"",
    );
    try_mount(
        json!({"destination": "/proc/self/fd", "type": "tmpfs", "source": "tmpfs", "options": ["bogus=1"]}),
        "cannot mount \"/proc/self/fd\": fsconfig(tmpfs, bogus=\"1\") (tmpfs: Unknown parameter 'bogus'): Invalid argument (os error 22)",
    );
    try_mount(
        json!({"destination": "/x", "options": ["remount", "ro"]}),
        "cannot mount \"/x\": nothing is mounted there",
    );
}

#[test]
fn the_root_propagates_as_asked() {
    for rbox in worlds() {
        for (wanted, starts) in [
            ("private", ""),
            ("rslave", ""),
            ("shared", "shared:"),
            ("rshared", "shared:"),
            ("unbindable", "unbindable"),
        ] {
            let mut bundle = Bundle::new(&rbox);
            bundle.config["linux"]["rootfsPropagation"] = json!(wanted);
            let dir = bundle.dir.clone();
            let seen = seen_mounts(bundle);
            let optional = &seen["/"].1;
            assert!(optional.starts_with(starts), "{wanted}: {optional}");
            assert_eq!(
                optional.is_empty(),
                starts.is_empty(),
                "{wanted}: {optional}"
            );
            let below = seen["/proc"].1.starts_with("shared:");
            assert_eq!(below, wanted == "rshared", "{wanted}");
            std::fs::remove_dir_all(dir).unwrap();
        }
    }
}

#[test]
fn a_root_that_cannot_be_pivoted_is_changed() {
    for rbox in worlds() {
        let bundle = Bundle::new(&rbox).command(&["ls", "/"]);
        bundle.write();
        bundle
            .oci(["run", "--no-pivot", "-b"])
            .arg(&bundle.dir)
            .arg(id(&bundle))
            .stdout("bin\ndev\netc\ninit\nproc\nroot\nsys\ntmp\n")
            .run();
    }
}

#[test]
fn devices_are_made_or_shown() {
    for rbox in worlds() {
        let script = "busybox stat -c '%n %F %t:%T %a %u:%g' /dev/sub/nothing /dev/pipe /dev/null; echo x >/dev/sub/nothing";
        let mut bundle = Bundle::new(&rbox).command(&["sh", "-c", script]);
        // One that the host has under the same name, or root makes.
        let (path, major, minor) = if is_root(&rbox) {
            ("/dev/sub/nothing", 1, 3)
        } else {
            ("/dev/zero", 1, 5)
        };
        bundle.config["linux"]["devices"] = json!([
            {"path": path, "type": "c", "major": major, "minor": minor, "fileMode": 0o20_646, "uid": 3, "gid": 4},
            {"path": "/dev/pipe", "type": "p", "fileMode": 0o600, "uid": 5, "gid": 6}
        ]);
        if is_root(&rbox) {
            assert_eq!(
                printed(&bundle),
                "/dev/sub/nothing character special file 1:3 646 3:4\n\
                 /dev/pipe fifo 0:0 600 5:6\n\
                 /dev/null character special file 1:3 666 0:0\n"
            );
        } else {
            let script = "busybox stat -c '%n %F %t:%T' /dev/zero; busybox stat -c '%n %F %a %u:%g' /dev/pipe";
            let bundle = bundle.command(&["sh", "-c", script]);
            assert_eq!(
                printed(&bundle),
                "/dev/zero character special file 1:5\n/dev/pipe fifo 600 5:6\n"
            );
        }
    }
}

#[test]
fn a_device_that_is_not_there_is_said() {
    let rbox = Rbox::new();
    let mut bundle = Bundle::new(&rbox);
    bundle.config["linux"]["devices"] =
        json!([{"path": "/dev/zero", "type": "c", "major": 1, "minor": 9}]);
    run(&bundle)
        .stderr("cannot make device /dev/zero: that of the host is another device, and without being root of the host none can be made\n")
        .status(1)
        .run();
    let Some(rbox) = Rbox::as_root() else {
        return;
    };
    let mut bundle = Bundle::new(&rbox);
    std::fs::write(bundle.rootfs().join("etc/place"), "").unwrap();
    bundle.config["linux"]["devices"] =
        json!([{"path": "/etc/place", "type": "c", "major": 1, "minor": 9}]);
    run(&bundle)
        .stderr("cannot make device /etc/place: something else is there already\n")
        .status(1)
        .run();
}

#[test]
fn owners_are_shown_through_the_map_of_a_mount() {
    let Some(rbox) = Rbox::as_root() else {
        return;
    };
    let mut bundle = Bundle::new(&rbox);
    let data = bundle.dir.join("data");
    std::fs::create_dir(&data).unwrap();
    let map = json!([{"containerID": 0, "hostID": 1000, "size": 10}]);
    for (place, mount) in [
        (
            "/mapped",
            json!({"options": ["bind"], "uidMappings": map, "gidMappings": map}),
        ),
        (
            "/all",
            json!({"options": ["rbind", "ridmap"], "uidMappings": map, "gidMappings": map}),
        ),
        ("/plain", json!({"options": ["bind"]})),
    ] {
        let mut mount = mount;
        mount["destination"] = json!(place);
        mount["source"] = json!("data");
        push(&mut bundle.config["mounts"], mount);
    }
    let bundle = bundle.command(&[
        "busybox", "stat", "-c", "%n %u:%g", "/mapped", "/all", "/plain",
    ]);
    assert_eq!(
        printed(&bundle),
        "/mapped 1000:1000\n/all 1000:1000\n/plain 0:0\n"
    );
    let mut bundle = bundle;
    push(
        &mut bundle.config["mounts"],
        json!({"destination": "/bare", "source": "data", "options": ["bind", "idmap"]}),
    );
    run(&bundle)
        .stderr("cannot mount \"/bare\": option \"idmap\" needs uidMappings and gidMappings, or a user namespace\n")
        .status(1)
        .run();
}

#[test]
fn an_overlay_is_mounted_by_the_kernels_options() {
    let Some(rbox) = Rbox::as_root() else {
        return;
    };
    let mut bundle =
        Bundle::new(&rbox).command(&["sh", "-c", "cat /over/a /over/b; echo new >/over/a"]);
    for dir in ["lower1", "lower2", "upper", "work"] {
        std::fs::create_dir(bundle.dir.join(dir)).unwrap();
    }
    std::fs::write(bundle.dir.join("lower1/a"), "first\n").unwrap();
    std::fs::write(bundle.dir.join("lower2/a"), "hidden\n").unwrap();
    std::fs::write(bundle.dir.join("lower2/b"), "second\n").unwrap();
    push(
        &mut bundle.config["mounts"],
        json!({"destination": "/over", "type": "overlay", "source": "overlay",
            "options": ["lowerdir=lower1:lower2", "upperdir=upper", "workdir=work"]}),
    );
    assert_eq!(printed(&bundle), "first\nsecond\n");
    let new = std::fs::read_to_string(bundle.dir.join("upper/a")).unwrap();
    assert_eq!(new, "new\n");
}

/// Fields of /proc/PID/stat by their number in proc(5).
fn stat_fields<const N: usize>(stat: &str, numbers: [usize; N]) -> [i64; N] {
    let fields: Vec<&str> = stat
        .rsplit_once(") ")
        .unwrap()
        .1
        .split_whitespace()
        .collect();
    numbers.map(|number| fields[number - 3].parse().unwrap())
}

#[test]
fn the_process_is_scheduled_as_asked() {
    for rbox in worlds() {
        let mut bundle = Bundle::new(&rbox).command(&["cat", "/proc/self/stat"]);
        bundle.config["process"]["scheduler"] =
            json!({"policy": "SCHED_BATCH", "nice": 7, "flags": ["SCHED_FLAG_RESET_ON_FORK"]});
        // Nice value and policy.
        assert_eq!(stat_fields(&printed(&bundle), [19, 41]), [7, 3]);
        bundle.config["process"]["scheduler"] = json!({"policy": "SCHED_RR", "priority": 3});
        if is_root(&rbox) {
            // Real-time priority and policy.
            assert_eq!(stat_fields(&printed(&bundle), [40, 41]), [3, 2]);
            bundle.config["process"]["scheduler"] = json!({
                "policy": "SCHED_DEADLINE", "runtime": 10_000_000, "deadline": 30_000_000, "period": 30_000_000
            });
            assert_eq!(stat_fields(&printed(&bundle), [41]), [6]);
        } else {
            run(&bundle)
                .stderr_has("cannot set process.scheduler: it takes root of the host (CAP_SYS_NICE): sched_setattr(")
                .status(1)
                .run();
        }
        bundle.config["process"]["scheduler"] = Value::Null;
        bundle.config["process"]["ioPriority"] = json!({"class": "IOPRIO_CLASS_BE", "priority": 6});
        let bundle = bundle.command(&["busybox", "ionice"]);
        assert_eq!(printed(&bundle), "best-effort: prio 6\n");
    }
}

#[test]
fn what_else_a_process_is_given() {
    for rbox in worlds() {
        let script = "umask; id; cat /proc/self/oom_score_adj; ulimit -n; ulimit -Hn; busybox uname -m; hostname; \
            cat /proc/sys/kernel/domainname /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/shmmax; pwd";
        let mut bundle = Bundle::new(&rbox).command(&["sh", "-c", script]);
        let process = &mut bundle.config["process"];
        process["user"] = json!({"uid": 1000, "gid": 7, "umask": 0o077, "additionalGids": [8, 9]});
        process["oomScoreAdj"] = json!(500);
        process["rlimits"] = json!([{"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200}]);
        process["cwd"] = json!("/made/here");
        bundle.config["domainname"] = json!("example.org");
        let linux = &mut bundle.config["linux"];
        linux["personality"] = json!({"domain": "LINUX32"});
        linux["sysctl"] = json!({"net/ipv4/ip_forward": "1", "kernel.shmmax": "4096"});
        let machine = if cfg!(target_arch = "x86_64") {
            "i686"
        } else {
            "armv8l"
        };
        assert_eq!(
            printed(&bundle),
            format!(
                "0077\nuid=1000(ann) gid=7 groups=8,9\n500\n100\n200\n{machine}\nbundle\nexample.org\n1\n4096\n/made/here\n"
            )
        );
    }
}

#[test]
fn clocks_are_moved() {
    for rbox in worlds() {
        let mut bundle = Bundle::new(&rbox).command(&["cat", "/proc/uptime"]);
        push(
            &mut bundle.config["linux"]["namespaces"],
            json!({"type": "time"}),
        );
        bundle.config["linux"]["timeOffsets"] = json!({"boottime": {"secs": 1_000_000_000}});
        let uptime = printed(&bundle);
        let seconds: f64 = uptime.split(' ').next().unwrap().parse().unwrap();
        assert!(seconds > 1e9, "{uptime}");
    }
}

#[test]
fn memory_comes_from_the_nodes_that_are_named() {
    if !std::path::Path::new("/sys/devices/system/node/node0").exists() {
        return skip("this kernel knows no nodes");
    }
    for rbox in worlds() {
        let mut bundle = Bundle::new(&rbox).command(&["cat", "/proc/self/numa_maps"]);
        bundle.config["linux"]["memoryPolicy"] =
            json!({"mode": "MPOL_BIND", "nodes": "0", "flags": ["MPOL_F_STATIC_NODES"]});
        let maps = printed(&bundle);
        assert!(
            maps.lines().all(|line| line.contains(" bind=static:0")),
            "{maps}"
        );
        bundle.config["linux"]["memoryPolicy"] = json!({"mode": "MPOL_BIND", "nodes": "900"});
        run(&bundle)
            .stderr_has("cannot set linux.memoryPolicy: this machine has no such nodes, or the kernel not this mode: ")
            .status(1)
            .run();
    }
}

#[test]
fn what_the_host_lacks_is_refused() {
    let rbox = Rbox::new();
    let refused = |pointer: &str, value: Value, said: &str| {
        let mut bundle = Bundle::new(&rbox);
        let (above, last) = pointer.rsplit_once('/').unwrap();
        bundle.config.pointer_mut(above).unwrap()[last] = value;
        run(&bundle).stderr(format!("{said}\n")).status(1).run();
        std::fs::remove_dir_all(&bundle.dir).unwrap();
    };
    let exists = |path: &str| std::path::Path::new(path).exists();
    if !exists("/sys/module/apparmor") {
        let said = "cannot set process.apparmorProfile: this host has no AppArmor";
        refused("/process/apparmorProfile", json!("x"), said);
    }
    if !exists("/sys/fs/selinux/enforce") {
        let said = "cannot set process.selinuxLabel: this host has no SELinux";
        refused("/process/selinuxLabel", json!("x"), said);
        let said = "cannot set linux.mountLabel: this host has no SELinux";
        refused("/linux/mountLabel", json!("x"), said);
    }
    if !exists("/sys/fs/resctrl") {
        let said = "linux.intelRdt is not possible: there is no resctrl at /sys/fs/resctrl\n\
            Hint: `sudo mount -t resctrl resctrl /sys/fs/resctrl`, where the processor has it";
        refused("/linux/intelRdt", json!({"closID": "x"}), said);
    }
    let said = "cannot set process.scheduler.policy: Linux has no SCHED_ISO";
    refused("/process/scheduler", json!({"policy": "SCHED_ISO"}), said);
}

#[test]
fn an_interface_of_the_host_moves_with_its_addresses() {
    let Some(rbox) = Rbox::as_root() else {
        return;
    };
    let (host, peer) = (
        format!("rb{}a", std::process::id()),
        format!("rb{}b", std::process::id()),
    );
    let ip = |args: &[&str]| rbox.program("ip").args(args).run();
    ip(&["link", "add", &host, "type", "veth", "peer", "name", &peer]);
    ip(&["addr", "add", "10.213.7.2/24", "dev", &host]);
    let mut bundle = Bundle::new(&rbox).command(&["busybox", "ip", "-o", "-4", "addr"]);
    bundle.config["linux"]["netDevices"] = json!({&host: {"name": "inside"}});
    let out = printed(&bundle);
    // It goes with the network namespace, and its peer with it.
    assert!(
        out.contains("inside    inet 10.213.7.2/24 scope global inside"),
        "{out}"
    );
    run(&bundle)
        .stderr(format!(
            "cannot move network interface \"{host}\": the host has no such interface\n"
        ))
        .status(1)
        .run();
}

#[test]
fn a_process_that_joins_has_cpus_and_a_schedule_of_its_own() {
    for rbox in worlds() {
        let bundle = Bundle::new(&rbox);
        let id = id(&bundle);
        bundle.create(&id);
        bundle.start(&id);
        let exec = |process: Value| {
            let file = bundle.dir.join("process.json");
            let mut whole = bundle.config["process"].clone();
            for (member, value) in process.as_object().unwrap() {
                whole[member] = value.clone();
            }
            std::fs::write(&file, whole.to_string()).unwrap();
            bundle.oci(["exec", "--process"]).arg(&file).arg(&id)
        };
        let stat = exec(json!({
            "args": ["cat", "/proc/self/stat"],
            "scheduler": {"policy": "SCHED_IDLE"},
        }));
        let stat = stat.stdout_any().run().stdout;
        assert_eq!(stat_fields(&stat, [41]), [5]);
        let status = exec(json!({
            "args": ["busybox", "grep", "Cpus_allowed_list", "/proc/self/status"],
            "execCPUAffinity": {"initial": "0-1", "final": "1"},
        }));
        if std::thread::available_parallelism().unwrap().get() > 1 {
            status.stdout("Cpus_allowed_list:\t1\n").run();
        }
        exec(json!({"args": ["true"], "execCPUAffinity": {"final": "8000"}}))
            .stderr("cannot set process.execCPUAffinity.final to \"8000\": sched_setaffinity: Invalid argument (os error 22)\n")
            .status(255)
            .run();
        exec(json!({"cwd": "x"}))
            .stderr("process.json: cwd: \"x\" is not an absolute path\n")
            .status(255)
            .run();
        bundle.delete(&id);
    }
}

#[test]
fn capabilities_that_nobody_knows_are_left_out_with_a_warning() {
    let rbox = Rbox::new();
    let mut bundle = Bundle::new(&rbox).command(&["true"]);
    bundle.config["process"]["capabilities"]["bounding"] = json!(["CAP_KILL", "CAP_OF_TOMORROW"]);
    run(&bundle)
        .stderr_has(
            "process.capabilities.bounding: ignoring unknown capability \"CAP_OF_TOMORROW\"",
        )
        .run();
}

#[test]
fn what_is_written_to_begin_with_runs() {
    for rbox in worlds() {
        let mut bundle = Bundle::new(&rbox);
        let mut spec = bundle.oci(["spec", "--bundle"]).arg(&bundle.dir);
        if !is_root(&rbox) {
            spec = spec.arg("--rootless");
        }
        spec.run();
        let path = bundle.dir.join("config.json");
        bundle.config = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        bundle.config["process"]["terminal"] = json!(false);
        let bundle = bundle.command(&["echo", "runs"]);
        run(&bundle).stdout("runs\n").run();
        bundle
            .oci(["spec", "--bundle"])
            .arg(&bundle.dir)
            .stderr("file [DIR]/work/bundle/config.json exists; remove it first\n")
            .status(1)
            .run();
    }
}

/// Every place in a document, as a JSON pointer.
fn places(value: &Value, at: &str, found: &mut Vec<String>) {
    found.push(at.to_owned());
    match value {
        Value::Object(map) => {
            for (name, value) in map {
                places(value, &format!("{at}/{name}"), found);
            }
        }
        Value::Array(items) => {
            for (index, value) in items.iter().enumerate() {
                places(value, &format!("{at}/{index}"), found);
            }
        }
        _ => {}
    }
}

/// Each place of a configuration is replaced by something of another kind: a container comes of it or an error, and
/// of an error nothing else.
#[test]
fn of_bad_input_nothing_is_left() {
    let rbox = Rbox::new();
    let mut bundle = Bundle::new(&rbox);
    let process = &mut bundle.config["process"];
    process["rlimits"] = json!([{"type": "RLIMIT_CORE", "soft": 0, "hard": 0}]);
    process["oomScoreAdj"] = json!(0);
    bundle.config["hooks"] = json!({"poststop": [{"path": "/bin/true", "timeout": 5}]});
    bundle.config["linux"]["devices"] = json!([{"path": "/dev/pipe", "type": "p"}]);
    let whole = bundle.config.clone();
    let mut all = Vec::new();
    places(&whole, "", &mut all);
    let junk = [json!(-1), json!("\u{7}junk\n"), json!({"a": []})];
    let log = rbox.work("log.json");
    let (mut refused, mut taken) = (0, 0);
    for (index, place) in all.iter().enumerate() {
        bundle.config = whole.clone();
        *bundle.config.pointer_mut(place).unwrap() = junk[index % junk.len()].clone();
        bundle.write();
        for file in ["out", "err"] {
            std::fs::remove_file(bundle.dir.join(file)).ok();
        }
        let create = bundle
            .leaving([
                "--log",
                log.to_str().unwrap(),
                "--log-format",
                "json",
                "create",
                "-b",
            ])
            .arg(&bundle.dir)
            .arg("one")
            .status_any()
            .run();
        if create.status.success() {
            assert!(!bundle.said().contains("config.json: "), "{place}");
            taken += 1;
            bundle.delete("one");
        }
        let left = std::fs::read_dir(bundle.root()).map_or(0, Iterator::count);
        assert_eq!(left, 0, "{place}");
        if !create.status.success() {
            refused += 1;
            let said = bundle.said();
            assert_eq!(create.status.code(), Some(1), "{place}: {said}");
            let first = said.lines().next().unwrap_or_default();
            assert!(!first.is_empty(), "{place}");
            if !first.starts_with("config.json: ") {
                continue;
            }
            assert_eq!(said.lines().count(), 1, "{place}: {said}");
            let logged = std::fs::read_to_string(&log).unwrap();
            let logged: Value = serde_json::from_str(logged.lines().last().unwrap()).unwrap();
            assert_eq!(logged["level"], "error");
            assert_eq!(logged["msg"], first);
        }
    }
    assert!(
        refused > 60 && taken > 0,
        "{refused} refused, {taken} taken"
    );
}
