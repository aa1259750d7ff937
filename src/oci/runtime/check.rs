//! What a specification must be beyond its schemas: paths that are absolute, things that go together, nothing twice.

use std::collections::HashSet;
use std::hash::Hash;
use std::path::Path;

use oci_spec::runtime::Hook;
use oci_spec::runtime::Hooks;
use oci_spec::runtime::LinuxCapabilities;
use oci_spec::runtime::LinuxResources;
use oci_spec::runtime::LinuxSchedulerPolicy;
use oci_spec::runtime::Mount;
use oci_spec::runtime::Process;
use oci_spec::runtime::Scheduler;
use oci_spec::runtime::Spec;

use crate::oci::runtime::linux;
use crate::oci::runtime::schema;
use crate::oci::runtime::shape::Mistake;
use crate::oci::runtime::shape::member;
use crate::oci::runtime::shape::quoted;

pub type Checked = Result<(), Mistake>;

/// Linux: the longest name of a host and of a domain (`__NEW_UTS_LEN`).
const LONGEST_NAME: usize = 64;

pub fn wrong(at: impl Into<String>, said: impl Into<String>) -> Checked {
    Err(Mistake::new(at, said))
}

/// What a container needs to be created.
pub fn complete(spec: &Spec) -> Checked {
    if spec.root().is_none() {
        return wrong("root.path", "missing: expected a string");
    }
    if spec.process().is_none() {
        return wrong("process", "missing: expected an object");
    }
    Ok(())
}

pub fn spec(spec: &Spec) -> Checked {
    if let Some(root) = spec.root()
        && root.path().as_os_str().is_empty()
    {
        return wrong("root.path", "expected a path, found \"\"");
    }
    if let Some(found) = spec.process() {
        process(found).map_err(|mistake| mistake.below("process"))?;
    }
    for (member, name) in [
        ("hostname", spec.hostname()),
        ("domainname", spec.domainname()),
    ] {
        if name.as_ref().is_some_and(|name| name.len() > LONGEST_NAME) {
            let said = format!("expected at most {LONGEST_NAME} bytes");
            return wrong(member, said);
        }
    }
    for (index, found) in spec.mounts().iter().flatten().enumerate() {
        mount(found).map_err(|mistake| mistake.below(&format!("mounts[{index}]")))?;
    }
    if let Some(found) = spec.hooks() {
        hooks(found)?;
    }
    linux::spec(spec)
}

pub fn absolute(at: impl Into<String>, path: &Path) -> Checked {
    if path.is_absolute() {
        return Ok(());
    }
    let path = quoted(&path.to_string_lossy());
    wrong(at, format!("{path} is not an absolute path"))
}

/// The first of some things that is there twice.
pub fn twice<T: Hash + Eq>(things: impl IntoIterator<Item = T>) -> Option<usize> {
    let mut seen = HashSet::new();
    things.into_iter().position(|thing| !seen.insert(thing))
}

pub fn process(process: &Process) -> Checked {
    absolute("cwd", process.cwd())?;
    if process.args().as_ref().is_none_or(Vec::is_empty) {
        return wrong("args", "expected a command, found none");
    }
    variables("env", process.env().as_deref())?;
    if process.user().umask().is_some_and(|umask| umask > 0o777) {
        return wrong("user.umask", "expected an integer from 0 to 511 (0777)");
    }
    if let Some(size) = process.console_size()
        && process.terminal() == Some(true)
    {
        for (side, cells) in [("height", size.height()), ("width", size.width())] {
            if cells > u16::MAX.into() {
                let said = format!("expected an integer from 0 to {}, found {cells}", u16::MAX);
                return wrong(format!("consoleSize.{side}"), said);
            }
        }
    }
    let limits = process.rlimits().as_deref().unwrap_or_default();
    for (index, limit) in limits.iter().enumerate() {
        if limit.soft() > limit.hard() {
            let (soft, hard) = (limit.soft(), limit.hard());
            let said = format!("expected at most the hard limit {hard}, found {soft}");
            return wrong(format!("rlimits[{index}].soft"), said);
        }
    }
    if let Some(index) = twice(limits.iter().map(|limit| limit.typ().to_string())) {
        let said = format!("{} is there twice", limits[index].typ());
        return wrong(format!("rlimits[{index}].type"), said);
    }
    if let Some(sets) = process.capabilities() {
        capabilities(sets)?;
    }
    process.scheduler().as_ref().map_or(Ok(()), |found| {
        scheduler(found).map_err(|mistake| mistake.below("scheduler"))
    })
}

/// Linux: capset(2) refuses more in the effective set than there is in the permitted one.
fn capabilities(sets: &LinuxCapabilities) -> Checked {
    let effective = sets.effective().iter().flatten();
    let permitted = sets.permitted().as_ref();
    let mut missing: Vec<String> = effective
        .filter(|capability| !permitted.is_some_and(|permitted| permitted.contains(capability)))
        .map(|capability| format!("CAP_{capability}"))
        .collect();
    missing.sort_unstable();
    match missing.first() {
        None => Ok(()),
        Some(name) => wrong(
            "capabilities.effective",
            format!("{name} is not in the permitted set"),
        ),
    }
}

fn variables(at: &str, variables: Option<&[String]>) -> Checked {
    for (index, variable) in variables.into_iter().flatten().enumerate() {
        if !variable.contains('=') || variable.starts_with('=') {
            let said = format!("expected NAME=VALUE, found {}", quoted(variable));
            return wrong(format!("{at}[{index}]"), said);
        }
    }
    Ok(())
}

/// As in sched_setattr(2): each policy has parameters of its own.
fn scheduler(scheduler: &Scheduler) -> Checked {
    let policy = *scheduler.policy();
    let only = |member: &str, of: &str| wrong(member, format!("expected with {of} only"));
    let is_real_time = matches!(
        policy,
        LinuxSchedulerPolicy::SchedFifo | LinuxSchedulerPolicy::SchedRr
    );
    match scheduler.priority().unwrap_or(0) {
        0 if !is_real_time => {}
        _ if !is_real_time => return only("priority", "SCHED_FIFO and SCHED_RR"),
        1..=99 => {}
        other => {
            let said = format!("expected an integer from 1 to 99, found {other}");
            return wrong("priority", said);
        }
    }
    let times = [
        ("runtime", scheduler.runtime()),
        ("deadline", scheduler.deadline()),
        ("period", scheduler.period()),
    ];
    let given = |time: &&(&str, &Option<u64>)| time.1.is_some_and(|time| time > 0);
    if policy != LinuxSchedulerPolicy::SchedDeadline {
        return match times.iter().find(given) {
            Some((member, _)) => only(member, "SCHED_DEADLINE"),
            None => Ok(()),
        };
    }
    match times[..2].iter().find(|time| !given(time)) {
        Some((member, _)) => wrong(*member, "missing: SCHED_DEADLINE needs it"),
        None => Ok(()),
    }
}

fn mount(mount: &Mount) -> Checked {
    if mount.destination() == Path::new("/") {
        return wrong("destination", "expected a place below /");
    }
    let (uids, gids) = (mount.uid_mappings(), mount.gid_mappings());
    if uids.is_some() != gids.is_some() {
        let missing = if uids.is_some() {
            "gidMappings"
        } else {
            "uidMappings"
        };
        return wrong(missing, "missing: both mappings are needed, or none");
    }
    linux::mappings("uidMappings", uids.as_deref())?;
    linux::mappings("gidMappings", gids.as_deref())?;
    let is_bind = |option: &String| option == "bind" || option == "rbind";
    let is_bind =
        mount.typ().as_deref() == Some("bind") || mount.options().iter().flatten().any(is_bind);
    if is_bind && mount.source().is_none() {
        return wrong("source", "missing: a bind mount needs it");
    }
    let remount = |option: &String| option == "remount";
    let is_remount = mount.options().iter().flatten().any(remount);
    if !is_bind && !is_remount && mount.typ().is_none() {
        return wrong("type", "missing: it is no bind mount");
    }
    if !is_bind && uids.is_some() {
        return wrong("uidMappings", "expected with bind mounts only");
    }
    Ok(())
}

fn hooks(hooks: &Hooks) -> Checked {
    let prestart = hooks.prestart();
    for (stage, listed) in [
        ("prestart", prestart),
        ("createRuntime", hooks.create_runtime()),
        ("createContainer", hooks.create_container()),
        ("startContainer", hooks.start_container()),
        ("poststart", hooks.poststart()),
        ("poststop", hooks.poststop()),
    ] {
        for (index, found) in listed.iter().flatten().enumerate() {
            hook(found).map_err(|mistake| mistake.below(&format!("hooks.{stage}[{index}]")))?;
        }
    }
    Ok(())
}

fn hook(hook: &Hook) -> Checked {
    absolute("path", hook.path())?;
    variables("env", hook.env().as_deref())
}

/// Those of a container, and those of an update.
pub fn resources(resources: &LinuxResources) -> Checked {
    let unified = resources.unified().iter().flatten();
    for (file, _) in unified {
        // A file in the group's directory, and no other.
        if !schema::is_file_name(file) || !file.contains('.') {
            let said = format!("expected the name of a file, found {}", quoted(file));
            return wrong(member("unified", file), said);
        }
    }
    let pages = resources.hugepage_limits().as_deref().unwrap_or_default();
    match twice(
        pages
            .iter()
            .map(oci_spec::runtime::LinuxHugepageLimit::page_size),
    ) {
        Some(index) => wrong(
            format!("hugepageLimits[{index}].pageSize"),
            format!("{} is there twice", pages[index].page_size()),
        ),
        None => Ok(()),
    }
}
