//! The JSON schemas of the runtime specification 1.3 for Linux, as shapes. Two things differ, as in runc: a device's
//! `fileMode` may have the bits of its type, and `rootfsPropagation` an `r` for its own sake.

use crate::oci::runtime::shape::Shape;
use crate::oci::runtime::shape::Shape::Bool;
use crate::oci::runtime::shape::Shape::Form;
use crate::oci::runtime::shape::Shape::Integer;
use crate::oci::runtime::shape::Shape::List;
use crate::oci::runtime::shape::Shape::Map;
use crate::oci::runtime::shape::Shape::Name;
use crate::oci::runtime::shape::Shape::Object;
use crate::oci::runtime::shape::Shape::Text;
use crate::oci::runtime::shape::may;
use crate::oci::runtime::shape::must;

const I32: Shape = Integer(i32::MIN as i128, i32::MAX as i128);
const I64: Shape = Integer(i64::MIN as i128, i64::MAX as i128);
const U16: Shape = Integer(0, u16::MAX as i128);
const U32: Shape = Integer(0, u32::MAX as i128);
const U64: Shape = Integer(0, u64::MAX as i128);
const TEXTS: Shape = List(&Text);

pub const SPEC: Shape = Object(&[
    must("ociVersion", Form("a version such as 1.3.0", is_version)),
    may("root", Object(&[must("path", Text), may("readonly", Bool)])),
    may("process", PROCESS),
    may("hostname", Text),
    may("domainname", Text),
    may("mounts", List(&MOUNT)),
    may("hooks", HOOKS),
    may("annotations", Map(&Text)),
    may("linux", LINUX),
]);

pub const PROCESS: Shape = Object(&[
    may("terminal", Bool),
    may(
        "consoleSize",
        Object(&[must("height", U64), must("width", U64)]),
    ),
    may(
        "user",
        Object(&[
            may("uid", U32),
            may("gid", U32),
            may("umask", U32),
            may("additionalGids", List(&U32)),
        ]),
    ),
    may("args", TEXTS),
    may("env", TEXTS),
    must("cwd", Text),
    may("capabilities", CAPABILITIES),
    may("rlimits", List(&RLIMIT)),
    may("noNewPrivileges", Bool),
    may("apparmorProfile", Text),
    may("oomScoreAdj", Integer(-1000, 1000)),
    may("selinuxLabel", Text),
    may(
        "ioPriority",
        Object(&[
            must("class", Name("class", IO_CLASSES)),
            may("priority", Integer(0, 7)),
        ]),
    ),
    may("scheduler", SCHEDULER),
    may(
        "execCPUAffinity",
        Object(&[may("initial", CPUS), may("final", CPUS)]),
    ),
]);

const CPUS: Shape = Form("a list of CPUs such as 0-3,7", is_list_of_numbers);

const CAPABILITIES: Shape = Object(&[
    may("bounding", TEXTS),
    may("effective", TEXTS),
    may("inheritable", TEXTS),
    may("permitted", TEXTS),
    may("ambient", TEXTS),
]);

const RLIMIT: Shape = Object(&[
    must("type", Name("limit", RLIMITS)),
    must("soft", U64),
    must("hard", U64),
]);

const RLIMITS: &[&str] = &[
    "RLIMIT_AS",
    "RLIMIT_CORE",
    "RLIMIT_CPU",
    "RLIMIT_DATA",
    "RLIMIT_FSIZE",
    "RLIMIT_LOCKS",
    "RLIMIT_MEMLOCK",
    "RLIMIT_MSGQUEUE",
    "RLIMIT_NICE",
    "RLIMIT_NOFILE",
    "RLIMIT_NPROC",
    "RLIMIT_RSS",
    "RLIMIT_RTPRIO",
    "RLIMIT_RTTIME",
    "RLIMIT_SIGPENDING",
    "RLIMIT_STACK",
];

const IO_CLASSES: &[&str] = &["IOPRIO_CLASS_RT", "IOPRIO_CLASS_BE", "IOPRIO_CLASS_IDLE"];

const SCHEDULER: Shape = Object(&[
    must("policy", Name("policy", POLICIES)),
    may("nice", Integer(-20, 19)),
    may("priority", I32),
    may("flags", List(&Name("flag", SCHEDULER_FLAGS))),
    may("runtime", U64),
    may("deadline", U64),
    may("period", U64),
]);

const POLICIES: &[&str] = &[
    "SCHED_OTHER",
    "SCHED_FIFO",
    "SCHED_RR",
    "SCHED_BATCH",
    "SCHED_ISO",
    "SCHED_IDLE",
    "SCHED_DEADLINE",
];

const SCHEDULER_FLAGS: &[&str] = &[
    "SCHED_FLAG_RESET_ON_FORK",
    "SCHED_FLAG_RECLAIM",
    "SCHED_FLAG_DL_OVERRUN",
    "SCHED_FLAG_KEEP_POLICY",
    "SCHED_FLAG_KEEP_PARAMS",
    "SCHED_FLAG_UTIL_CLAMP_MIN",
    "SCHED_FLAG_UTIL_CLAMP_MAX",
];

const MAPPINGS: Shape = List(&Object(&[
    must("containerID", U32),
    must("hostID", U32),
    must("size", U32),
]));

const MOUNT: Shape = Object(&[
    must("destination", Text),
    may("type", Text),
    may("source", Text),
    may("options", TEXTS),
    may("uidMappings", MAPPINGS),
    may("gidMappings", MAPPINGS),
]);

const HOOKS: Shape = Object(&[
    may("prestart", HOOK),
    may("createRuntime", HOOK),
    may("createContainer", HOOK),
    may("startContainer", HOOK),
    may("poststart", HOOK),
    may("poststop", HOOK),
]);

const HOOK: Shape = List(&Object(&[
    must("path", Text),
    may("args", TEXTS),
    may("env", TEXTS),
    may("timeout", Integer(1, i64::MAX as i128)),
]));

const LINUX: Shape = Object(&[
    may("namespaces", List(&NAMESPACE)),
    may("uidMappings", MAPPINGS),
    may("gidMappings", MAPPINGS),
    may("timeOffsets", Map(&TIME_OFFSET)),
    may("devices", List(&DEVICE)),
    may("netDevices", Map(&Object(&[may("name", Text)]))),
    may("cgroupsPath", Text),
    may("resources", RESOURCES),
    may("rootfsPropagation", Name("propagation", PROPAGATIONS)),
    may("seccomp", SECCOMP),
    may("sysctl", Map(&Text)),
    may("maskedPaths", TEXTS),
    may("readonlyPaths", TEXTS),
    may("mountLabel", Text),
    may("intelRdt", INTEL_RDT),
    may("memoryPolicy", MEMORY_POLICY),
    may("personality", PERSONALITY),
]);

const NAMESPACE: Shape = Object(&[
    must("type", Name("namespace", NAMESPACES)),
    may("path", Text),
]);

pub const NAMESPACES: &[&str] = &[
    "mount", "pid", "network", "uts", "ipc", "user", "cgroup", "time",
];

const TIME_OFFSET: Shape = Object(&[may("secs", I64), may("nanosecs", Integer(0, 999_999_999))]);

const DEVICE: Shape = Object(&[
    must("type", Name("type of device", &["b", "c", "u", "p"])),
    must("path", Text),
    may("major", I64),
    may("minor", I64),
    may("fileMode", Integer(0, 0o177_777)),
    may("uid", U32),
    may("gid", U32),
]);

const PROPAGATIONS: &[&str] = &[
    "private",
    "shared",
    "slave",
    "unbindable",
    "rprivate",
    "rshared",
    "rslave",
    "runbindable",
];

const SECCOMP: Shape = Object(&[
    must("defaultAction", ACTION),
    may("defaultErrnoRet", ERRNO),
    may("flags", List(&Name("flag", FILTER_FLAGS))),
    may("listenerPath", Text),
    may("listenerMetadata", Text),
    may("architectures", List(&Name("architecture", ARCHITECTURES))),
    may("syscalls", List(&SYSCALL)),
]);

/// Linux: the lower half of a filter's answer holds it (`SECCOMP_RET_DATA`).
const ERRNO: Shape = U16;

const SYSCALL: Shape = Object(&[
    must("names", TEXTS),
    must("action", ACTION),
    may("errnoRet", ERRNO),
    may("args", List(&ARGUMENT)),
]);

const ARGUMENT: Shape = Object(&[
    must("index", Integer(0, 5)),
    must("value", U64),
    may("valueTwo", U64),
    must("op", Name("operator", OPERATORS)),
]);

const ACTION: Shape = Name("action", ACTIONS);

pub const ACTIONS: &[&str] = &[
    "SCMP_ACT_KILL",
    "SCMP_ACT_KILL_PROCESS",
    "SCMP_ACT_KILL_THREAD",
    "SCMP_ACT_TRAP",
    "SCMP_ACT_ERRNO",
    "SCMP_ACT_TRACE",
    "SCMP_ACT_ALLOW",
    "SCMP_ACT_LOG",
    "SCMP_ACT_NOTIFY",
];

pub const OPERATORS: &[&str] = &[
    "SCMP_CMP_NE",
    "SCMP_CMP_LT",
    "SCMP_CMP_LE",
    "SCMP_CMP_EQ",
    "SCMP_CMP_GE",
    "SCMP_CMP_GT",
    "SCMP_CMP_MASKED_EQ",
];

pub const FILTER_FLAGS: &[&str] = &[
    "SECCOMP_FILTER_FLAG_TSYNC",
    "SECCOMP_FILTER_FLAG_LOG",
    "SECCOMP_FILTER_FLAG_SPEC_ALLOW",
    "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV",
];

pub const ARCHITECTURES: &[&str] = &[
    "SCMP_ARCH_X86",
    "SCMP_ARCH_X86_64",
    "SCMP_ARCH_X32",
    "SCMP_ARCH_ARM",
    "SCMP_ARCH_AARCH64",
    "SCMP_ARCH_LOONGARCH64",
    "SCMP_ARCH_M68K",
    "SCMP_ARCH_MIPS",
    "SCMP_ARCH_MIPS64",
    "SCMP_ARCH_MIPS64N32",
    "SCMP_ARCH_MIPSEL",
    "SCMP_ARCH_MIPSEL64",
    "SCMP_ARCH_MIPSEL64N32",
    "SCMP_ARCH_PPC",
    "SCMP_ARCH_PPC64",
    "SCMP_ARCH_PPC64LE",
    "SCMP_ARCH_S390",
    "SCMP_ARCH_S390X",
    "SCMP_ARCH_SH",
    "SCMP_ARCH_SHEB",
    "SCMP_ARCH_PARISC",
    "SCMP_ARCH_PARISC64",
    "SCMP_ARCH_RISCV64",
];

const INTEL_RDT: Shape = Object(&[
    may("closID", Form("the name of a directory", is_file_name)),
    may("schemata", TEXTS),
    may("l3CacheSchema", Text),
    may(
        "memBwSchema",
        Form("a line that begins with MB:", is_bandwidth),
    ),
    may("enableMonitoring", Bool),
]);

const MEMORY_POLICY: Shape = Object(&[
    must("mode", Name("mode", MEMORY_MODES)),
    may(
        "nodes",
        Form("a list of nodes such as 0-3,7", is_list_of_numbers),
    ),
    may("flags", List(&Name("flag", MEMORY_FLAGS))),
]);

pub const MEMORY_MODES: &[&str] = &[
    "MPOL_DEFAULT",
    "MPOL_BIND",
    "MPOL_INTERLEAVE",
    "MPOL_WEIGHTED_INTERLEAVE",
    "MPOL_PREFERRED",
    "MPOL_PREFERRED_MANY",
    "MPOL_LOCAL",
];

pub const MEMORY_FLAGS: &[&str] = &[
    "MPOL_F_NUMA_BALANCING",
    "MPOL_F_RELATIVE_NODES",
    "MPOL_F_STATIC_NODES",
];

const PERSONALITY: Shape = Object(&[
    must("domain", Name("domain", &["LINUX", "LINUX32"])),
    may("flags", TEXTS),
]);

pub const RESOURCES: Shape = Object(&[
    may("devices", List(&DEVICE_RULE)),
    may(
        "memory",
        Object(&[
            may("limit", I64),
            may("reservation", I64),
            may("swap", I64),
            may("kernel", I64),
            may("kernelTCP", I64),
            may("swappiness", U64),
            may("disableOOMKiller", Bool),
            may("useHierarchy", Bool),
            may("checkBeforeUpdate", Bool),
        ]),
    ),
    may(
        "cpu",
        Object(&[
            may("shares", U64),
            may("quota", I64),
            may("burst", U64),
            may("period", U64),
            may("realtimeRuntime", I64),
            may("realtimePeriod", U64),
            may("cpus", CPUS),
            may(
                "mems",
                Form("a list of nodes such as 0-3,7", is_list_of_numbers),
            ),
            may("idle", I64),
        ]),
    ),
    may("pids", Object(&[must("limit", I64)])),
    may("blockIO", BLOCK_IO),
    may(
        "hugepageLimits",
        List(&Object(&[
            must(
                "pageSize",
                Form("a size such as 64KB, 2MB or 1GB", is_page_size),
            ),
            must("limit", U64),
        ])),
    ),
    may(
        "network",
        Object(&[
            may("classID", U32),
            may(
                "priorities",
                List(&Object(&[must("name", Text), must("priority", U32)])),
            ),
        ]),
    ),
    may(
        "rdma",
        Map(&Object(&[may("hcaHandles", U32), may("hcaObjects", U32)])),
    ),
    may("unified", Map(&Text)),
]);

const DEVICE_RULE: Shape = Object(&[
    must("allow", Bool),
    may("type", Name("type of device", &["a", "b", "c"])),
    may("major", I64),
    may("minor", I64),
    may("access", Form("letters of rwm", is_access)),
]);

const BLOCK_IO: Shape = Object(&[
    may("weight", U16),
    may("leafWeight", U16),
    may("weightDevice", List(&WEIGHT)),
    may("throttleReadBpsDevice", List(&THROTTLE)),
    may("throttleWriteBpsDevice", List(&THROTTLE)),
    may("throttleReadIOPSDevice", List(&THROTTLE)),
    may("throttleWriteIOPSDevice", List(&THROTTLE)),
]);

const WEIGHT: Shape = Object(&[
    must("major", I64),
    must("minor", I64),
    may("weight", U16),
    may("leafWeight", U16),
]);

const THROTTLE: Shape = Object(&[must("major", I64), must("minor", I64), may("rate", U64)]);

/// Semantic versioning 2.0.0, of the major version that there is, or of one before it, as the example of the schemas has.
fn is_version(text: &str) -> bool {
    let core = text.split(['-', '+']).next().unwrap_or_default();
    let numbers: Vec<Option<u32>> = core.split('.').map(|part| part.parse().ok()).collect();
    let extra = &text[core.len()..];
    let fits = |c: char| c.is_ascii_alphanumeric() || "-+.".contains(c);
    matches!(numbers[..], [Some(0 | 1), Some(_), Some(_)])
        && extra.chars().all(fits)
        && extra.len() != 1
}

/// Linux: the list format of cpuset(7).
fn is_list_of_numbers(text: &str) -> bool {
    text.split(',').all(|part| {
        let part = part.trim();
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        match (first.parse::<u16>(), last.parse::<u16>()) {
            (Ok(first), Ok(last)) => first <= last,
            _ => false,
        }
    })
}

fn is_page_size(text: &str) -> bool {
    let number = ["KB", "MB", "GB"]
        .iter()
        .find_map(|unit| text.strip_suffix(unit));
    number.is_some_and(|number| !number.starts_with(['0', '+']) && number.parse::<u64>().is_ok())
}

fn is_access(text: &str) -> bool {
    text.chars().all(|c| "rwm".contains(c))
}

pub fn is_file_name(text: &str) -> bool {
    !matches!(text, "" | "." | "..") && !text.contains('/') && text.len() <= 255
}

fn is_bandwidth(text: &str) -> bool {
    text.starts_with("MB:") && !text.contains('\n')
}
