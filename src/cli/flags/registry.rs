//! How to speak to a registry, and which of an image's platforms is wanted: flags that `pull`,
//! `run`, `create` and `push` share.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use crate::cli::prompt;
use crate::error::Kind;
use crate::error::fail;
use crate::image::registry::Access;
use crate::oci::platform::Platform;
use crate::text::duration;

#[derive(Clone, Debug, Args)]
pub struct RegistryFlags {
    /// Take credentials from this file alone
    #[arg(long, value_name = "FILE")]
    authfile: Option<PathBuf>,

    /// Trust the certificates in this directory too
    #[arg(long, value_name = "DIR")]
    cert_dir: Option<PathBuf>,

    /// Log in with these, instead of what the auth files say
    #[arg(long, value_name = "USER[:PASSWORD]")]
    creds: Option<String>,

    /// Look for no signatures of Notary, which rbox never does
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, hide = true,
        default_value = "true", default_missing_value = "true", action = clap::ArgAction::Set,
        value_parser = no_trust)]
    disable_content_trust: bool,

    /// Read this in place of registries.conf
    #[arg(long, value_name = "FILE", hide = true)]
    registries_conf: Option<PathBuf>,

    /// Try again that often where a registry fails
    #[arg(long, value_name = "TIMES", default_value_t = 3)]
    retry: u32,

    /// Wait that long before trying again, instead of ever longer
    #[arg(long, value_name = "DURATION", value_parser = delay)]
    retry_delay: Option<Duration>,

    /// Accept only https with a known certificate; with =false anything
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true,
        default_missing_value = "true", action = clap::ArgAction::Set,
        hide_possible_values = true)]
    tls_verify: Option<bool>,
}

/// `2s`, or seconds.
fn delay(text: &str) -> Result<Duration, String> {
    if let Ok(seconds) = text.parse() {
        return Ok(Duration::from_secs(seconds));
    }
    duration::parse(text).map_err(|_| format!("{text:?} is no time, such as 500ms or 2s"))
}

/// Only that there is no content trust can be asked for.
fn no_trust(text: &str) -> Result<bool, String> {
    match text {
        "true" => Ok(true),
        "false" => Err("rbox looks at digests, and at no signatures of Notary".to_owned()),
        _ => Err(format!("{text:?} is not true")),
    }
}

impl RegistryFlags {
    /// Asks for the password where `--creds` has none.
    pub fn access(&self) -> anyhow::Result<Access> {
        let creds = match &self.creds {
            Some(user) if !user.contains(':') => {
                let password = prompt::secret("Password: ")?;
                Some(format!("{user}:{password}"))
            }
            creds => creds.clone(),
        };
        Ok(Access {
            tls_verify: self.tls_verify,
            cert_dir: self.cert_dir.clone(),
            creds,
            authfile: self.authfile.clone(),
            registries_conf: self.registries_conf.clone(),
            retries: self.retry,
            retry_delay: self.retry_delay,
            ..Access::default()
        })
    }
}

#[derive(Clone, Debug, Args)]
pub struct PlatformFlags {
    /// Take the image for this architecture instead of the machine's own
    #[arg(long, value_name = "ARCH")]
    arch: Option<String>,

    /// Take the image for this operating system instead of the machine's own
    #[arg(long, value_name = "OS")]
    os: Option<String>,

    /// Take the image for this platform instead of the machine's own
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    platform: Option<Platform>,

    /// Take the image for this variant of the architecture
    #[arg(long, value_name = "VARIANT")]
    variant: Option<String>,
}

impl PlatformFlags {
    /// `None` where no flag was given.
    pub fn platform(&self) -> anyhow::Result<Option<Platform>> {
        let parts = [&self.os, &self.arch, &self.variant];
        if parts.iter().all(|part| part.is_none()) {
            return Ok(self.platform.clone());
        }
        if self.platform.is_some() {
            let text = "--platform cannot be combined with --os, --arch or --variant";
            return Err(fail(Kind::Usage, text));
        }
        let host = Platform::host();
        let os = self.os.as_deref().unwrap_or(&host.os);
        let arch = self.arch.as_deref().unwrap_or(&host.architecture);
        let text = match &self.variant {
            Some(variant) => format!("{os}/{arch}/{variant}"),
            None => format!("{os}/{arch}"),
        };
        text.parse().map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_of_a_platform_fill_up_with_the_machines_own() {
        let flags = |os: Option<&str>, arch: Option<&str>, variant: Option<&str>| PlatformFlags {
            arch: arch.map(str::to_owned),
            os: os.map(str::to_owned),
            platform: None,
            variant: variant.map(str::to_owned),
        };
        let shown = |flags: PlatformFlags| flags.platform().unwrap().map(|one| one.to_string());
        assert_eq!(shown(flags(None, None, None)), None);
        let arm = flags(None, Some("arm"), Some("v7"));
        assert_eq!(shown(arm).as_deref(), Some("linux/arm/v7"));
        let both = PlatformFlags {
            platform: Some(Platform::host()),
            ..flags(None, Some("arm"), None)
        };
        assert!(both.platform().is_err());
        assert_eq!(delay("2"), Ok(Duration::from_secs(2)));
        assert_eq!(delay("20ms"), Ok(Duration::from_millis(20)));
        assert!(delay("soon").is_err());
    }
}
