//! Settings of the network namespace of this process, below /proc/sys/net.

use std::io::ErrorKind;

use crate::error::Kind;
use crate::error::WithHint;
use crate::error::fail;

/// Sets one, if it is not so already. What the kernel does not have need not be set: it may have no IPv6.
///
/// Linux: a container has /proc/sys read-only, in which even what is so already cannot be written.
pub fn set(name: &str, value: &str) -> anyhow::Result<()> {
    let path = format!("/proc/sys/net/{name}");
    let is_so = std::fs::read_to_string(&path).is_ok_and(|found| found.trim() == value);
    if is_so {
        return Ok(());
    }
    match std::fs::write(&path, value) {
        Err(err) if err.kind() != ErrorKind::NotFound => {
            let text = format!("cannot set {path}: {err}");
            Err(fail(Kind::Unsupported, text).hint(
                "in a container networks with names need `--security-opt unmask=/proc/sys`; `--network private` does not",
            ))
        }
        _ => Ok(()),
    }
}
