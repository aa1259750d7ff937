//! Kernel parameters of the container's own namespaces.

use std::collections::BTreeMap;
use std::os::fd::AsFd;

use anyhow::Context;
use oci_spec::runtime::LinuxNamespace;
use oci_spec::runtime::LinuxNamespaceType;
use oci_spec::runtime::Spec;

use crate::error::Kind;
use crate::error::fail;
use crate::oci::runtime::parameter_namespace;
use crate::oci::runtime::parameter_path;
use crate::runtime::join;
use crate::runtime::procfs::Procfs;
use crate::sys::namespace;

fn parameters(spec: &Spec) -> BTreeMap<&str, &str> {
    let linux = spec.linux().as_ref();
    let parameters = linux.and_then(|linux| linux.sysctl().as_ref());
    let pairs = parameters.into_iter().flatten();
    pairs.map(|(name, value)| (&**name, &**value)).collect()
}

pub fn any(spec: &Spec) -> bool {
    !parameters(spec).is_empty()
}

/// Refuses parameters of namespaces that the specification names by a path, and that are the host's.
pub fn check(spec: &Spec) -> anyhow::Result<()> {
    let linux = spec.linux().as_ref();
    let listed = linux.and_then(|linux| linux.namespaces().as_deref());
    for name in parameters(spec).keys() {
        let kind = parameter_namespace(&parameter_path(name));
        let mut all = listed.into_iter().flatten();
        let shared = all.find(|one| Some(one.typ()) == kind);
        let Some(path) = shared.and_then(|one| one.path().as_ref()) else {
            continue;
        };
        let (_, own) = join::kind(shared.map_or(LinuxNamespaceType::Pid, LinuxNamespace::typ));
        if namespace::same(namespace::open(path)?.as_fd(), namespace::own(own)?.as_fd())? {
            let text =
                format!("cannot set kernel parameter {name}: the {own} namespace is the host's");
            return Err(fail(Kind::Usage, text));
        }
    }
    Ok(())
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
