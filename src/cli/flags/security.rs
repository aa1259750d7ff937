//! Flags that say what the container's processes may do.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::Args;
use oci_spec::runtime::Capability;

use crate::container::config::security::Capabilities;
use crate::container::config::security::Choice;
use crate::container::config::security::Paths;
use crate::container::config::security::Seccomp;
use crate::engine::create::security::Label;
use crate::engine::create::security::Wish;
use crate::error::Kind;
use crate::error::fail;
use crate::oci::seccomp::Profile;

#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Security")]
pub struct SecurityFlags {
    /// Add a capability, or ALL
    #[arg(long, value_name = "CAPABILITY", value_delimiter = ',', value_parser = capability)]
    cap_add: Vec<Choice>,

    /// Take a capability away, or ALL
    #[arg(long, value_name = "CAPABILITY", value_delimiter = ',', value_parser = capability)]
    cap_drop: Vec<Choice>,

    /// Run the OCI hooks that are configured in this directory
    #[arg(long, value_name = "DIR", value_parser = directory)]
    hooks_dir: Vec<PathBuf>,

    /// Give all capabilities of the container's namespaces and the host's devices, hide and filter nothing
    #[arg(long)]
    privileged: bool,

    /// Set a security option: no-new-privileges, seccomp=FILE|unconfined|learn:FILE, apparmor=PROFILE,
    /// label=disable, mask=PATHS, unmask=PATHS|ALL, proc-opts=OPTIONS, root-emulation=on|off,
    /// systempaths=unconfined
    #[arg(long, value_name = "OPTION", value_parser = security_option)]
    security_opt: Vec<SecurityOption>,

    /// Set a kernel parameter of the container's own namespaces
    #[arg(long, value_name = "NAME=VALUE", value_parser = sysctl)]
    sysctl: Vec<(String, String)>,
}

impl SecurityFlags {
    pub fn into_wish(self) -> anyhow::Result<Wish> {
        let mut wish = Wish {
            capabilities: Capabilities {
                add: join(self.cap_add),
                drop: join(self.cap_drop),
            },
            privileged: self.privileged,
            no_new_privileges: false,
            seccomp: None,
            paths: Paths::default(),
            proc_options: vec![],
            apparmor: None,
            label: Label::default(),
            sysctls: parameters(self.sysctl)?,
            hooks_dirs: self.hooks_dir,
            root_emulation: true,
        };
        for option in self.security_opt {
            option.apply(&mut wish);
        }
        Ok(wish)
    }
}

/// ALL wins over single ones.
fn join(choices: Vec<Choice>) -> Choice {
    let mut all = Vec::new();
    for choice in choices {
        match choice {
            Choice::All => return Choice::All,
            Choice::These(these) => all.extend(these),
        }
    }
    all.dedup();
    Choice::These(all)
}

fn parameters(given: Vec<(String, String)>) -> anyhow::Result<BTreeMap<String, String>> {
    let mut parameters = BTreeMap::new();
    for (name, value) in given {
        match parameters.get(&name) {
            Some(other) if *other != value => {
                return Err(fail(
                    Kind::Usage,
                    format!("--sysctl sets {name} to \"{other}\" and to \"{value}\""),
                ));
            }
            _ => parameters.insert(name, value),
        };
    }
    Ok(parameters)
}

/// With or without `CAP_`, in capital letters or not.
fn capability(text: &str) -> Result<Choice, String> {
    let name = text.to_uppercase();
    let name = name.strip_prefix("CAP_").unwrap_or(&name);
    if name == "ALL" {
        return Ok(Choice::All);
    }
    name.parse::<Capability>()
        .map(|capability| Choice::These(vec![capability]))
        .map_err(|_| "expected a capability such as NET_ADMIN, or ALL (capabilities(7))".into())
}

fn directory(text: &str) -> Result<PathBuf, String> {
    let path = std::path::absolute(text).map_err(|err| err.to_string())?;
    if path.is_dir() {
        Ok(path)
    } else {
        Err("expected a directory".into())
    }
}

/// `net.core.somaxconn=128`; in the name a slash does as well as a dot.
fn sysctl(text: &str) -> Result<(String, String), String> {
    let (name, value) = text
        .split_once('=')
        .ok_or("expected NAME=VALUE, such as net.core.somaxconn=1024")?;
    let part = |part: &str| {
        !part.is_empty()
            && part
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte))
    };
    let name = name.replace('/', ".");
    if !name.split('.').all(part) {
        return Err("expected the name of a kernel parameter, such as net.core.somaxconn".into());
    }
    if value.contains(['\n', '\0']) {
        return Err("expected a value of one line".into());
    }
    Ok((name, value.to_owned()))
}

/// One `--security-opt`.
#[derive(Clone, Debug)]
enum SecurityOption {
    NoNewPrivileges(bool),
    Seccomp(Seccomp),
    AppArmor(String),
    /// Nothing of SELinux is applied unless it is asked for.
    NoLabel,
    LabelUser(String),
    LabelRole(String),
    LabelType(String),
    LabelLevel(String),
    Mask(Vec<PathBuf>),
    Unmask(Vec<String>),
    ProcOptions(Vec<String>),
    RootEmulation(bool),
}

impl SecurityOption {
    fn apply(self, wish: &mut Wish) {
        match self {
            SecurityOption::NoNewPrivileges(on) => wish.no_new_privileges = on,
            SecurityOption::Seccomp(profile) => wish.seccomp = Some(profile),
            SecurityOption::AppArmor(profile) => wish.apparmor = Some(profile),
            SecurityOption::NoLabel => wish.label = Label::default(),
            SecurityOption::LabelUser(user) => wish.label.user = Some(user),
            SecurityOption::LabelRole(role) => wish.label.role = Some(role),
            SecurityOption::LabelType(kind) => wish.label.kind = Some(kind),
            SecurityOption::LabelLevel(level) => wish.label.level = Some(level),
            SecurityOption::Mask(paths) => wish.paths.mask.extend(paths),
            SecurityOption::Unmask(paths) => wish.paths.unmask.extend(paths),
            SecurityOption::RootEmulation(on) => wish.root_emulation = on,
            SecurityOption::ProcOptions(options) => wish.proc_options.extend(options),
        }
    }
}

/// What follows the first `=`, or `:` as old scripts have it.
fn security_option(text: &str) -> Result<SecurityOption, String> {
    let (key, value) = text.split_once(['=', ':']).unwrap_or((text, ""));
    match (key, value) {
        ("no-new-privileges", "" | "true") => Ok(SecurityOption::NoNewPrivileges(true)),
        ("no-new-privileges", "false") => Ok(SecurityOption::NoNewPrivileges(false)),
        ("no-new-privileges", _) => Err("expected true or false".into()),
        ("seccomp", value) if !value.is_empty() => seccomp(value).map(SecurityOption::Seccomp),
        ("apparmor", value) if !value.is_empty() => Ok(SecurityOption::AppArmor(value.into())),
        ("label", value) => label(value),
        ("mask", value) => paths(value).map(|paths| {
            SecurityOption::Mask(paths.into_iter().map(PathBuf::from).collect())
        }),
        ("unmask", value) if value.eq_ignore_ascii_case("all") => {
            Ok(SecurityOption::Unmask(vec!["ALL".into()]))
        }
        ("unmask", value) => patterns(value).map(SecurityOption::Unmask),
        ("proc-opts", value) => proc_options(value).map(SecurityOption::ProcOptions),
        ("root-emulation", "on") => Ok(SecurityOption::RootEmulation(true)),
        ("root-emulation", "off") => Ok(SecurityOption::RootEmulation(false)),
        ("root-emulation", _) => Err("expected on or off".into()),
        ("systempaths", "unconfined") => Ok(SecurityOption::Unmask(vec!["ALL".into()])),
        ("systempaths", _) => Err("expected systempaths=unconfined".into()),
        _ => Err(
            "expected no-new-privileges, seccomp=, apparmor=, label=, mask=, unmask=, proc-opts=, root-emulation= or systempaths=unconfined"
                .into(),
        ),
    }
}

fn seccomp(value: &str) -> Result<Seccomp, String> {
    if value == "unconfined" {
        return Ok(Seccomp::Unconfined);
    }
    if let Some(file) = value.strip_prefix("learn:") {
        let path = std::path::absolute(file).map_err(|err| err.to_string())?;
        return match path.parent() {
            Some(directory) if directory.is_dir() && !path.is_dir() => Ok(Seccomp::Learn(path)),
            _ => Err("expected learn: and a file to write, in a directory that exists".into()),
        };
    }
    let text = std::fs::read_to_string(value).map_err(|err| err.to_string())?;
    let profile =
        Profile::parse(&text).map_err(|err| format!("expected an OCI seccomp profile: {err:#}"))?;
    Ok(Seccomp::Profile(Box::new(profile)))
}

fn label(value: &str) -> Result<SecurityOption, String> {
    match value.split_once(':').unwrap_or((value, "")) {
        ("disable" | "nested", "") => Ok(SecurityOption::NoLabel),
        ("user", part) if !part.is_empty() => Ok(SecurityOption::LabelUser(part.into())),
        ("role", part) if !part.is_empty() => Ok(SecurityOption::LabelRole(part.into())),
        ("type", part) if !part.is_empty() => Ok(SecurityOption::LabelType(part.into())),
        ("level", part) if !part.is_empty() => Ok(SecurityOption::LabelLevel(part.into())),
        ("filetype", _) => Err("not supported: files keep the labels they have".into()),
        _ => Err(
            "expected label=disable, or label=user:, role:, type: or level: with a value".into(),
        ),
    }
}

/// Absolute paths with colons in between.
fn paths(value: &str) -> Result<Vec<String>, String> {
    let wrong = value
        .split(':')
        .find(|path| !path.starts_with('/') || path.split('/').any(|part| part == ".."));
    match wrong {
        Some(path) => Err(format!(
            "\"{path}\" is no absolute path: expected paths with colons in between"
        )),
        None => Ok(value.split(':').map(str::to_owned).collect()),
    }
}

fn patterns(value: &str) -> Result<Vec<String>, String> {
    let patterns = paths(value)?;
    for pattern in &patterns {
        glob::Pattern::new(pattern)
            .map_err(|err| format!("\"{pattern}\" is no pattern: {}", err.msg))?;
    }
    Ok(patterns)
}

/// Linux: what procfs takes when it is mounted (proc(5)).
fn proc_options(value: &str) -> Result<Vec<String>, String> {
    let known = |option: &&str| {
        let (key, value) = option.split_once('=').unwrap_or((option, ""));
        match key {
            "hidepid" => [
                "0",
                "1",
                "2",
                "4",
                "off",
                "noaccess",
                "invisible",
                "ptraceable",
            ]
            .contains(&value),
            "gid" => value.parse::<u32>().is_ok(),
            "subset" => value == "pid",
            "ro" | "rw" | "nosuid" | "nodev" | "noexec" => value.is_empty(),
            _ => false,
        }
    };
    match value.split(',').find(|option| !known(option)) {
        Some(option) => Err(format!(
            "\"{option}\" is no option of procfs: expected hidepid=, gid=, subset=pid or ro"
        )),
        None => Ok(value.split(',').map(str::to_owned).collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_are_named_in_any_way() {
        for text in ["NET_ADMIN", "cap_net_admin", "CAP_NET_ADMIN", "Net_Admin"] {
            let one = Choice::These(vec![Capability::NetAdmin]);
            assert_eq!(capability(text), Ok(one), "{text}");
        }
        assert_eq!(capability("all"), Ok(Choice::All));
        for wrong in ["", "CAP_", "NETADMIN", "12", "CAP_CAP_CHOWN"] {
            assert!(capability(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn kernel_parameters_have_names_and_values() {
        let pair = |name: &str, value: &str| Ok((name.to_owned(), value.to_owned()));
        assert_eq!(
            sysctl("net/core/somaxconn=1"),
            pair("net.core.somaxconn", "1")
        );
        assert_eq!(sysctl("kernel.sem=1 2 3 4"), pair("kernel.sem", "1 2 3 4"));
        for wrong in ["", "net.x", "=1", "net..x=1", "../x=1", "net.x=1\n2"] {
            assert!(sysctl(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_is_no_security_option_is_refused() {
        for wrong in [
            "",
            "x=y",
            "seccomp=",
            "seccomp=/nowhere",
            "seccomp=learn:",
            "seccomp=learn:/nowhere/file",
            "seccomp=learn:/",
            "apparmor=",
            "label=",
            "label=type:",
            "mask=x",
            "unmask=/a:b",
            "unmask=/a/../b",
            "proc-opts=",
            "proc-opts=hidepid=9",
            "root-emulation=",
            "root-emulation=perhaps",
            "systempaths=x",
            "no-new-privileges=perhaps",
        ] {
            assert!(security_option(wrong).is_err(), "{wrong}");
        }
    }
}
