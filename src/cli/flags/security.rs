//! Flags that say what the container's processes may do.

use clap::Args;

use crate::container::config::security::Seccomp;
use crate::engine::create::security::Wish;

#[derive(Clone, Debug, Args)]
pub struct SecurityFlags {
    /// Set a security option: no-new-privileges, seccomp=unconfined, or seccomp=FILE with an OCI profile
    #[arg(long, value_name = "OPTION", value_parser = security_option)]
    security_opt: Vec<SecurityOption>,
}

impl SecurityFlags {
    pub fn into_wish(self) -> anyhow::Result<Wish> {
        let mut seccomp = Seccomp::Default;
        let mut no_new_privileges = false;
        for option in self.security_opt {
            match option {
                SecurityOption::NoNewPrivileges(on) => no_new_privileges = on,
                SecurityOption::Seccomp(profile) => seccomp = profile,
            }
        }
        Ok(Wish {
            seccomp,
            no_new_privileges,
        })
    }
}

#[derive(Clone, Debug)]
enum SecurityOption {
    NoNewPrivileges(bool),
    Seccomp(Seccomp),
}

fn security_option(text: &str) -> Result<SecurityOption, String> {
    match text.split_once(['=', ':']).unwrap_or((text, "")) {
        ("no-new-privileges", "" | "true") => Ok(SecurityOption::NoNewPrivileges(true)),
        ("no-new-privileges", "false") => Ok(SecurityOption::NoNewPrivileges(false)),
        ("seccomp", "unconfined") => Ok(SecurityOption::Seccomp(Seccomp::Unconfined)),
        ("seccomp", path) => {
            let text = std::fs::read_to_string(path).map_err(|err| err.to_string())?;
            let profile = serde_json::from_str(&text)
                .map_err(|err| format!("expected an OCI seccomp profile: {err}"))?;
            Ok(SecurityOption::Seccomp(Seccomp::Profile(Box::new(profile))))
        }
        _ => Err(
            "not supported yet: use no-new-privileges, seccomp=unconfined or seccomp=FILE".into(),
        ),
    }
}
