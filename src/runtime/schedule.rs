//! What a specification says of how its processes are scheduled, and where their memory comes from.

use anyhow::Context;
use oci_spec::runtime::IOPriorityClass;
use oci_spec::runtime::LinuxMemoryPolicy;
use oci_spec::runtime::LinuxSchedulerFlag;
use oci_spec::runtime::LinuxSchedulerPolicy;
use oci_spec::runtime::MemoryPolicyFlagType;
use oci_spec::runtime::MemoryPolicyModeType;
use oci_spec::runtime::Process;
use oci_spec::runtime::Scheduler;
use rustix::io::Errno;
use rustix::process::Pid;

use crate::error::Kind;
use crate::error::fail;
use crate::sys::SyscallError;
use crate::sys::schedule;
use crate::sys::schedule::Attributes;

/// Whether `apply` has something to do.
pub fn is_asked(process: &Process) -> bool {
    process.scheduler().is_some() || process.io_priority().is_some()
}

/// Gives a process its policy and its priorities.
///
/// Linux: most of this takes CAP_SYS_NICE in the first user namespace, so it is for who makes the container.
pub fn apply(process: &Process, pid: Pid) -> anyhow::Result<()> {
    if let Some(scheduler) = process.scheduler() {
        schedule::set(pid, attributes(scheduler)?).map_err(|err| refused("scheduler", err))?;
    }
    if let Some(priority) = process.io_priority() {
        // Linux: linux/ioprio.h.
        let class = match priority.class() {
            IOPriorityClass::IoprioClassRt => 1,
            IOPriorityClass::IoprioClassBe => 2,
            IOPriorityClass::IoprioClassIdle => 3,
        };
        let level = u32::try_from(priority.priority()).context("process.ioPriority.priority")?;
        schedule::set_io_priority(pid, class, level).map_err(|err| refused("ioPriority", err))?;
    }
    Ok(())
}

fn refused(member: &str, err: SyscallError) -> anyhow::Error {
    let why = match err.errno {
        Errno::PERM => "it takes root of the host (CAP_SYS_NICE)",
        _ => "the kernel refuses it",
    };
    fail(
        Kind::Unsupported,
        format!("cannot set process.{member}: {why}: {err}"),
    )
}

fn attributes(scheduler: &Scheduler) -> anyhow::Result<Attributes> {
    // Linux: linux/sched.h.
    let policy = match scheduler.policy() {
        LinuxSchedulerPolicy::SchedOther => 0,
        LinuxSchedulerPolicy::SchedFifo => 1,
        LinuxSchedulerPolicy::SchedRr => 2,
        LinuxSchedulerPolicy::SchedBatch => 3,
        LinuxSchedulerPolicy::SchedIso => {
            let text = "cannot set process.scheduler.policy: Linux has no SCHED_ISO";
            return Err(fail(Kind::Unsupported, text));
        }
        LinuxSchedulerPolicy::SchedIdle => 5,
        LinuxSchedulerPolicy::SchedDeadline => 6,
    };
    let flag = |flag: &LinuxSchedulerFlag| match flag {
        LinuxSchedulerFlag::SchedResetOnFork => 0x01,
        LinuxSchedulerFlag::SchedFlagReclaim => 0x02,
        LinuxSchedulerFlag::SchedFlagDLOverrun => 0x04,
        LinuxSchedulerFlag::SchedFlagKeepPolicy => 0x08,
        LinuxSchedulerFlag::SchedFlagKeepParams => 0x10,
        LinuxSchedulerFlag::SchedFlagUtilClampMin => 0x20,
        LinuxSchedulerFlag::SchedFlagUtilClampMax => 0x40,
    };
    let flags = scheduler.flags().iter().flatten().map(flag);
    Ok(Attributes {
        policy,
        flags: flags.fold(0, |all, flag| all | flag),
        nice: scheduler.nice().unwrap_or(0),
        priority: u32::try_from(scheduler.priority().unwrap_or(0))
            .context("process.scheduler.priority")?,
        runtime: scheduler.runtime().unwrap_or(0),
        deadline: scheduler.deadline().unwrap_or(0),
        period: scheduler.period().unwrap_or(0),
        ..Attributes::default()
    })
}

/// Which CPUs a process that joins a container may run on: before it is in the control group, and in the end.
#[derive(Clone, Copy)]
pub enum Moment {
    Initial,
    Final,
}

/// Gives this process the CPUs that another is to begin with; returns those that it had.
pub fn take_cpus(process: &Process, moment: Moment) -> anyhow::Result<Option<Vec<u64>>> {
    let affinity = process.exec_cpu_affinity().as_ref();
    let (member, list) = match moment {
        Moment::Initial => ("initial", affinity.and_then(|all| all.initial().as_ref())),
        Moment::Final => (
            "final",
            affinity.and_then(|all| all.cpu_affinity_final().as_ref()),
        ),
    };
    let Some(list) = list else {
        return Ok(None);
    };
    let cannot = || format!("cannot set process.execCPUAffinity.{member} to \"{list}\"");
    let before = schedule::affinity()?;
    let mask = schedule::mask(list).with_context(cannot)?;
    schedule::set_affinity(&mask).with_context(cannot)?;
    Ok(Some(before))
}

/// Gives them back.
pub fn return_cpus(before: Option<Vec<u64>>) -> anyhow::Result<()> {
    Ok(before.map_or(Ok(()), |mask| schedule::set_affinity(&mask))?)
}

/// Takes the policy for memory; what is executed keeps it.
pub fn take_memory_policy(policy: &LinuxMemoryPolicy) -> anyhow::Result<()> {
    // Linux: linux/mempolicy.h.
    let mode = match policy.mode() {
        MemoryPolicyModeType::MpolDefault => 0,
        MemoryPolicyModeType::MpolPreferred => 1,
        MemoryPolicyModeType::MpolBind => 2,
        MemoryPolicyModeType::MpolInterleave => 3,
        MemoryPolicyModeType::MpolLocal => 4,
        MemoryPolicyModeType::MpolPreferredMany => 5,
        MemoryPolicyModeType::MpolWeightedInterleave => 6,
    };
    let flag = |flag: &MemoryPolicyFlagType| match flag {
        MemoryPolicyFlagType::MpolFNumaBalancing => 1 << 13,
        MemoryPolicyFlagType::MpolFRelativeNodes => 1 << 14,
        MemoryPolicyFlagType::MpolFStaticNodes => 1 << 15,
    };
    let flags = policy.flags().iter().flatten().map(flag);
    let mode = flags.fold(mode, |all, flag| all | flag);
    let nodes = policy.nodes().as_deref().map(schedule::mask);
    let nodes = nodes
        .unwrap_or(Some(vec![]))
        .context("linux.memoryPolicy.nodes")?;
    schedule::set_memory_policy(mode, &nodes).map_err(|err| {
        let why = match err.errno {
            Errno::NOSYS => "this kernel has no policies for memory (CONFIG_NUMA)",
            Errno::INVAL => "this machine has no such nodes, or the kernel not this mode",
            _ => "the kernel refuses it",
        };
        fail(
            Kind::Unsupported,
            format!("cannot set linux.memoryPolicy: {why}: {err}"),
        )
    })
}
