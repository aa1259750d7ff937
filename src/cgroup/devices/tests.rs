//! The compiler against a plain reading of the rules, and the kernel's own verdict.

use std::fs::OpenOptions;
use std::process::Command;

use proptest::prelude::*;
use serde_json::json;

use super::compile::*;
use super::*;
use crate::cgroup::tests::Place;
use crate::cgroup::tests::inside;
use crate::error;
use crate::sys::bpf::Instruction;

/// An access, as the kernel tells it to the program.
#[derive(Clone, Copy, Debug)]
struct Access {
    kind: u32,
    major: u32,
    minor: u32,
    wanted: u32,
}

/// Each bit by itself: the last rule that speaks of it decides.
fn is_allowed(rules: &[Rule], access: Access) -> bool {
    let speaks = |rule: &Rule, bit: u32| {
        rule.kind.is_none_or(|kind| kind == access.kind)
            && rule.major.is_none_or(|major| major == access.major)
            && rule.minor.is_none_or(|minor| minor == access.minor)
            && rule.access & bit != 0
    };
    let decide = |bit: u32| {
        let last = rules.iter().rfind(|rule| speaks(rule, bit));
        last.is_some_and(|rule| rule.allow)
    };
    [MAKE, READ, WRITE]
        .into_iter()
        .filter(|bit| access.wanted & bit != 0)
        .all(decide)
}

/// As much of eBPF as the programs use; panics where the kernel's verifier would refuse.
fn interpret(program: &[Instruction], access: Access) -> bool {
    let memory = [
        access.wanted << 16 | access.kind,
        access.major,
        access.minor,
    ];
    let mut registers: [Option<u64>; 11] = [None; 11];
    registers[1] = Some(0);
    let mut at = 0;
    loop {
        let Instruction {
            code,
            registers: both,
            offset,
            immediate,
        } = program[at];
        at += 1;
        let (to, from) = (usize::from(both & 15), usize::from(both >> 4));
        let word = immediate.cast_unsigned();
        let low = |register: Option<u64>| u32::try_from(register.expect("a set register")).unwrap();
        let jumps = match code {
            LOAD_WORD => {
                assert_eq!(from, 1, "memory is behind r1");
                registers[to] = Some(memory[usize::try_from(offset).unwrap() / 4].into());
                false
            }
            COPY => {
                registers[to] = registers[from];
                false
            }
            SET => {
                registers[to] = Some(word.into());
                false
            }
            AND => {
                registers[to] = Some((low(registers[to]) & word).into());
                false
            }
            SHIFT_RIGHT => {
                registers[to] = Some((low(registers[to]) >> word).into());
                false
            }
            JUMP => true,
            JUMP_IF_NOT_EQUAL => low(registers[to]) != word,
            JUMP_IF_BITS => low(registers[to]) & word != 0,
            EXIT => return registers[0].expect("an answer") == 1,
            code => panic!("instruction {code:#x}"),
        };
        if jumps {
            assert!(offset >= 0, "no loops");
            at += usize::try_from(offset).unwrap();
        }
    }
}

fn rule() -> impl Strategy<Value = Rule> {
    let kind = prop_oneof![Just(None), Just(Some(BLOCK)), Just(Some(CHARACTER))];
    let number = || prop_oneof![Just(None), (0u32..3).prop_map(Some), Just(Some(u32::MAX))];
    (any::<bool>(), kind, number(), number(), 1u32..8).prop_map(
        |(allow, kind, major, minor, access)| Rule {
            allow,
            kind,
            major,
            minor,
            access,
        },
    )
}

fn access() -> impl Strategy<Value = Access> {
    let number = || prop_oneof![0u32..3, Just(u32::MAX)];
    (BLOCK..=CHARACTER, number(), number(), 0u32..8).prop_map(|(kind, major, minor, wanted)| {
        Access {
            kind,
            major,
            minor,
            wanted,
        }
    })
}

proptest! {
    #[test]
    fn programs_do_what_the_rules_say(
        rules in proptest::collection::vec(rule(), 0..8),
        accesses in proptest::collection::vec(access(), 32),
    ) {
        let program = compile(&rules);
        for access in accesses {
            let expected = is_allowed(&rules, access);
            prop_assert_eq!(interpret(&program, access), expected, "{:?}", access);
        }
    }
}

fn list(rules: serde_json::Value) -> Vec<LinuxDeviceCgroup> {
    serde_json::from_value(rules).unwrap()
}

#[test]
fn rules_of_a_config_are_checked() {
    let checked = |json| check(&list(json));
    let everything = Rule {
        allow: false,
        kind: None,
        major: None,
        minor: None,
        access: ALL,
    };
    assert_eq!(checked(json!([{"allow": false}])).unwrap(), [everything]);
    // As in version 1 of control groups, "a" is for all ways of access.
    let some = json!([{"allow": false, "type": "a", "major": -1, "access": "r"}]);
    assert_eq!(checked(some).unwrap(), [everything]);
    // But with a number it does not speak of all devices.
    let fuse = json!([{"allow": true, "type": "a", "major": 10, "minor": 229, "access": "rw"}]);
    let expected = Rule {
        allow: true,
        major: Some(10),
        minor: Some(229),
        access: READ | WRITE,
        ..everything
    };
    assert_eq!(checked(fuse).unwrap(), [expected]);
    for (rule, why) in [
        (
            json!({"allow": true}),
            "access: expected some of r, w and m",
        ),
        (
            json!({"allow": true, "access": "rx"}),
            "access 'x': expected some of r, w and m",
        ),
        (
            json!({"allow": true, "type": "p", "access": "r"}),
            "type \"p\": expected a, b or c",
        ),
        (
            json!({"allow": true, "type": "c", "major": -2, "access": "r"}),
            "major -2: expected the number of a device, or -1 for each",
        ),
        (
            json!({"allow": true, "type": "c", "minor": 4_294_967_296_u64, "access": "r"}),
            "minor 4294967296: expected the number of a device, or -1 for each",
        ),
    ] {
        let err = checked(json!([{"allow": false}, rule])).unwrap_err();
        assert_eq!(
            error::message(&err),
            format!("linux.resources.devices[1].{why}")
        );
    }
}

/// What a shell in the group says to a few accesses.
fn tried(group: &Group) -> String {
    // The shell moves itself: what it opens before is not restricted.
    let script = "echo $$ > \"$0/cgroup.procs\" || exit 1
        try() { (eval \"$2\") 2>/dev/null && echo \"$1 yes\" || echo \"$1 no\"; }
        try null 'echo > /dev/null'
        try zero 'head -c1 < /dev/zero > /dev/null'
        try kmsg-read ': < /dev/kmsg'
        try kmsg-write ': > /dev/kmsg'
        try kmsg-both ': <> /dev/kmsg'
        d=$(mktemp -d); try mknod 'mknod $d/n c 10 229'; try fuse ': <> $d/n'; rm -r $d";
    let mut shell = Command::new("sh");
    let output = shell
        .args(["-c", script])
        .arg(group.path())
        .output()
        .unwrap();
    String::from_utf8(output.stdout)
        .unwrap()
        .replace('\n', ", ")
}

#[test]
fn the_kernel_takes_the_programs_and_replaces_them() {
    let Some(place) = Place::make() else { return };
    assert!(are_restrictable());
    OpenOptions::new()
        .write(true)
        .open("/dev/kmsg")
        .expect("a kernel log for this test");
    let group = inside(&place.0, "inner");
    let restrict = |rules| restrict(&group, &list(rules)).unwrap();
    let programs = || DeviceProgram::attached(group.as_fd(), NAME).unwrap().len();
    let all =
        "null yes, zero yes, kmsg-read yes, kmsg-write yes, kmsg-both yes, mknod yes, fuse yes, ";
    assert_eq!(tried(&group), all);

    restrict(json!([{"allow": false, "access": "rwm"}]));
    assert_eq!(programs(), 1);
    let none =
        "null yes, zero yes, kmsg-read no, kmsg-write no, kmsg-both no, mknod yes, fuse no, ";
    assert_eq!(tried(&group), none);

    restrict(json!([
        {"allow": false, "access": "rwm"},
        {"allow": true, "type": "c", "major": 1, "minor": 11, "access": "rw"},
        {"allow": false, "type": "c", "major": 1, "minor": 11, "access": "w"},
        {"allow": true, "type": "c", "major": 10, "minor": 229, "access": "rw"},
    ]));
    assert_eq!(programs(), 1);
    let some =
        "null yes, zero yes, kmsg-read yes, kmsg-write no, kmsg-both no, mknod yes, fuse yes, ";
    assert_eq!(tried(&group), some);

    restrict(json!([{"allow": true, "access": "rwm"}]));
    assert_eq!(programs(), 0);
    assert_eq!(tried(&group), all);
    // A long list is no trouble.
    let many: Vec<_> = (0..300)
        .map(
            |minor| json!({"allow": true, "type": "b", "major": 8, "minor": minor, "access": "rw"}),
        )
        .collect();
    restrict(many.into());
    assert_eq!(tried(&group), none);
}
