//! The process of the specification.

use std::path::PathBuf;

use oci_spec::runtime::BoxBuilder;
use oci_spec::runtime::Process;
use oci_spec::runtime::ProcessBuilder;

use crate::container::config::Config;
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
        .env(environment(config))
        .cwd(PathBuf::from(workdir))
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
    process.set_rlimits(None);
    Ok(process)
}

/// The image's and the user's variables, with what a container has in any case.
fn environment(config: &Config) -> Vec<String> {
    let mut env = config.process.env.clone();
    let mut add = |name: &str, value: &str| {
        let prefix = format!("{name}=");
        if !env.iter().any(|variable| variable.starts_with(&prefix)) {
            env.push(format!("{prefix}{value}"));
        }
    };
    add(
        "PATH",
        "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    );
    add("HOSTNAME", &config.process.hostname);
    add("container", "rbox");
    if config.process.terminal {
        add("TERM", "xterm");
    }
    env
}
