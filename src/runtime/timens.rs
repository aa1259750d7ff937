//! A time namespace of a container's own. The process that makes it stays outside of it; its children,
//! and on exec it itself, are inside.

use std::os::fd::OwnedFd;

use oci_spec::runtime::LinuxNamespaceType;
use oci_spec::runtime::Spec;

use crate::error::Kind;
use crate::error::fail;
use crate::sys::namespace;
use crate::sys::process;

/// What must be opened while the process is dumpable.
pub struct Prepared {
    file: OwnedFd,
    offsets: Vec<(String, i64, u32)>,
}

/// `None` where the specification asks for none.
pub fn prepare(spec: &Spec) -> anyhow::Result<Option<Prepared>> {
    let Some(linux) = spec.linux() else {
        return Ok(None);
    };
    let mut all = linux.namespaces().iter().flatten();
    let wanted = all.any(|one| one.typ() == LinuxNamespaceType::Time && one.path().is_none());
    if !wanted {
        return Ok(None);
    }
    let offsets = linux
        .time_offsets()
        .iter()
        .flatten()
        .map(|(clock, offset)| {
            (
                clock.clone(),
                offset.secs().unwrap_or(0),
                offset.nanosecs().unwrap_or(0),
            )
        });
    Ok(Some(Prepared {
        file: namespace::open_time_offsets()?,
        offsets: offsets.collect(),
    }))
}

/// Whether exec takes a process into the time namespace that it made.
pub fn check_exec() -> anyhow::Result<()> {
    let uname = rustix::system::uname();
    let release = uname.release().to_string_lossy();
    let mut numbers = release
        .split('.')
        .map(|part| part.parse::<u32>().unwrap_or(0));
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    // Linux: commit 2b5f9dad32ed ("fs/exec: switch timens when a task gets a new mm").
    if version >= (6, 3) {
        return Ok(());
    }
    let text = format!("a time namespace of its own needs Linux 6.3, and this is {release}");
    Err(fail(Kind::Unsupported, text))
}

impl Prepared {
    /// Must: run with CAP_SYS_ADMIN and CAP_SYS_TIME in the container's user namespace.
    pub fn unshare(self) -> anyhow::Result<()> {
        process::unshare(libc::CLONE_NEWTIME)?;
        for (clock, seconds, nanos) in &self.offsets {
            namespace::set_time_offset(&self.file, clock, *seconds, *nanos).map_err(|err| {
                // Linux: ERANGE where the clock would be before its beginning, or after 146 years.
                let text = format!("cannot move the {clock} clock by {seconds} s: {err}");
                fail(Kind::Usage, text)
            })?;
        }
        Ok(())
    }
}
