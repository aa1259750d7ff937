//! The conversion of resources.

use serde_json::json;

use super::*;
use crate::error;

fn of(json: serde_json::Value) -> Result<Settings> {
    settings(&serde_json::from_value(json).unwrap())
}

/// `file=value` of each setting; `?` marks the optional, `|` what is instead.
#[track_caller]
fn lines(json: serde_json::Value) -> Vec<String> {
    let line = |setting: Setting| {
        let mark = if setting.optional { "?" } else { "" };
        let instead = setting
            .instead
            .map(|(file, value)| format!("|{file}={value}"));
        let instead = instead.unwrap_or_default();
        format!("{}={}{mark}{instead}", setting.file, setting.value)
    };
    of(json).unwrap().list.into_iter().map(line).collect()
}

#[track_caller]
fn refusal(json: serde_json::Value) -> String {
    error::message(&of(json).unwrap_err())
}

#[test]
fn what_is_zero_or_absent_is_not_set() {
    let zeros = json!({
        "memory": {"limit": 0, "reservation": 0, "swap": 0, "kernel": 0, "kernelTCP": -1,
            "swappiness": u64::MAX, "disableOOMKiller": false},
        "cpu": {"shares": 0, "quota": 0, "period": 0, "realtimeRuntime": 0, "realtimePeriod": 0, "cpus": "", "mems": ""},
        "blockIO": {"weight": 0, "leafWeight": 0, "weightDevice": [{"major": 8, "minor": 0, "weight": 0}]},
        "network": {"classID": 0, "priorities": []},
        "hugepageLimits": [], "rdma": {}, "unified": {}
    });
    assert_eq!(lines(zeros), [""; 0]);
    let nothing = json!({"memory": {}, "devices": [{"allow": false, "access": "rwm"}]});
    assert_eq!(lines(nothing), [""; 0]);
}

#[test]
fn memory_and_swap_are_told_apart() {
    let memory = |json| lines(json!({ "memory": json }));
    assert_eq!(
        memory(json!({"limit": 1000, "reservation": 500})),
        ["memory.max=1000", "memory.low=500"]
    );
    assert_eq!(
        memory(json!({"limit": 1000, "swap": 1500})),
        ["memory.swap.max=500", "memory.max=1000"]
    );
    assert_eq!(
        memory(json!({"limit": 1000, "swap": 1000})),
        ["memory.swap.max=0?", "memory.max=1000"]
    );
    assert_eq!(
        memory(json!({"limit": 1000, "swap": -1})),
        ["memory.swap.max=max?", "memory.max=1000"]
    );
    assert_eq!(
        memory(json!({"limit": -1})),
        ["memory.swap.max=max?", "memory.max=max?"]
    );
    assert_eq!(
        memory(json!({"limit": -1, "swap": 700})),
        ["memory.swap.max=700", "memory.max=max?"]
    );
    assert_eq!(memory(json!({"swap": -1})), ["memory.swap.max=max?"]);
    assert_eq!(
        refusal(json!({"memory": {"swap": 5}})),
        "memory.swap 5 is memory and swap together: expected memory.limit beside it"
    );
    assert_eq!(
        refusal(json!({"memory": {"limit": 6, "swap": 5}})),
        "memory.swap 5 is memory and swap together: expected at least memory.limit, 6"
    );
    let checked = of(json!({"memory": {"limit": 1000, "checkBeforeUpdate": true}})).unwrap();
    assert_eq!(checked.checked_memory, Some(1000));
}

#[test]
fn what_version_2_does_not_have_is_refused() {
    for (resources, what) in [
        (json!({"memory": {"kernel": 1}}), "memory.kernel"),
        (json!({"memory": {"kernelTCP": 1}}), "memory.kernelTCP"),
        (json!({"memory": {"swappiness": 0}}), "memory.swappiness"),
        (
            json!({"memory": {"disableOOMKiller": true}}),
            "memory.disableOOMKiller",
        ),
        (
            json!({"cpu": {"realtimeRuntime": 5}}),
            "cpu.realtimeRuntime and cpu.realtimePeriod",
        ),
        (json!({"blockIO": {"leafWeight": 10}}), "blockIO.leafWeight"),
        (
            json!({"network": {"classID": 1}}),
            "network.classID and network.priorities",
        ),
    ] {
        let expected = format!("cannot set {what}: control groups of version 2 do not have it");
        assert_eq!(refusal(resources), expected);
    }
}

#[test]
fn shares_become_weights() {
    // The table of the proposal that runc and crun follow, and the ends.
    for (shares, weight) in [
        (1, 1),
        (2, 1),
        (3, 2),
        (100, 17),
        (512, 59),
        (1024, 100),
        (2048, 174),
        (262_143, 10_000),
        (262_144, 10_000),
        (u64::MAX, 10_000),
    ] {
        let mark = if weight == 100 { "?" } else { "" };
        assert_eq!(
            lines(json!({"cpu": {"shares": shares}})),
            [format!("cpu.weight={weight}{mark}")],
            "{shares}"
        );
    }
}

#[test]
fn processor_time_and_sets() {
    let cpu = |json| lines(json!({ "cpu": json }));
    assert_eq!(cpu(json!({"quota": 50_000})), ["cpu.max=50000 100000"]);
    assert_eq!(
        cpu(json!({"quota": 50_000, "period": 20_000, "burst": 10})),
        ["cpu.max=50000 20000", "cpu.max.burst=10"]
    );
    assert_eq!(cpu(json!({"quota": -1})), ["cpu.max=max 100000?"]);
    assert_eq!(cpu(json!({"period": 5000})), ["cpu.max=max 5000?"]);
    assert_eq!(cpu(json!({"idle": 1, "shares": 512})), ["cpu.idle=1"]);
    assert_eq!(
        cpu(json!({"idle": 0, "shares": 512})),
        ["cpu.idle=0?", "cpu.weight=59"]
    );
    assert_eq!(
        refusal(json!({"cpu": {"idle": 2}})),
        "cpu.idle 2: expected 0 or 1"
    );
    assert_eq!(
        cpu(json!({"cpus": "0-3,5", "mems": "0\n"})),
        ["cpuset.cpus=0-3,5", "cpuset.mems=0"]
    );
    for bad in ["x", "3-1", "0,", "-1", "0-", "9000", "0 1"] {
        let expected = format!("cpu.cpus {bad:?}: expected numbers and ranges, as 0-3,5");
        assert_eq!(refusal(json!({"cpu": {"cpus": bad}})), expected);
    }
    assert_eq!(parse_set("0-2,7"), Some(vec![0, 1, 2, 7]));
}

#[test]
fn pids_have_a_limit_of_zero() {
    let pids = |limit| lines(json!({"pids": {"limit": limit}}));
    assert_eq!(pids(100), ["pids.max=100"]);
    assert_eq!(pids(0), ["pids.max=0?"]);
    assert_eq!(pids(-1), ["pids.max=max?"]);
}

#[test]
fn block_devices() {
    let block = |json| lines(json!({ "blockIO": json }));
    assert_eq!(
        block(json!({"weight": 10})),
        ["io.bfq.weight=10|io.weight=1"]
    );
    assert_eq!(
        block(json!({"weight": 1000})),
        ["io.bfq.weight=1000|io.weight=10000"]
    );
    assert_eq!(
        block(json!({"weightDevice": [{"major": 8, "minor": 16, "weight": 500}]})),
        ["io.bfq.weight=8:16 500|io.weight=8:16 4950"]
    );
    assert_eq!(
        block(json!({
            "throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 1}],
            "throttleWriteBpsDevice": [{"major": 8, "minor": 0, "rate": 2}],
            "throttleReadIOPSDevice": [{"major": 8, "minor": 0, "rate": 3}],
            "throttleWriteIOPSDevice": [{"major": 8, "minor": 0, "rate": 0}],
        })),
        [
            "io.max=8:0 rbps=1",
            "io.max=8:0 wbps=2",
            "io.max=8:0 riops=3",
            "io.max=8:0 wiops=max?"
        ]
    );
    assert_eq!(
        refusal(json!({"blockIO": {"weight": 9}})),
        "blockIO: weight 9: expected 10 to 1000"
    );
    assert_eq!(
        refusal(
            json!({"blockIO": {"throttleReadBpsDevice": [{"major": -1, "minor": 0, "rate": 1}]}})
        ),
        "blockIO: -1:0 is not the number of a device"
    );
}

#[test]
fn pages_and_adapters() {
    assert_eq!(
        lines(json!({"hugepageLimits": [{"pageSize": "2MB", "limit": 4_194_304}]})),
        ["hugetlb.2MB.max=4194304", "hugetlb.2MB.rsvd.max=4194304?"]
    );
    for bad in ["2", "MB", "2mb", "2MB/../x", "2BB", ""] {
        let expected = format!(
            "hugepageLimits: page size {bad:?}: expected a number with KB, MB or GB, as 2MB"
        );
        assert_eq!(
            refusal(json!({"hugepageLimits": [{"pageSize": bad, "limit": 1}]})),
            expected
        );
    }
    assert_eq!(
        lines(
            json!({"rdma": {"mlx5_1": {"hcaHandles": 3, "hcaObjects": 10}, "mlx4_0": {"hcaObjects": 5}}})
        ),
        [
            "rdma.max=mlx4_0 hca_object=5",
            "rdma.max=mlx5_1 hca_handle=3 hca_object=10"
        ]
    );
}

#[test]
fn files_by_their_own_names() {
    let resources =
        json!({"unified": {"memory.high": " 100 ", "io.max": "8:0 rbps=1\n8:16 rbps=2\n"}});
    assert_eq!(
        lines(resources),
        ["io.max=8:0 rbps=1", "io.max=8:16 rbps=2", "memory.high=100"]
    );
    for bad in ["memory", ".x", "memory.", "", "../memory.max", "a/b.c"] {
        let expected = format!(
            "unified: {bad:?} is not a file of a control group: expected CONTROLLER.NAME, as memory.high"
        );
        assert_eq!(refusal(json!({"unified": {bad: "1"}})), expected);
    }
    assert_eq!(
        refusal(json!({"unified": {"cgroup.procs": "1"}})),
        "unified: \"cgroup.procs\" is not a setting"
    );
}
