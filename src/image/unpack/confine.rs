//! What the unpacker gives up before it reads the first byte of a layer: files outside its
//! directory (its root already), all capabilities but those over files, new processes, memory
//! without end, and all system calls but those of `filter`. With the namespaces of `store::helper` it has no network and no other process.

use std::os::fd::AsFd;
use std::os::fd::OwnedFd;

use anyhow::Context;
use anyhow::Result;
use caps::CapSet;
use caps::Capability;
use landlock::ABI;
use landlock::Access;
use landlock::AccessFs;
use landlock::CompatLevel;
use landlock::Compatible;
use landlock::PathBeneath;
use landlock::Ruleset;
use landlock::RulesetAttr;
use landlock::RulesetCreatedAttr;
use rustix::process::Resource;
use rustix::process::Rlimit;

use crate::image::unpack::filter;
use crate::sys::process;

/// A zstd window, the buffers, the stacks, and the names of directories to be touched at the end.
const MEMORY_MAX: u64 = 2 << 30;
const FILES_MAX: u64 = 256;

/// Must: be called as root of the namespace, before threads are started.
pub fn confine(root: &OwnedFd) -> Result<()> {
    process::set_no_new_privs()?;
    limit(Resource::Core, 0)?;
    limit(Resource::As, MEMORY_MAX)?;
    limit(Resource::Nofile, FILES_MAX)?;
    shut_in(root)?;
    keep_file_capabilities()?;
    filter::install()
}

/// Linux: before Landlock ABI 2 (5.19) a ruleset also forbids every link between directories,
/// which layers need; there the root directory alone confines.
fn shut_in(root: &OwnedFd) -> Result<()> {
    let handled = Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::Refer);
    if handled.and_then(Ruleset::create).is_err() {
        return Ok(());
    }
    let all = AccessFs::from_all(ABI::V5);
    Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(all)
        .and_then(Ruleset::create)
        .and_then(|ruleset| {
            let allowed = all & !AccessFs::Execute & !AccessFs::MakeSock & !AccessFs::MakeBlock;
            ruleset.add_rule(PathBeneath::new(root.as_fd(), allowed))
        })
        .and_then(landlock::RulesetCreated::restrict_self)
        .context("cannot restrict itself with Landlock")?;
    Ok(())
}

fn keep_file_capabilities() -> Result<()> {
    let kept = caps::CapsHashSet::from([
        Capability::CAP_CHOWN,
        Capability::CAP_DAC_OVERRIDE,
        Capability::CAP_FOWNER,
        Capability::CAP_FSETID,
        Capability::CAP_SETFCAP,
    ]);
    let held = caps::read(None, CapSet::Permitted).context("cannot read capabilities")?;
    let kept: caps::CapsHashSet = kept.intersection(&held).copied().collect();
    caps::clear(None, CapSet::Ambient)
        .and_then(|()| caps::clear(None, CapSet::Inheritable))
        .and_then(|()| caps::set(None, CapSet::Effective, &kept))
        .and_then(|()| caps::set(None, CapSet::Permitted, &kept))
        .context("cannot drop capabilities")
}

/// Once every thread that the unpacker needs is running, no process or thread can be made.
pub fn forbid_processes() -> Result<()> {
    limit(Resource::Nproc, 0)
}

fn limit(resource: Resource, value: u64) -> Result<()> {
    let value = Some(value);
    // Not above what the user allows himself.
    let old = rustix::process::getrlimit(resource).maximum;
    let value = match (value, old) {
        (Some(value), Some(old)) => Some(value.min(old)),
        (value, _) => value,
    };
    let new = Rlimit {
        current: value,
        maximum: value,
    };
    rustix::process::setrlimit(resource, new)
        .with_context(|| format!("cannot set a limit of {resource:?}"))
}
