//! The process of the specification.

use std::path::PathBuf;

use oci_spec::runtime::BoxBuilder;
use oci_spec::runtime::LinuxBuilder;
use oci_spec::runtime::LinuxIntelRdtBuilder;
use oci_spec::runtime::LinuxPersonality;
use oci_spec::runtime::LinuxPersonalityDomain;
use oci_spec::runtime::PosixRlimitBuilder;
use oci_spec::runtime::PosixRlimitType;
use oci_spec::runtime::Process;
use oci_spec::runtime::ProcessBuilder;
use oci_spec::runtime::User;
use oci_spec::runtime::UserBuilder;

use crate::container::config::Config;
use crate::container::config::process::Personality;
use crate::container::spec::Host;
use crate::container::spec::security;

pub fn process(config: &Config, host: &Host) -> anyhow::Result<Process> {
    let asked = &config.process;
    let workdir = if asked.workdir.is_empty() {
        "/"
    } else {
        &asked.workdir
    };
    let mut process = ProcessBuilder::default()
        .terminal(asked.terminal)
        .args(asked.args())
        .env(environment(config, host))
        .cwd(PathBuf::from(workdir))
        .user(user(config)?)
        .capabilities(security::capabilities(config)?)
        .no_new_privileges(config.security.no_new_privileges);
    if let Some(profile) = &config.security.apparmor {
        process = process.apparmor_profile(profile.clone());
    }
    if let Some(context) = &config.security.selinux {
        process = process.selinux_label(context.clone());
    }
    if let (true, Some((rows, columns))) = (asked.terminal, host.size) {
        let size = BoxBuilder::default()
            .height(u64::from(rows))
            .width(u64::from(columns))
            .build()?;
        process = process.console_size(size);
    }
    let mut process = process.build()?;
    let limits = asked.limits.ulimits.iter().map(|limit| {
        PosixRlimitBuilder::default()
            .typ(limit.name.parse::<PosixRlimitType>()?)
            .soft(limit.soft)
            .hard(limit.hard)
            .build()
            .map_err(anyhow::Error::from)
    });
    let limits: Vec<_> = limits.collect::<anyhow::Result<_>>()?;
    process.set_rlimits((!limits.is_empty()).then_some(limits));
    process.set_oom_score_adj(asked.limits.oom_score_adj);
    Ok(process)
}

/// What the kernel is told beside the process itself.
pub fn limit(linux: LinuxBuilder, config: &Config) -> anyhow::Result<LinuxBuilder> {
    let limits = &config.process.limits;
    let mut linux = linux;
    if let Some(personality) = limits.personality {
        let mut domain = LinuxPersonality::default();
        domain.set_domain(match personality {
            Personality::Linux => LinuxPersonalityDomain::PerLinux,
            Personality::Linux32 => LinuxPersonalityDomain::PerLinux32,
        });
        linux = linux.personality(domain);
    }
    if let Some(class) = &limits.rdt_class {
        let rdt = LinuxIntelRdtBuilder::default()
            .clos_id(class.clone())
            .build()?;
        linux = linux.intel_rdt(rdt);
    }
    Ok(linux)
}

/// The user's name is looked up in the container.
fn user(config: &Config) -> anyhow::Result<User> {
    let user = UserBuilder::default().uid(0u32).gid(0u32);
    Ok(match config.identity.umask {
        Some(umask) => user.umask(umask).build()?,
        None => user.build()?,
    })
}

/// The image's and the user's variables, with what a container has in any case.
fn environment(config: &Config, host: &Host) -> Vec<String> {
    let mut env = config.process.env.clone();
    let unset = &config.process.unset_env;
    let mut add = |name: &str, value: &str| {
        let prefix = format!("{name}=");
        if !unset.contains(name) && !env.iter().any(|variable| variable.starts_with(&prefix)) {
            env.push(format!("{prefix}{value}"));
        }
    };
    add(
        "PATH",
        "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    );
    if !config.process.hostname.is_empty() {
        add("HOSTNAME", &config.process.hostname);
    }
    add("container", "rbox");
    if config.process.terminal {
        add("TERM", "xterm");
    }
    for variable in &host.variables {
        if let Some((name, value)) = variable.split_once('=') {
            add(name, value);
        }
    }
    env
}
