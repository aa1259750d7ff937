//! Documents of the kinds that the schemas come with, and many more that are wrong in one place.

use std::path::PathBuf;

use proptest::prelude::*;
use serde_json::Value;
use serde_json::json;

use super::*;

/// Everything that there is for Linux, once.
#[expect(clippy::too_many_lines, reason = "one document")]
fn full() -> Value {
    json!({
        "ociVersion": "1.3.0",
        "root": {"path": "rootfs", "readonly": true},
        "hostname": "web",
        "domainname": "example.org",
        "annotations": {"org.example.key": "value", "empty": ""},
        "process": {
            "terminal": true,
            "consoleSize": {"height": 24, "width": 80},
            "user": {"uid": 1, "gid": 2, "umask": 63, "additionalGids": [5, 6], "username": "windows"},
            "args": ["sh", ""],
            "commandLine": "windows",
            "env": ["PATH=/bin", "EMPTY="],
            "cwd": "/",
            "capabilities": {
                "bounding": ["CAP_KILL", "CAP_CHOWN"],
                "effective": ["CAP_KILL"],
                "permitted": ["CAP_KILL"],
                "inheritable": ["CAP_KILL"],
                "ambient": ["CAP_KILL"]
            },
            "rlimits": [
                {"type": "RLIMIT_CORE", "soft": 0, "hard": u64::MAX},
                {"type": "RLIMIT_NOFILE", "soft": 1024, "hard": 1024}
            ],
            "noNewPrivileges": true,
            "apparmorProfile": "profile",
            "selinuxLabel": "system_u:system_r:svirt_lxc_net_t:s0:c124,c675",
            "oomScoreAdj": 100,
            "scheduler": {
                "policy": "SCHED_DEADLINE", "nice": 1, "priority": 0,
                "flags": ["SCHED_FLAG_RESET_ON_FORK", "SCHED_FLAG_DL_OVERRUN", "SCHED_FLAG_RECLAIM"],
                "runtime": 1, "deadline": 2, "period": 3
            },
            "ioPriority": {"class": "IOPRIO_CLASS_IDLE", "priority": 4},
            "execCPUAffinity": {"initial": "7", "final": "0-3, 7"}
        },
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "data", "type": "none", "source": "/data", "options": ["rbind", "ro"],
                "uidMappings": [{"containerID": 0, "hostID": 1000, "size": 10}],
                "gidMappings": [{"containerID": 0, "hostID": 1000, "size": 10}]}
        ],
        "hooks": {
            "prestart": [{"path": "/bin/a", "args": ["a"], "env": ["A=1"], "timeout": 1}],
            "createRuntime": [{"path": "/bin/b"}],
            "createContainer": [{"path": "/bin/c"}],
            "startContainer": [{"path": "/bin/d"}],
            "poststart": [{"path": "/bin/e"}],
            "poststop": [{"path": "/bin/f"}]
        },
        "linux": {
            "namespaces": [
                {"type": "mount"}, {"type": "pid"}, {"type": "network", "path": "/run/netns/a"}, {"type": "uts"},
                {"type": "ipc", "path": ""}, {"type": "user"}, {"type": "cgroup"}, {"type": "time"}
            ],
            "uidMappings": [{"containerID": 0, "hostID": 1000, "size": 1}, {"containerID": 1, "hostID": 2000, "size": 9}],
            "gidMappings": [{"containerID": 0, "hostID": 1000, "size": 10}],
            "timeOffsets": {"boottime": {"secs": -5, "nanosecs": 999_999_999}, "monotonic": {}},
            "devices": [
                {"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229, "fileMode": 438, "uid": 0, "gid": 0},
                {"path": "/dev/pipe", "type": "p"}
            ],
            "netDevices": {"eth0": {"name": "inside"}, "ens4": {}},
            "cgroupsPath": "/a/b",
            "resources": {
                "devices": [{"allow": false, "access": "rwm"}, {"allow": true, "type": "c", "major": 10, "minor": 229, "access": "r"}],
                "memory": {"limit": 1, "reservation": 1, "swap": -1, "kernel": -1, "kernelTCP": -1, "swappiness": 0,
                    "disableOOMKiller": false, "useHierarchy": false, "checkBeforeUpdate": true},
                "cpu": {"shares": 2, "quota": -1, "burst": 0, "period": 1000, "realtimeRuntime": 0, "realtimePeriod": 0,
                    "cpus": "0-1", "mems": "0", "idle": 0},
                "pids": {"limit": -1},
                "blockIO": {"weight": 10, "leafWeight": 10,
                    "weightDevice": [{"major": 8, "minor": 0, "weight": 500}],
                    "throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 600}],
                    "throttleWriteBpsDevice": [], "throttleReadIOPSDevice": [], "throttleWriteIOPSDevice": []},
                "hugepageLimits": [{"pageSize": "2MB", "limit": u64::MAX}],
                "network": {"classID": 1, "priorities": [{"name": "eth0", "priority": 5}]},
                "rdma": {"mlx5_1": {"hcaHandles": 3, "hcaObjects": 10000}, "rxe3": {"hcaObjects": 1}},
                "unified": {"memory.max": "1000"}
            },
            "rootfsPropagation": "rslave",
            "seccomp": {
                "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 38,
                "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_LOONGARCH64"],
                "flags": ["SECCOMP_FILTER_FLAG_LOG"],
                "listenerPath": "/run/listener", "listenerMetadata": "text",
                "syscalls": [
                    {"names": ["read", "write"], "action": "SCMP_ACT_ALLOW",
                        "args": [{"index": 5, "value": u64::MAX, "valueTwo": 1, "op": "SCMP_CMP_MASKED_EQ"}]},
                    {"names": ["mount"], "action": "SCMP_ACT_NOTIFY"}
                ]
            },
            "sysctl": {"net.ipv4.ip_forward": "1", "net/ipv4/conf/eth0.1/forwarding": "1", "kernel.shmmax": "1",
                "fs.mqueue.msg_max": "10", "kernel.domainname": "x", "user.max_user_namespaces": "1"},
            "maskedPaths": ["/proc/kcore"],
            "readonlyPaths": ["/proc/sys"],
            "mountLabel": "system_u:object_r:svirt_sandbox_file_t:s0:c715,c811",
            "intelRdt": {"closID": "a", "schemata": ["L3:0=f"], "l3CacheSchema": "L3:0=f", "memBwSchema": "MB:0=20", "enableMonitoring": true},
            "memoryPolicy": {"mode": "MPOL_BIND", "nodes": "0-3,7", "flags": ["MPOL_F_STATIC_NODES"]},
            "personality": {"domain": "LINUX32", "flags": []}
        },
        "windows": 1, "uidMappings": "unknown here", "futureThing": [{}]
    })
}

fn ignore(_: String) {}

fn parse_value(value: &Value) -> Result<Spec, Mistake> {
    parse(value.to_string().as_bytes(), &mut ignore)
}

/// What is said of the full document with one place changed; null takes the place away.
fn said_with(pointer: &str, value: Value) -> String {
    let mut document = full();
    let (above, last) = pointer.rsplit_once('/').unwrap();
    match document.pointer_mut(above).expect(above) {
        Value::Object(map) => drop(map.insert(last.replace("~1", "/"), value)),
        Value::Array(items) if last == "+" => items.push(value),
        Value::Array(items) => items[last.parse::<usize>().unwrap()] = value,
        _ => panic!("{above}"),
    }
    match parse_value(&document) {
        Ok(_) => "good".into(),
        Err(mistake) => mistake.to_string(),
    }
}

#[test]
fn everything_is_understood() {
    let spec = parse_value(&full()).unwrap();
    let linux = spec.linux().as_ref().unwrap();
    let process = spec.process().as_ref().unwrap();
    let flags = process.scheduler().as_ref().unwrap().flags();
    let flags = format!("{:?}", flags.as_ref().unwrap());
    assert_eq!(
        flags,
        "[SchedResetOnFork, SchedFlagDLOverrun, SchedFlagReclaim]"
    );
    let affinity = process.exec_cpu_affinity().as_ref().unwrap();
    assert_eq!(affinity.cpu_affinity_final().as_deref(), Some("0-3,7"));
    let pages = linux.resources().as_ref().unwrap().hugepage_limits();
    assert_eq!(pages.as_ref().unwrap()[0].limit(), i64::MAX);
    let mounts = spec.mounts().as_ref().unwrap();
    assert_eq!(mounts[1].destination(), Path::new("/data"));
    let namespaces = linux.namespaces().as_ref().unwrap();
    assert_eq!(*namespaces[4].path(), None);
    check::complete(&spec).unwrap();
}

/// Each of these is one mistake, and these are its place and what is said of it.
const MISTAKES: &[(&str, &str, &str)] = &[
    (
        "/ociVersion",
        "null",
        "ociVersion: missing: expected a version such as 1.3.0",
    ),
    (
        "/ociVersion",
        "\"2.0.0\"",
        "ociVersion: expected a version such as 1.3.0, found string \"2.0.0\"",
    ),
    (
        "/ociVersion",
        "\"1.0\"",
        "ociVersion: expected a version such as 1.3.0, found string \"1.0\"",
    ),
    (
        "/root/path",
        "null",
        "root.path: missing: expected a string",
    ),
    (
        "/root/path",
        "\"\"",
        "root.path: expected a path, found \"\"",
    ),
    (
        "/root/readonly",
        "\"yes\"",
        "root.readonly: expected true or false, found string \"yes\"",
    ),
    (
        "/hostname",
        "5",
        "hostname: expected a string, found integer 5",
    ),
    (
        "/annotations/a",
        "5",
        "annotations.a: expected a string, found integer 5",
    ),
    (
        "/process/args",
        "null",
        "process.args: expected a command, found none",
    ),
    (
        "/process/args",
        "[]",
        "process.args: expected a command, found none",
    ),
    (
        "/process/args/1",
        "3",
        "process.args[1]: expected a string, found integer 3",
    ),
    (
        "/process/args/1",
        "null",
        "process.args[1]: expected a string, found null",
    ),
    (
        "/process/env/1",
        "\"NAME\"",
        "process.env[1]: expected NAME=VALUE, found \"NAME\"",
    ),
    (
        "/process/cwd",
        "null",
        "process.cwd: missing: expected a string",
    ),
    (
        "/process/cwd",
        "\"x\"",
        "process.cwd: \"x\" is not an absolute path",
    ),
    (
        "/process/cwd",
        "\"\"",
        "process.cwd: \"\" is not an absolute path",
    ),
    (
        "/process/user/uid",
        "-1",
        "process.user.uid: expected an integer from 0 to 4294967295, found integer -1",
    ),
    (
        "/process/user/umask",
        "512",
        "process.user.umask: expected an integer from 0 to 511 (0777)",
    ),
    (
        "/process/user/additionalGids/0",
        "\"x\"",
        "process.user.additionalGids[0]: expected an integer from 0 to 4294967295, found string \"x\"",
    ),
    (
        "/process/consoleSize/width",
        "null",
        "process.consoleSize.width: missing: expected an integer from 0 to 18446744073709551615",
    ),
    (
        "/process/consoleSize/width",
        "65536",
        "process.consoleSize.width: expected an integer from 0 to 65535, found 65536",
    ),
    (
        "/process/capabilities/bounding/0",
        "5",
        "process.capabilities.bounding[0]: expected a string, found integer 5",
    ),
    (
        "/process/capabilities/effective/0",
        "\"CAP_SYS_ADMIN\"",
        "process.capabilities.effective: CAP_SYS_ADMIN is not in the permitted set",
    ),
    (
        "/process/rlimits/0/soft",
        "null",
        "process.rlimits[0].soft: missing: expected an integer from 0 to 18446744073709551615",
    ),
    (
        "/process/rlimits/1/soft",
        "1025",
        "process.rlimits[1].soft: expected at most the hard limit 1024, found 1025",
    ),
    (
        "/process/rlimits/1/type",
        "\"RLIMIT_CORE\"",
        "process.rlimits[1].type: RLIMIT_CORE is there twice",
    ),
    (
        "/process/oomScoreAdj",
        "1001",
        "process.oomScoreAdj: expected an integer from -1000 to 1000, found integer 1001",
    ),
    (
        "/process/ioPriority/class",
        "null",
        "process.ioPriority.class: missing: expected a string",
    ),
    (
        "/process/ioPriority/class",
        "\"x\"",
        "process.ioPriority.class: unknown class \"x\": expected one of IOPRIO_CLASS_RT, IOPRIO_CLASS_BE, IOPRIO_CLASS_IDLE",
    ),
    (
        "/process/ioPriority/priority",
        "8",
        "process.ioPriority.priority: expected an integer from 0 to 7, found integer 8",
    ),
    (
        "/process/scheduler/policy",
        "null",
        "process.scheduler.policy: missing: expected a string",
    ),
    (
        "/process/scheduler/policy",
        "\"SCHED_OTHER\"",
        "process.scheduler.runtime: expected with SCHED_DEADLINE only",
    ),
    (
        "/process/scheduler/deadline",
        "null",
        "process.scheduler.deadline: missing: SCHED_DEADLINE needs it",
    ),
    (
        "/process/scheduler/nice",
        "20",
        "process.scheduler.nice: expected an integer from -20 to 19, found integer 20",
    ),
    (
        "/process/scheduler/priority",
        "1",
        "process.scheduler.priority: expected with SCHED_FIFO and SCHED_RR only",
    ),
    (
        "/process/scheduler",
        r#"{"policy": "SCHED_FIFO"}"#,
        "process.scheduler.priority: expected an integer from 1 to 99, found 0",
    ),
    (
        "/process/execCPUAffinity/final",
        "\"3-1\"",
        "process.execCPUAffinity.final: expected a list of CPUs such as 0-3,7, found string \"3-1\"",
    ),
    (
        "/mounts/0/destination",
        "null",
        "mounts[0].destination: missing: expected a string",
    ),
    (
        "/mounts/0/destination",
        "\"/\"",
        "mounts[0].destination: expected a place below /",
    ),
    (
        "/mounts/0/type",
        "null",
        "mounts[0].type: missing: it is no bind mount",
    ),
    (
        "/mounts/0/options",
        "\"ro\"",
        "mounts[0].options: expected a list, found string \"ro\"",
    ),
    (
        "/mounts/1/source",
        "null",
        "mounts[1].source: missing: a bind mount needs it",
    ),
    (
        "/mounts/1/options",
        "[]",
        "mounts[1].uidMappings: expected with bind mounts only",
    ),
    (
        "/mounts/1/gidMappings",
        "null",
        "mounts[1].gidMappings: missing: both mappings are needed, or none",
    ),
    (
        "/mounts/1/uidMappings/0/size",
        "0",
        "mounts[1].uidMappings[0].size: expected an integer above 0, found 0",
    ),
    (
        "/hooks/prestart/0/path",
        "\"a\"",
        "hooks.prestart[0].path: \"a\" is not an absolute path",
    ),
    (
        "/hooks/poststop/0/path",
        "null",
        "hooks.poststop[0].path: missing: expected a string",
    ),
    (
        "/hooks/prestart/0/timeout",
        "0",
        "hooks.prestart[0].timeout: expected an integer from 1 to 9223372036854775807, found integer 0",
    ),
    (
        "/hooks/prestart/0/env/0",
        "\"x\"",
        "hooks.prestart[0].env[0]: expected NAME=VALUE, found \"x\"",
    ),
    ("/linux", "[]", "linux: expected an object, found a list"),
    (
        "/linux/namespaces/2/type",
        "\"foo\"",
        "linux.namespaces[2].type: unknown namespace \"foo\": expected one of mount, pid, network, uts, ipc, user, cgroup, time",
    ),
    (
        "/linux/namespaces/1/type",
        "\"mount\"",
        "linux.namespaces[1].type: the same namespace is there twice",
    ),
    (
        "/linux/namespaces/2/path",
        "\"a\"",
        "linux.namespaces[2].path: \"a\" is not an absolute path",
    ),
    (
        "/linux/uidMappings",
        "null",
        "linux.uidMappings: missing: a new user namespace needs it",
    ),
    (
        "/linux/uidMappings/1/containerID",
        "0",
        "linux.uidMappings[1].containerID: it is mapped twice",
    ),
    (
        "/linux/uidMappings/1/hostID",
        "1000",
        "linux.uidMappings[1].hostID: it is mapped twice",
    ),
    (
        "/linux/uidMappings/1/size",
        "4294967295",
        "linux.uidMappings[1].containerID: 4294967295 ids from 1 on are too many",
    ),
    (
        "/linux/timeOffsets/realtime",
        "{}",
        "linux.timeOffsets.realtime: unknown clock: expected one of boottime, monotonic",
    ),
    (
        "/linux/timeOffsets/boottime/nanosecs",
        "1000000000",
        "linux.timeOffsets.boottime.nanosecs: expected an integer from 0 to 999999999, found integer 1000000000",
    ),
    (
        "/linux/devices/0/type",
        "\"a\"",
        "linux.devices[0].type: unknown type of device \"a\": expected one of b, c, u, p",
    ),
    (
        "/linux/devices/0/major",
        "null",
        "linux.devices[0].major: missing: expected an integer",
    ),
    (
        "/linux/devices/0/minor",
        "-1",
        "linux.devices[0].minor: expected an integer from 0 to 1048575, found -1",
    ),
    (
        "/linux/devices/0/path",
        "\"fuse\"",
        "linux.devices[0].path: \"fuse\" is not an absolute path",
    ),
    (
        "/linux/devices/0/fileMode",
        "65536",
        "linux.devices[0].fileMode: expected an integer from 0 to 65535, found integer 65536",
    ),
    (
        "/linux/netDevices/eth0",
        r#"{"name": 23}"#,
        "linux.netDevices.eth0.name: expected a string, found integer 23",
    ),
    (
        "/linux/netDevices/a:b",
        "{}",
        "linux.netDevices[\"a:b\"]: \"a:b\" is no name of a network interface",
    ),
    (
        "/linux/netDevices/eth0",
        r#"{"name": "ens4"}"#,
        "linux.netDevices.eth0.name: \"ens4\" is there twice",
    ),
    (
        "/linux/resources/pids/limit",
        "null",
        "linux.resources.pids.limit: missing: expected an integer from -9223372036854775808 to 9223372036854775807",
    ),
    (
        "/linux/resources/hugepageLimits/0/pageSize",
        "\"64kB\"",
        "linux.resources.hugepageLimits[0].pageSize: expected a size such as 64KB, 2MB or 1GB, found string \"64kB\"",
    ),
    (
        "/linux/resources/rdma/mlx5_1/hcaHandles",
        "\"not a uint32\"",
        "linux.resources.rdma.mlx5_1.hcaHandles: expected an integer from 0 to 4294967295, found string \"not a uint32\"",
    ),
    (
        "/linux/resources/devices/0/allow",
        "null",
        "linux.resources.devices[0].allow: missing: expected true or false",
    ),
    (
        "/linux/resources/devices/0/access",
        "\"x\"",
        "linux.resources.devices[0].access: expected letters of rwm, found string \"x\"",
    ),
    (
        "/linux/resources/unified/a~1b.c",
        "\"1\"",
        "linux.resources.unified[\"a/b.c\"]: expected the name of a file, found \"a/b.c\"",
    ),
    (
        "/linux/rootfsPropagation",
        "\"x\"",
        "linux.rootfsPropagation: unknown propagation \"x\": expected one of private, shared, slave, unbindable, rprivate, rshared, rslave, runbindable",
    ),
    (
        "/linux/seccomp/defaultAction",
        "null",
        "linux.seccomp.defaultAction: missing: expected a string",
    ),
    (
        "/linux/seccomp/defaultAction",
        "\"SCMP_ACT_NOTIFY\"",
        "linux.seccomp.defaultAction: expected SCMP_ACT_NOTIFY for single system calls only",
    ),
    (
        "/linux/seccomp/defaultAction",
        "\"SCMP_ACT_ALLOW\"",
        "linux.seccomp.defaultErrnoRet: expected with SCMP_ACT_ERRNO and SCMP_ACT_TRACE only",
    ),
    (
        "/linux/seccomp/syscalls/0/names",
        "[]",
        "linux.seccomp.syscalls[0].names: expected a name, found none",
    ),
    (
        "/linux/seccomp/syscalls/0/args/0/index",
        "6",
        "linux.seccomp.syscalls[0].args[0].index: expected an integer from 0 to 5, found integer 6",
    ),
    (
        "/linux/seccomp/listenerPath",
        "null",
        "linux.seccomp.listenerPath: missing: SCMP_ACT_NOTIFY needs it",
    ),
    (
        "/linux/sysctl/vm.swappiness",
        "\"1\"",
        "linux.sysctl[\"vm.swappiness\"]: it is not in a namespace, and would be set for the host",
    ),
    (
        "/linux/sysctl/net.ipv4...x",
        "\"1\"",
        "linux.sysctl[\"net.ipv4...x\"]: it is no name of a kernel parameter",
    ),
    (
        "/linux/sysctl/kernel.hostname",
        "\"x\"",
        "linux.sysctl[\"kernel.hostname\"]: expected without hostname only",
    ),
    (
        "/linux/sysctl/kernel.sem",
        "1",
        "linux.sysctl[\"kernel.sem\"]: expected a string, found integer 1",
    ),
    (
        "/linux/maskedPaths/0",
        "\"x\"",
        "linux.maskedPaths[0]: \"x\" is not an absolute path",
    ),
    (
        "/linux/intelRdt/closID",
        "\"a/b\"",
        "linux.intelRdt.closID: expected the name of a directory, found string \"a/b\"",
    ),
    (
        "/linux/intelRdt/memBwSchema",
        "\"x\"",
        "linux.intelRdt.memBwSchema: expected a line that begins with MB:, found string \"x\"",
    ),
    (
        "/linux/memoryPolicy/mode",
        "null",
        "linux.memoryPolicy.mode: missing: expected a string",
    ),
    (
        "/linux/memoryPolicy/nodes",
        "null",
        "linux.memoryPolicy.nodes: missing: MPOL_BIND needs it",
    ),
    (
        "/linux/memoryPolicy/flags/+",
        "\"MPOL_F_RELATIVE_NODES\"",
        "linux.memoryPolicy.flags: expected one of MPOL_F_STATIC_NODES, MPOL_F_RELATIVE_NODES, found both",
    ),
    (
        "/linux/personality/domain",
        "\"x\"",
        "linux.personality.domain: unknown domain \"x\": expected one of LINUX, LINUX32",
    ),
    (
        "/linux/personality/flags/+",
        "\"x\"",
        "linux.personality.flags[0]: unknown flag \"x\": expected none",
    ),
];

#[test]
fn one_mistake_is_one_line() {
    let mut wrong = Vec::new();
    for (pointer, value, want) in MISTAKES {
        let said = said_with(pointer, serde_json::from_str(value).unwrap());
        if said != *want {
            wrong.push(format!("{pointer} = {value}\n  want {want}\n  got  {said}"));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

/// What asks for a namespace that is not there.
#[test]
fn what_is_of_a_namespace_needs_it() {
    let without = |kind: &str, keep: &[&str]| {
        let mut document = full();
        let Value::Object(linux) = &mut document["linux"] else {
            panic!()
        };
        let Value::Array(namespaces) = &mut linux["namespaces"] else {
            panic!()
        };
        namespaces.retain(|namespace| namespace["type"] != kind);
        linux.retain(|member, _| member == "namespaces" || keep.contains(&member.as_str()));
        if !keep.contains(&"hostname") {
            document["hostname"] = Value::Null;
            document["domainname"] = Value::Null;
        }
        parse_value(&document).unwrap_err().to_string()
    };
    let users = ["uidMappings", "gidMappings"];
    let with = |member: &str| [users[0].to_owned(), users[1].to_owned(), member.to_owned()];
    for (kind, member, at) in [
        ("user", "", "linux.uidMappings"),
        ("uts", "hostname", "hostname"),
        ("network", "netDevices", "linux.netDevices"),
        ("mount", "maskedPaths", "linux.maskedPaths"),
        ("mount", "readonlyPaths", "linux.readonlyPaths"),
        ("ipc", "sysctl", "linux.sysctl[\"fs.mqueue.msg_max\"]"),
        ("network", "sysctl", "linux.sysctl[\"net.ipv4.ip_forward\"]"),
        ("uts", "sysctl", "linux.sysctl[\"kernel.domainname\"]"),
    ] {
        let keep = with(member);
        let keep: Vec<&str> = keep.iter().map(String::as_str).collect();
        let want = format!("{at}: expected namespace \"{kind}\" in linux.namespaces, found none");
        assert_eq!(without(kind, &keep), want);
    }
    assert_eq!(
        without("time", &["uidMappings", "gidMappings", "timeOffsets"]),
        "linux.timeOffsets: expected a new namespace \"time\" in linux.namespaces, found none"
    );
}

#[test]
fn unknown_capabilities_are_told_and_left_out() {
    let mut document = full();
    document["process"]["capabilities"]["bounding"] =
        json!(["CAP_KILL", "CAP_OF_TOMORROW", "kill"]);
    let mut told = Vec::new();
    let spec = parse(document.to_string().as_bytes(), &mut |text| told.push(text)).unwrap();
    assert_eq!(
        told,
        [
            "process.capabilities.bounding: ignoring unknown capability \"CAP_OF_TOMORROW\"",
            "process.capabilities.bounding: ignoring unknown capability \"kill\"",
        ]
    );
    let process = spec.process().as_ref().unwrap();
    let sets = process.capabilities().as_ref().unwrap();
    assert_eq!(sets.bounding().as_ref().unwrap().len(), 1);
}

#[test]
fn a_minimal_document_is_good_and_not_enough_to_run() {
    let whole = |value: Value| {
        let spec = parse_value(&value).map_err(|mistake| mistake.to_string());
        check::complete(&spec?).map_err(|mistake| mistake.to_string())
    };
    let mut value = json!({"ociVersion": "1.0.2-dev"});
    assert_eq!(
        whole(value.clone()),
        Err("root.path: missing: expected a string".into())
    );
    value["root"] = json!({"path": "rootfs"});
    assert_eq!(
        whole(value.clone()),
        Err("process: missing: expected an object".into())
    );
    value["process"] = json!({"cwd": "/", "args": ["sh"]});
    assert_eq!(whole(value), Ok(()));
}

#[test]
fn no_limit_of_processes_was_a_zero_once() {
    let limit = |version: &str| {
        let resources = json!({ "pids": { "limit": 0 } });
        let value = json!({ "ociVersion": version, "linux": { "resources": resources } });
        let spec = parse_value(&value).unwrap();
        let resources = spec.linux().as_ref().unwrap().resources().clone();
        resources.unwrap().pids().as_ref().unwrap().limit()
    };
    let versions = ["1.0.2-dev", "1.2.1", "1.3.0"];
    assert_eq!(versions.map(limit), [-1, -1, 0]);
}

#[test]
fn what_is_no_json_has_a_line_and_a_column() {
    let said = |text: &str| parse(text.as_bytes(), &mut ignore).unwrap_err().to_string();
    assert_eq!(said("{]"), "line 1, column 2: key must be a string");
    assert_eq!(said(""), "line 1, column 0: EOF while parsing a value");
    assert_eq!(said("{}\n}"), "line 2, column 1: trailing characters");
    assert_eq!(said("5"), "expected an object, found integer 5");
    let deep = "[".repeat(100_000);
    assert_eq!(said(&deep), "line 1, column 128: recursion limit exceeded");
    assert_eq!(
        parse(b"{\"a\xff\":1}", &mut ignore)
            .unwrap_err()
            .to_string(),
        "line 1, column 4: invalid unicode code point"
    );
}

#[test]
fn parts_have_paths_of_their_own() {
    let said = parse_process(br#"{"args": ["sh"], "cwd": "x"}"#, &mut ignore);
    assert_eq!(
        said.unwrap_err().to_string(),
        "cwd: \"x\" is not an absolute path"
    );
    let said = parse_resources(br#"{"memory": {"limit": "5"}}"#);
    assert_eq!(
        said.unwrap_err().to_string(),
        "memory.limit: expected an integer from -9223372036854775808 to 9223372036854775807, found string \"5\""
    );
    parse_resources(b"{}").unwrap();
}

#[test]
fn a_file_is_named_and_bounded() {
    let dir = std::env::temp_dir().join(format!("rbox-oci-read-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let path = dir.join("config.json");
    let said = |path: &Path| crate::error::message(&read(path, &mut ignore).unwrap_err());
    assert_eq!(
        said(&path),
        format!("cannot read {path:?}: No such file or directory (os error 2)")
    );
    std::fs::write(&path, r#"{"ociVersion": 1}"#).unwrap();
    assert_eq!(
        said(&path),
        "config.json: ociVersion: expected a version such as 1.3.0, found integer 1"
    );
    std::fs::File::create(&path)
        .unwrap()
        .set_len(LARGEST + 1)
        .unwrap();
    assert_eq!(
        said(&path),
        format!("cannot read {path:?}: it is larger than 8 MiB")
    );
    std::fs::remove_dir_all(&dir).unwrap();
}

/// The examples that come with the schemas, where they are.
#[test]
fn the_examples_of_the_schemas_are_told_apart() {
    let examples = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../shared/reference/oci/runtime-schema/test/config");
    for (folder, good) in [("good", true), ("bad", false)] {
        let Ok(files) = std::fs::read_dir(examples.join(folder)) else {
            continue;
        };
        for file in files {
            let path = file.unwrap().path();
            let text = std::fs::read(&path).unwrap();
            // One of the good has interfaces and no namespace for them, which the schema cannot see.
            let read = checked(&text, &schema::SPEC).map(drop);
            assert_eq!(read.is_ok(), good, "{}: {read:?}", path.display());
        }
    }
}

/// Every place in a document, as a JSON pointer.
fn places(value: &Value, at: &str, found: &mut Vec<String>) {
    found.push(at.to_owned());
    match value {
        Value::Object(map) => {
            for (name, value) in map {
                let name = name.replace('~', "~0").replace('/', "~1");
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

fn junk() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        (-1000_i64..1000).prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,8}".prop_map(Value::from),
        "[/.a-z0-9-]{0,8}".prop_map(Value::from),
        Just(json!([])),
        Just(json!({})),
        Just(json!([[[]]])),
        Just(json!({"": {"": null}})),
        Just(json!("x".repeat(100_000))),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever a document becomes when one, two or three of its places are replaced: no panic, and a mistake is one
    /// line that names a place.
    #[test]
    fn changed_documents_are_refused_in_one_line(
        changes in prop::collection::vec((any::<prop::sample::Index>(), junk()), 1..4)
    ) {
        let mut document = full();
        for (index, value) in changes {
            let mut all = Vec::new();
            places(&document, "", &mut all);
            let place = &all[index.index(all.len())];
            *document.pointer_mut(place).unwrap() = value;
        }
        if let Err(mistake) = parse_value(&document) {
            let said = mistake.to_string();
            prop_assert!(!said.contains('\n') && said.len() < 1000, "{}", said);
            prop_assert!(!document.is_object() || said.contains(": "), "{}", said);
            let top = said.split([':', '.', '[']).next().unwrap();
            let members = ["ociVersion", "root", "process", "hostname", "domainname", "mounts", "hooks", "annotations", "linux"];
            prop_assert!(!document.is_object() || members.contains(&top), "{}", said);
        }
    }

    #[test]
    fn any_bytes_are_refused_in_one_line(text in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Err(mistake) = parse(&text, &mut ignore) {
            let said = mistake.to_string();
            prop_assert!(!said.contains('\n') && said.len() < 1000, "{}", said);
        }
    }
}
