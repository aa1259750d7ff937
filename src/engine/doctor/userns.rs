//! Whether this user may make user namespaces and be root in them, and which of the
//! distributions' switches forbids it where not.

use std::os::fd::AsFd;
use std::path::Path;

use rustix::io::Errno;

use super::Finding;
use super::probes::Probe;
use super::read;
use crate::sys::SyscallError;
use crate::sys::process;
use crate::sys::process::Side;

const NAME: &str = "user namespaces";

/// Makes one in a child that ends at once.
///
/// Must: be called by a single-threaded process.
pub(super) fn try_clone() -> Result<(), SyscallError> {
    match process::clone(libc::CLONE_NEWUSER)? {
        Side::Child => process::exit_now(0),
        Side::Parent(child) => process::wait(child.pidfd.as_fd()).map(drop),
    }
}

pub(super) fn finding(
    works: &Result<(), SyscallError>,
    probes: Result<&Vec<Probe>, &anyhow::Error>,
) -> Finding {
    match (works, probes) {
        (Err(err), _) => explain(err),
        (Ok(()), Err(err)) => Finding::fail(NAME, crate::error::message(err), None),
        (Ok(()), Ok(probes)) => {
            // Linux: an AppArmor that restricts them lets the namespace be made, but gives no
            // capability in it (Ubuntu since 23.10), which shows at the first mount.
            let denied = probes.iter().find(|probe| probe.is_denied());
            match denied {
                Some(probe) if apparmor_restricts() => apparmor(&probe.message),
                Some(probe) => Finding::fail(
                    NAME,
                    format!(
                        "root of a user namespace may not do its work there: {}",
                        probe.message
                    ),
                    None,
                ),
                None => Finding::ok(NAME, "allowed for this user"),
            }
        }
    }
}

/// The switch behind an errno of clone3(CLONE_NEWUSER) (user_namespaces(7)).
fn explain(err: &SyscallError) -> Finding {
    let switch = |path: &str| read(format!("/proc/sys/{path}"));
    if switch("kernel/unprivileged_userns_clone").as_deref() == Some("0") {
        return Finding::fail(
            NAME,
            "kernel.unprivileged_userns_clone is 0: only root may make them",
            Some(set_for_good("kernel.unprivileged_userns_clone=1")),
        );
    }
    if switch("user/max_user_namespaces").as_deref() == Some("0") {
        return Finding::fail(
            NAME,
            "user.max_user_namespaces is 0: nobody may make them",
            Some(set_for_good("user.max_user_namespaces=28633")),
        );
    }
    if apparmor_restricts() && matches!(err.errno, Errno::PERM | Errno::ACCESS) {
        return apparmor(&err.to_string());
    }
    let (what, fix) = match err.errno {
        Errno::NOSPC | Errno::USERS => (
            "too many of them exist, or they are nested more than 32 deep",
            Some(set_for_good("user.max_user_namespaces=28633")),
        ),
        Errno::INVAL | Errno::NOSYS => ("this kernel has none (CONFIG_USER_NS)", None),
        Errno::PERM => (
            "forbidden here: rbox runs in a chroot, or in a container whose seccomp profile forbids them",
            None,
        ),
        _ => ("they cannot be made", None),
    };
    Finding::fail(NAME, format!("{what}: {err}"), fix)
}

/// Sets a sysctl now and for the next boots.
fn set_for_good(setting: &str) -> String {
    format!("echo '{setting}' | sudo tee /etc/sysctl.d/90-rbox.conf && sudo sysctl -w '{setting}'")
}

fn apparmor_restricts() -> bool {
    read("/proc/sys/kernel/apparmor_restrict_unprivileged_userns").as_deref() == Some("1")
}

fn apparmor(seen: &str) -> Finding {
    let fix = match std::env::current_exe() {
        Ok(exe) => Some(apparmor_commands(&exe)),
        Err(_) => None,
    };
    Finding::fail(
        NAME,
        format!("AppArmor gives no capability in them to a program without a profile: {seen}"),
        fix,
    )
}

/// Writes and loads a profile that allows them to the program at this path.
fn apparmor_commands(exe: &Path) -> String {
    format!(
        "sudo tee /etc/apparmor.d/rbox <<'EOF'\n\
         abi <abi/4.0>,\n\
         include <tunables/global>\n\
         \n\
         profile rbox {} flags=(unconfined) {{\n  \
           userns,\n\
         \n  \
           include if exists <local/rbox>\n\
         }}\n\
         EOF\n\
         sudo apparmor_parser -r /etc/apparmor.d/rbox",
        apparmor_path(exe)
    )
}

/// A path as AppArmor's language has it: quoted, its pattern characters escaped (apparmor.d(5)).
fn apparmor_path(path: &Path) -> String {
    let mut quoted = String::from("\"");
    for c in path.to_string_lossy().chars() {
        if matches!(
            c,
            '*' | '?' | '[' | ']' | '{' | '}' | '^' | '"' | '\\' | '@'
        ) {
            quoted.push('\\');
        }
        quoted.push(c);
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_apparmor_profile_names_the_programs_real_path() {
        let expected = [
            "sudo tee /etc/apparmor.d/rbox <<'EOF'",
            "abi <abi/4.0>,",
            "include <tunables/global>",
            "",
            r#"profile rbox "/home/ann b/bin/rbox\{1\}" flags=(unconfined) {"#,
            "  userns,",
            "",
            "  include if exists <local/rbox>",
            "}",
            "EOF",
            "sudo apparmor_parser -r /etc/apparmor.d/rbox",
        ];
        assert_eq!(
            apparmor_commands(Path::new("/home/ann b/bin/rbox{1}")),
            expected.join("\n")
        );
    }

    #[test]
    fn each_errno_has_its_own_words() {
        let what = |errno| {
            let call = "clone3(CLONE_NEWUSER)".to_owned();
            explain(&SyscallError { call, errno }).what
        };
        assert!(what(Errno::NOSPC).starts_with("too many"));
        assert!(what(Errno::INVAL).starts_with("this kernel has none"));
        assert!(what(Errno::PERM).contains("clone3(CLONE_NEWUSER): Operation not permitted"));
    }
}
