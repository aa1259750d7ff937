//! `memory` of a config.json.

use anyhow::Result;
use oci_spec::runtime::LinuxMemory;

use super::Setting;
use super::absent;
use super::wrong;

/// -1, as an unsigned number, is how Docker's clients say "not set".
const NO_SWAPPINESS: u64 = u64::MAX;

/// Adds the settings; the limit to check against what is in use, if that is asked for.
pub(super) fn add(list: &mut Vec<Setting>, memory: &LinuxMemory) -> Result<Option<u64>> {
    let given = |value: Option<i64>| value.filter(|value| *value != 0);
    let kernel = memory.kernel();
    for (what, value) in [
        ("memory.kernel", kernel),
        ("memory.kernelTCP", memory.kernel_tcp()),
    ] {
        if value.is_some_and(|value| value > 0) {
            return Err(absent(what));
        }
    }
    if memory
        .swappiness()
        .is_some_and(|value| value != NO_SWAPPINESS)
    {
        return Err(absent("memory.swappiness"));
    }
    if memory.disable_oom_killer() == Some(true) {
        return Err(absent("memory.disableOOMKiller"));
    }
    let limit = given(memory.limit());
    if let Some(swap) = swap(limit, given(memory.swap()))? {
        // Kernels that do not account swap have no such file. They cannot keep to 0 either; nor could runc.
        list.push(Setting::limit("memory.swap.max", swap).optional(swap <= 0));
    }
    list.extend(limit.map(|limit| Setting::limit("memory.max", limit)));
    if let Some(reservation) = given(memory.reservation()) {
        list.push(Setting::limit("memory.low", reservation));
    }
    let limit = limit.and_then(|limit| u64::try_from(limit).ok());
    Ok(limit.filter(|_| memory.check_before_update() == Some(true)))
}

/// Version 1 counted memory and swap together; version 2 counts swap alone.
fn swap(limit: Option<i64>, both: Option<i64>) -> Result<Option<i64>> {
    match (limit, both) {
        // As version 1 did: without a limit for memory there is none for swap.
        (Some(..0), None) | (_, Some(..0)) => Ok(Some(-1)),
        (_, None) => Ok(None),
        (Some(..0), Some(both)) => Ok(Some(both)),
        (None, Some(both)) => Err(wrong(format!(
            "memory.swap {both} is memory and swap together: expected memory.limit beside it"
        ))),
        (Some(limit), Some(both)) if both < limit => Err(wrong(format!(
            "memory.swap {both} is memory and swap together: expected at least memory.limit, {limit}"
        ))),
        (Some(limit), Some(both)) => Ok(Some(both - limit)),
    }
}
