//! Kernel parameters of the container's own namespaces.

use std::collections::BTreeMap;

use anyhow::Context;
use oci_spec::runtime::Spec;

use crate::oci::runtime::parameter_path;
use crate::runtime::procfs::Procfs;

fn parameters(spec: &Spec) -> BTreeMap<&str, &str> {
    let linux = spec.linux().as_ref();
    let parameters = linux.and_then(|linux| linux.sysctl().as_ref());
    let pairs = parameters.into_iter().flatten();
    pairs.map(|(name, value)| (&**name, &**value)).collect()
}

pub fn any(spec: &Spec) -> bool {
    !parameters(spec).is_empty()
}

/// Sets them, in the order of their names.
///
/// Must: run as root of the namespaces that they belong to.
pub fn set(procfs: &Procfs, spec: &Spec) -> anyhow::Result<()> {
    for (name, value) in parameters(spec) {
        let cannot = || format!("cannot set kernel parameter {name}");
        if parameter_path(name) == "kernel/domainname" {
            // Linux: the file belongs to root of the machine, the call to root of the UTS namespace.
            rustix::system::setdomainname(value.as_bytes()).with_context(cannot)?;
            continue;
        }
        let path = format!("sys/{}", parameter_path(name));
        procfs.write(&path, value).with_context(cannot)?;
    }
    Ok(())
}
