//! Intel RDT: a container's class of service in the resctrl file system (Documentation/filesystems/resctrl.rst).

use std::path::Path;
use std::path::PathBuf;

use anyhow::Context;
use anyhow::ensure;
use oci_spec::runtime::LinuxIntelRdt;
use oci_spec::runtime::Spec;
use rustix::process::Pid;

use crate::error::Kind;
use crate::error::WithHint;
use crate::error::fail;

const ROOT: &str = "/sys/fs/resctrl";

/// What a specification says of it.
pub fn of(spec: &Spec) -> Option<&LinuxIntelRdt> {
    spec.linux().as_ref()?.intel_rdt().as_ref()
}

/// Puts init into its class, which is made if its limits are given.
pub fn enter(rdt: &LinuxIntelRdt, id: &str, init: Pid) -> anyhow::Result<()> {
    // Linux: RDTGROUP_SUPER_MAGIC (linux/magic.h).
    if !rustix::fs::statfs(ROOT).is_ok_and(|fs| fs.f_type == 0x0765_5821) {
        let text = format!("linux.intelRdt is not possible: there is no resctrl at {ROOT}");
        return Err(fail(Kind::Unsupported, text)
            .hint("`sudo mount -t resctrl resctrl /sys/fs/resctrl`, where the processor has it"));
    }
    join(Path::new(ROOT), rdt, id, init)
}

/// Takes away what `enter` may have made.
pub fn leave(rdt: &LinuxIntelRdt, id: &str) {
    leave_at(Path::new(ROOT), rdt, id);
}

/// The class, and whether it is the container's alone.
fn class(root: &Path, rdt: &LinuxIntelRdt, id: &str) -> (PathBuf, bool) {
    let named = rdt.clos_id().as_deref();
    (root.join(named.unwrap_or(id)), named.is_none())
}

/// One line for each resource, of all members that have such.
fn schemata(rdt: &LinuxIntelRdt) -> String {
    let lines = rdt.l3_cache_schema().iter().chain(rdt.mem_bw_schema());
    let lines = lines.chain(rdt.schemata().iter().flatten());
    lines.flat_map(|line| [line.as_str(), "\n"]).collect()
}

fn join(root: &Path, rdt: &LinuxIntelRdt, id: &str, init: Pid) -> anyhow::Result<()> {
    let (class, is_own) = class(root, rdt, id);
    let schemata = schemata(rdt);
    let name = class.display();
    if !class.is_dir() {
        // "If closID is set and none of the schemas, the runtime MUST check that the class exists".
        ensure!(
            is_own || !schemata.is_empty(),
            "linux.intelRdt.closID: there is no class {name}"
        );
        std::fs::create_dir(&class).with_context(|| format!("cannot make class {name}"))?;
    }
    if !schemata.is_empty() {
        let file = class.join("schemata");
        std::fs::write(&file, &schemata).with_context(|| {
            format!("cannot write \"{}\" to {}", schemata.trim(), file.display())
        })?;
    }
    let mut groups = vec![class.clone()];
    if rdt.enable_monitoring() == &Some(true) {
        let group = class.join("mon_groups").join(id);
        std::fs::create_dir(&group)
            .with_context(|| format!("cannot make group {}", group.display()))?;
        groups.push(group);
    }
    for group in groups {
        let tasks = group.join("tasks");
        std::fs::write(&tasks, init.as_raw_pid().to_string())
            .with_context(|| format!("cannot write {}", tasks.display()))?;
    }
    Ok(())
}

fn leave_at(root: &Path, rdt: &LinuxIntelRdt, id: &str) {
    let (class, is_own) = class(root, rdt, id);
    // Others may have taken them away, or, of the class, never made it.
    std::fs::remove_dir(class.join("mon_groups").join(id)).ok();
    if is_own {
        std::fs::remove_dir(class).ok();
    }
}

#[cfg(test)]
mod tests {
    use oci_spec::runtime::LinuxIntelRdtBuilder;

    use super::*;

    /// A directory in its place: what is written where can be seen there, what the kernel makes of it cannot.
    #[test]
    fn a_class_gets_limits_and_the_process() {
        let root = std::env::temp_dir().join(format!("rbox-resctrl-{}", std::process::id()));
        std::fs::create_dir_all(&root).unwrap();
        let pid = Pid::from_raw(77).unwrap();
        let rdt = LinuxIntelRdtBuilder::default()
            .l3_cache_schema("L3:0=f")
            .mem_bw_schema("MB:0=20")
            .schemata(vec!["L2:0=1".to_owned()])
            .build()
            .unwrap();
        join(&root, &rdt, "web", pid).unwrap();
        let read = |path: &str| std::fs::read_to_string(root.join(path)).unwrap();
        assert_eq!(read("web/schemata"), "L3:0=f\nMB:0=20\nL2:0=1\n");
        assert_eq!(read("web/tasks"), "77");

        let named = LinuxIntelRdtBuilder::default().clos_id("class").build();
        let err = join(&root, &named.unwrap(), "web", pid).unwrap_err();
        let want = format!(
            "linux.intelRdt.closID: there is no class {}",
            root.join("class").display()
        );
        assert_eq!(err.to_string(), want);
        std::fs::remove_dir_all(&root).unwrap();
    }
}
