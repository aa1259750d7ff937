//! Groups that systemd makes on request: scopes, over D-Bus. Every call ends within a bounded time, whatever the
//! other side does (`bus`).

mod bus;
mod properties;

use std::fmt::Write as _;
use std::path::PathBuf;

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use rustbus::MessageBuilder;
use rustbus::message_builder::MarshalledMessage;
use rustbus::wire::ObjectPath;
use rustix::process::Pid;

use crate::cgroup::Group;
use crate::cgroup::hierarchy::host_uid;
use crate::cgroup::systemd::bus::Connection;
use crate::cgroup::systemd::bus::Refusal;
use crate::error::Kind;
use crate::error::fail;

pub use properties::Property;
pub use properties::Value;
pub use properties::properties;

/// Whose systemd.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bus {
    User,
    System,
}

impl Bus {
    /// That of the machine for its root, else that of the user, who may be "root" in a user namespace.
    pub fn of_caller() -> Bus {
        match host_uid() {
            0 => Bus::System,
            _ => Bus::User,
        }
    }
}

/// What systemd is asked for.
#[derive(Clone, Debug)]
pub struct Scope {
    pub bus: Bus,
    /// `NAME.scope`, see `escape`.
    pub unit: String,
    /// `NAME.slice`, see `expand`.
    pub slice: String,
    /// At least one; a scope ends with its last process.
    pub pids: Vec<Pid>,
    pub description: String,
    /// Whether the groups in it are the caller's to make.
    pub delegate: bool,
    /// Those that this systemd does not know are left out.
    pub properties: Vec<Property>,
}

/// Whether a systemd answers there; quick where there is none.
pub fn available(bus: Bus) -> bool {
    Connection::open(bus).is_ok()
}

/// Starts the scope, waits until it runs, and says where its group is: a path below the mount of the tree.
pub fn start_scope(scope: &Scope) -> Result<PathBuf> {
    let start = || {
        let mut systemd = Connection::open(scope.bus)?;
        let job = match start(&mut systemd, scope) {
            // One that failed is kept until somebody has seen it.
            Err(err) if is(&err, "org.freedesktop.systemd1.UnitExists") => {
                reset(&mut systemd, &scope.unit);
                start(&mut systemd, scope)?
            }
            job => job?,
        };
        finish(&mut systemd, &job)
    };
    start().with_context(|| format!("cannot start unit \"{}\"", scope.unit))?;
    // Seen from here, unlike the path that systemd calls ControlGroup where this is a cgroup namespace.
    let first = scope.pids.first().context("a scope needs a process")?;
    let group =
        Group::of_process(*first)?.context("the control group of the unit is out of sight")?;
    if group.path().file_name() == Some(scope.unit.as_ref()) {
        return Ok(group.path().to_owned());
    }
    bail!(
        "systemd did not move process {} to unit \"{}\": it is in {:?}",
        first.as_raw_nonzero(),
        scope.unit,
        group.path()
    )
}

/// StartTransientUnit; the job.
fn start(systemd: &mut Connection, scope: &Scope) -> Result<String> {
    with_known(&scope.properties, |properties| {
        call_start(systemd, scope, properties)
    })
}

/// Makes a call with fewer properties, until systemd knows them all.
fn with_known<T>(
    properties: &[Property],
    mut call: impl FnMut(&[Property]) -> Result<T>,
) -> Result<T> {
    let mut properties = properties.to_vec();
    loop {
        match (call(&properties), properties::older(&properties)) {
            (Err(err), Some(older)) if is_about_properties(&err) => properties = older,
            (done, _) => return done,
        }
    }
}

fn call_start(systemd: &mut Connection, scope: &Scope, more: &[Property]) -> Result<String> {
    let pids = scope.pids.iter();
    let pids = pids.map(|pid| pid.as_raw_pid().cast_unsigned()).collect();
    let mut properties = vec![
        Property::new("Description", Value::Text(scope.description.clone())),
        Property::new("Slice", Value::Text(scope.slice.clone())),
        Property::new("Delegate", Value::Bool(scope.delegate)),
        Property::new("PIDs", Value::Numbers(pids)),
        // One that fails is not kept.
        Property::new("CollectMode", Value::Text("inactive-or-failed".into())),
        Property::new("CPUAccounting", Value::Bool(true)),
        Property::new("IOAccounting", Value::Bool(true)),
        Property::new("MemoryAccounting", Value::Bool(true)),
        Property::new("TasksAccounting", Value::Bool(true)),
    ];
    properties.extend_from_slice(more);
    let mut call = Connection::manager("StartTransientUnit");
    call.body.push_param2(scope.unit.as_str(), "fail")?;
    properties::push(&mut call, &properties)?;
    properties::push_no_units(&mut call)?;
    job(&systemd.call(&call)?)
}

pub fn set_properties(bus: Bus, unit: &str, properties: &[Property]) -> Result<()> {
    if properties.is_empty() {
        return Ok(());
    }
    let done = Connection::open(bus).and_then(|mut systemd| {
        with_known(properties, |properties| {
            let mut call = Connection::manager("SetUnitProperties");
            // Until the unit ends, or the next boot.
            call.body.push_param2(unit, true)?;
            properties::push(&mut call, properties)?;
            systemd.call(&call)
        })
    });
    done.with_context(|| format!("cannot set properties of unit \"{unit}\""))?;
    Ok(())
}

/// Stops a unit, which ends its processes, and forgets that it failed; one that is not there is fine.
pub fn stop(bus: Bus, unit: &str) -> Result<()> {
    let stop = || {
        let mut systemd = Connection::open(bus)?;
        let mut call = Connection::manager("StopUnit");
        call.body.push_param2(unit, "replace")?;
        match systemd.call(&call) {
            Err(err) if is(&err, "org.freedesktop.systemd1.NoSuchUnit") => return Ok(()),
            stopped => finish(&mut systemd, &job(&stopped?)?)?,
        }
        reset(&mut systemd, unit);
        anyhow::Ok(())
    };
    stop().with_context(|| format!("cannot stop unit \"{unit}\""))
}

/// Has systemd read its units anew.
pub fn reload(bus: Bus) -> Result<()> {
    let mut systemd = Connection::open(bus)?;
    systemd.call(&Connection::manager("Reload"))?;
    Ok(())
}

/// Asks logind to run this user's systemd from boot to shutdown. It may want more rights than we have.
pub fn set_linger() -> Result<()> {
    let mut bus = Connection::open(Bus::System)?;
    let mut call = MessageBuilder::new()
        .call("SetUserLinger")
        .with_interface("org.freedesktop.login1.Manager")
        .on("/org/freedesktop/login1")
        .at("org.freedesktop.login1")
        .build();
    // Nobody is to be asked for a password.
    call.body.push_param3(host_uid(), true, false)?;
    bus.call(&call)?;
    Ok(())
}

fn reset(systemd: &mut Connection, unit: &str) {
    let mut call = Connection::manager("ResetFailedUnit");
    if call.body.push_param(unit).is_ok() {
        // Most have not failed.
        let _ = systemd.call(&call);
    }
}

fn job(reply: &MarshalledMessage) -> Result<String> {
    let job: ObjectPath<String> = reply.body.parser().get()?;
    Ok(job.as_ref().to_owned())
}

/// Waits until a job is done.
fn finish(systemd: &mut Connection, job: &str) -> Result<()> {
    loop {
        let signal = systemd.signal()?;
        if signal.dynheader.member.as_deref() != Some("JobRemoved") {
            continue;
        }
        let mut parser = signal.body.parser();
        let (_, removed): (u32, ObjectPath<&str>) = parser.get2()?;
        let (_, result): (&str, &str) = parser.get2()?;
        if *removed.as_ref() != *job {
            continue;
        }
        return match result {
            "done" => Ok(()),
            result => Err(fail(Kind::Conflict, format!("its job is {result}"))),
        };
    }
}

fn is(err: &anyhow::Error, name: &str) -> bool {
    let refusal = err.downcast_ref::<Refusal>();
    refusal.is_some_and(|refusal| refusal.name == name)
}

/// Of a systemd that is older than a property, or than a value of it.
fn is_about_properties(err: &anyhow::Error) -> bool {
    is(err, "org.freedesktop.DBus.Error.PropertyReadOnly")
        || is(err, "org.freedesktop.DBus.Error.UnknownProperty")
        || is(err, "org.freedesktop.DBus.Error.InvalidArgs")
}

/// A text as part of the name of a unit: other characters as `\x2b` (systemd.unit(5)).
pub fn escape(name: &str) -> String {
    let mut escaped = String::with_capacity(name.len());
    for byte in name.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b':' | b'-' | b'_' | b'.' | b'\\' => {
                escaped.push(byte.into());
            }
            _ => {
                let _ = write!(escaped, "\\x{byte:02x}");
            }
        }
    }
    escaped
}

/// Where the group of a slice is, below that of the manager: each dash in the name is a step down, `a-b.slice` is
/// `a.slice/a-b.slice`, and `-.slice` is the root.
pub fn expand(slice: &str) -> Result<PathBuf> {
    let wrong = || {
        fail(
            Kind::Usage,
            format!(
                "{slice:?} is not the name of a slice: expected NAME.slice, a dash for each step down"
            ),
        )
    };
    let name = slice.strip_suffix(".slice").ok_or_else(wrong)?;
    if name == "-" {
        return Ok(PathBuf::new());
    }
    if name.split('-').any(str::is_empty) || escape(name) != name {
        return Err(wrong());
    }
    let dashes = name.match_indices('-').map(|(at, _)| at);
    let ends = dashes.chain([name.len()]);
    Ok(ends.map(|end| format!("{}.slice", &name[..end])).collect())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::error;

    #[test]
    fn slices_are_paths() {
        for (slice, path) in [
            ("a.slice", "a.slice"),
            ("a-b.slice", "a.slice/a-b.slice"),
            (
                "kubepods-besteffort-pod1_2.slice",
                "kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod1_2.slice",
            ),
            ("-.slice", ""),
        ] {
            assert_eq!(expand(slice).unwrap(), Path::new(path));
        }
        for bad in [
            "a",
            "a.scope",
            ".slice",
            "-a.slice",
            "a-.slice",
            "a--b.slice",
            "a/b.slice",
            "a b.slice",
            "",
        ] {
            let err = error::message(&expand(bad).unwrap_err());
            let expected = format!(
                "{bad:?} is not the name of a slice: expected NAME.slice, a dash for each step down"
            );
            assert_eq!(err, expected);
        }
        assert_eq!(
            escape("rbox-a+b/c é.1"),
            "rbox-a\\x2bb\\x2fc\\x20\\xc3\\xa9.1"
        );
    }
}
