//! `rbox oci exec`.

use std::collections::HashSet;
use std::path::PathBuf;

use anyhow::Context as _;
use oci_spec::runtime::Capability;
use oci_spec::runtime::LinuxCapabilities;
use oci_spec::runtime::Process;
use oci_spec::runtime::User;

use crate::bundle::create::Streams;
use crate::bundle::exec;
use crate::bundle::exec::Options;
use crate::cli::oci::Context;
use crate::cli::oci::attached::Attached;
use crate::error::Kind;
use crate::error::fail;
use crate::oci::runtime as runtime_spec;

/// Execute another process in a container
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Add a supplementary group
    #[arg(short = 'g', long, value_name = "GID")]
    additional_gids: Vec<u32>,

    /// Confine it by this AppArmor profile
    #[arg(long, value_name = "PROFILE")]
    apparmor: Option<String>,

    /// Give it this capability too
    #[arg(short, long, value_name = "CAPABILITY", value_parser = capability)]
    cap: Vec<Capability>,

    /// Put it into this group inside that of the container
    #[arg(long, value_name = "PATH")]
    cgroup: Option<PathBuf>,

    /// Send its terminal to who listens on this socket
    #[arg(long, value_name = "SOCKET")]
    console_socket: Option<PathBuf>,

    /// Set the working directory
    #[arg(long, value_name = "DIR")]
    cwd: Option<PathBuf>,

    /// Do not stay with it
    #[arg(short, long)]
    detach: bool,

    /// Set an environment variable
    #[arg(short, long, value_name = "NAME=VALUE")]
    env: Vec<String>,

    /// Let it wait in a container that is paused
    #[arg(long)]
    ignore_paused: bool,

    /// Let it gain no privileges
    #[arg(long)]
    no_new_privs: bool,

    /// Write its pid to this file
    #[arg(long, value_name = "FILE")]
    pid_file: Option<PathBuf>,

    /// Send a pidfd of it to who listens on this socket
    #[arg(long, value_name = "SOCKET")]
    pidfd_socket: Option<PathBuf>,

    /// Give N descriptors, from 3 on, to it
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    preserve_fds: u32,

    /// Read what to execute from this file: the process of a config.json
    #[arg(short, long, value_name = "FILE")]
    process: Option<PathBuf>,

    /// Give it this SELinux label
    #[arg(long, value_name = "LABEL")]
    process_label: Option<String>,

    /// Give it a terminal
    #[arg(short, long)]
    tty: bool,

    /// Run it as this user
    #[arg(short, long, value_name = "UID[:GID]", value_parser = user)]
    user: Option<(u32, Option<u32>)>,

    /// The container, and the command with its arguments
    #[arg(required = true, num_args = 1.., trailing_var_arg = true, allow_hyphen_values = true,
        value_names = ["ID", "COMMAND"])]
    container_and_command: Vec<String>,
}

fn user(text: &str) -> Result<(u32, Option<u32>), String> {
    let (uid, gid) = match text.split_once(':') {
        Some((uid, gid)) => (uid, Some(gid)),
        None => (text, None),
    };
    let number = |text: &str| text.parse().map_err(|_| "expected UID or UID:GID");
    Ok((number(uid)?, gid.map(number).transpose()?))
}

fn capability(text: &str) -> Result<Capability, String> {
    let upper = text.to_uppercase();
    let name = upper.strip_prefix("CAP_").unwrap_or(&upper);
    serde_json::from_value(serde_json::Value::String(format!("CAP_{name}")))
        .map_err(|_| "expected the name of a capability, as CAP_SYS_ADMIN".into())
}

pub fn run(context: &Context, args: Args) -> anyhow::Result<u8> {
    let container = context.find(&args.container_and_command[0])?;
    let spec = container.spec()?;
    let mut warn = |text| context.warn(&anyhow::anyhow!("{text}"));
    let process = match &args.process {
        Some(path) => runtime_spec::read_process(path, &mut warn)?,
        None => args.process_of(spec.process().as_ref())?,
    };
    let mut options = Options {
        streams: Streams::Passed(args.console_socket.as_deref()),
        pid_file: args.pid_file.as_deref(),
        pidfd_socket: args.pidfd_socket.as_deref(),
        preserved: args.preserve_fds,
        group: args.cgroup.as_deref(),
        ignore_paused: args.ignore_paused,
    };
    if args.detach {
        exec::exec(&container, &spec, &process, &options)?;
        return Ok(0);
    }
    if args.console_socket.is_some() {
        let joined = exec::exec(&container, &spec, &process, &options)?;
        let pidfd = std::os::fd::AsFd::as_fd(&joined.command.pidfd);
        let exit = crate::sys::process::wait(pidfd)?;
        return Ok(u8::try_from(exit.status).unwrap_or(255));
    }
    let attached = Attached::new()?;
    let make = || attached.stdio();
    options.streams = Streams::Held(&make);
    let joined = exec::exec(&container, &spec, &process, &options)?;
    let status = attached.session(joined)?.run()?;
    Ok(u8::try_from(status).unwrap_or(255))
}

impl Args {
    /// That of the container, with what the flags change.
    fn process_of(&self, own: Option<&Process>) -> anyhow::Result<Process> {
        let command = &self.container_and_command[1..];
        if command.is_empty() {
            return Err(fail(Kind::Usage, "missing COMMAND, or --process FILE"));
        }
        let mut process = own.cloned().context("the container has no process")?;
        process.set_args(Some(command.to_vec()));
        process.set_terminal(Some(self.tty));
        if let Some(cwd) = &self.cwd {
            process.set_cwd(cwd.clone());
        }
        if let Some(profile) = &self.apparmor {
            process.set_apparmor_profile(Some(profile.clone()));
        }
        if let Some(label) = &self.process_label {
            process.set_selinux_label(Some(label.clone()));
        }
        if self.no_new_privs {
            process.set_no_new_privileges(Some(true));
        }
        if !self.cap.is_empty() {
            let sets = process.capabilities().clone().unwrap_or_default();
            process.set_capabilities(Some(with_more(sets, &self.cap)));
        }
        let mut env = process.env().clone().unwrap_or_default();
        let name = |variable: &str| variable.split('=').next().map(str::to_owned);
        for variable in &self.env {
            env.retain(|known| name(known) != name(variable));
            env.push(variable.clone());
        }
        process.set_env(Some(env));
        process.set_user(self.user_of(process.user()));
        Ok(process)
    }

    fn user_of(&self, own: &User) -> User {
        let mut user = own.clone();
        if let Some((uid, gid)) = self.user {
            user.set_uid(uid);
            user.set_gid(gid.unwrap_or(user.gid()));
        }
        if !self.additional_gids.is_empty() {
            let mut groups = user.additional_gids().clone().unwrap_or_default();
            groups.extend(&self.additional_gids);
            user.set_additional_gids(Some(groups));
        }
        user
    }
}

/// As runc has it: they come into all sets but the inheritable one, and into the ambient one where that is not empty.
fn with_more(mut sets: LinuxCapabilities, more: &[Capability]) -> LinuxCapabilities {
    let with = |set: &Option<HashSet<Capability>>| {
        let mut set = set.clone().unwrap_or_default();
        set.extend(more);
        Some(set)
    };
    let (bounding, effective, permitted) = (
        with(sets.bounding()),
        with(sets.effective()),
        with(sets.permitted()),
    );
    if sets
        .inheritable()
        .as_ref()
        .is_some_and(|set| !set.is_empty())
    {
        let ambient = with(sets.ambient());
        sets.set_ambient(ambient);
    }
    sets.set_bounding(bounding);
    sets.set_effective(effective);
    sets.set_permitted(permitted);
    sets
}
