//! Resource limits by the names of setrlimit(2).

use anyhow::Context;
use anyhow::bail;
use rustix::process::Resource;
use rustix::process::Rlimit;

const LIMITS: [(&str, Resource); 16] = [
    ("RLIMIT_AS", Resource::As),
    ("RLIMIT_CORE", Resource::Core),
    ("RLIMIT_CPU", Resource::Cpu),
    ("RLIMIT_DATA", Resource::Data),
    ("RLIMIT_FSIZE", Resource::Fsize),
    ("RLIMIT_LOCKS", Resource::Locks),
    ("RLIMIT_MEMLOCK", Resource::Memlock),
    ("RLIMIT_MSGQUEUE", Resource::Msgqueue),
    ("RLIMIT_NICE", Resource::Nice),
    ("RLIMIT_NOFILE", Resource::Nofile),
    ("RLIMIT_NPROC", Resource::Nproc),
    ("RLIMIT_RSS", Resource::Rss),
    ("RLIMIT_RTPRIO", Resource::Rtprio),
    ("RLIMIT_RTTIME", Resource::Rttime),
    ("RLIMIT_SIGPENDING", Resource::Sigpending),
    ("RLIMIT_STACK", Resource::Stack),
];

/// Sets a limit of this process; `u64::MAX` is no limit.
pub fn set(name: &str, soft: u64, hard: u64) -> anyhow::Result<()> {
    let Some((_, resource)) = LIMITS.iter().find(|(known, _)| *known == name) else {
        bail!("no resource limit is called \"{name}\"");
    };
    let value = |limit: u64| (limit != u64::MAX).then_some(limit);
    let limit = Rlimit {
        current: value(soft),
        maximum: value(hard),
    };
    rustix::process::setrlimit(*resource, limit)
        .with_context(|| format!("cannot set {name} to {soft}:{hard}"))
}
