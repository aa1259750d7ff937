//! Resource limits by the names of setrlimit(2).

use anyhow::Context;
use anyhow::bail;
use rustix::process::Pid;
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

fn resource(name: &str) -> anyhow::Result<Resource> {
    match LIMITS.iter().find(|(known, _)| *known == name) {
        Some((_, resource)) => Ok(*resource),
        None => bail!("no resource limit is called \"{name}\""),
    }
}

fn value(limit: u64) -> Option<u64> {
    (limit != u64::MAX).then_some(limit)
}

/// Sets a limit of this process; `u64::MAX` is no limit.
pub fn set(name: &str, soft: u64, hard: u64) -> anyhow::Result<()> {
    let limit = Rlimit {
        current: value(soft),
        maximum: value(hard),
    };
    rustix::process::setrlimit(resource(name)?, limit)
        .with_context(|| format!("cannot set {name} to {soft}:{hard}"))
}

/// Our own soft and hard limit; `u64::MAX` is none.
pub fn own(name: &str) -> anyhow::Result<(u64, u64)> {
    let limit = rustix::process::getrlimit(resource(name)?);
    let number = |limit: Option<u64>| limit.unwrap_or(u64::MAX);
    Ok((number(limit.current), number(limit.maximum)))
}

/// Our own hard limit; `u64::MAX` is none.
pub fn hard(name: &str) -> anyhow::Result<u64> {
    Ok(own(name)?.1)
}

/// Raises the hard limit of a process, if it is lower, and leaves the soft one.
///
/// Linux: this takes CAP_SYS_RESOURCE in the first user namespace (setrlimit(2)), which nothing has
/// that is in a container's.
pub fn raise(pid: Option<Pid>, name: &str, hard: u64) -> anyhow::Result<()> {
    let resource = resource(name)?;
    let now = rustix::process::getrlimit(resource);
    if now.maximum.is_none_or(|now| now >= hard) {
        return Ok(());
    }
    let raised = Rlimit {
        current: now.current,
        maximum: value(hard),
    };
    rustix::process::prlimit(pid, resource, raised)
        .map(|_| ())
        .with_context(|| format!("cannot raise {name} to {hard}"))
}

/// Whether this process may have such a hard limit.
pub fn may_have(name: &str, hard: u64) -> bool {
    let Ok(resource) = resource(name) else {
        return false;
    };
    let before = rustix::process::getrlimit(resource);
    let may = raise(None, name, hard).is_ok();
    if may {
        // A hard limit may be lowered at any time.
        rustix::process::setrlimit(resource, before).ok();
    }
    may
}

/// Where the kernel keeps how likely it kills a process when memory is short (proc_pid_oom_score_adj(5)).
fn oom_file(pid: Option<Pid>) -> String {
    match pid {
        Some(pid) => format!("/proc/{}/oom_score_adj", pid.as_raw_pid()),
        None => "/proc/self/oom_score_adj".into(),
    }
}

/// Sets that of a process, or our own.
///
/// Linux: below the lowest value that a privileged process gave takes CAP_SYS_RESOURCE in the first user
/// namespace, which nothing has that is in a container's.
pub fn set_oom_score(pid: Option<Pid>, score: i32) -> anyhow::Result<()> {
    std::fs::write(oom_file(pid), score.to_string())
        .with_context(|| format!("cannot set the OOM score to {score}"))
}

/// Our own.
pub fn oom_score() -> anyhow::Result<i32> {
    let path = oom_file(None);
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    text.trim()
        .parse()
        .with_context(|| format!("cannot read {path}"))
}

/// Whether this process may have such a score.
pub fn may_have_oom_score(score: i32) -> bool {
    let Ok(before) = oom_score() else {
        return false;
    };
    let may = set_oom_score(None, score).is_ok();
    if may {
        set_oom_score(None, before).ok();
    }
    may
}
