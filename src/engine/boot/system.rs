//! What starts services on this machine.

use std::path::Path;

use anyhow::Context;

use crate::engine::services;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum System {
    Systemd,
    OpenRc,
    Other,
}

impl System {
    pub fn detect() -> System {
        // sd_booted(3); OpenRC keeps its state there.
        if Path::new("/run/systemd/system").is_dir() {
            System::Systemd
        } else if Path::new("/run/openrc").is_dir() {
            System::OpenRc
        } else {
            System::Other
        }
    }

    /// What starts the containers, and where it belongs.
    pub fn line(self) -> anyhow::Result<(String, &'static str)> {
        let program = std::env::current_exe().context("cannot tell where rbox is")?;
        let mut words = vec![shell(&program.display().to_string())];
        let variables = services::environment();
        if !variables.is_empty() {
            let variables = variables.iter().map(|variable| shell(variable));
            words.splice(0..0, std::iter::once("env".into()).chain(variables));
        }
        words.extend(["boot".into(), "run".into()]);
        let command = words.join(" ");
        Ok(match self {
            System::OpenRc if rustix::process::geteuid().is_root() => (
                command,
                "put this line into an executable file /etc/local.d/rbox.start, and `rc-update add local default`",
            ),
            // cron(5): a percent sign begins the input of the command.
            _ => (
                format!("@reboot {}", command.replace('%', "\\%")),
                "add this line to your crontab: `crontab -e`",
            ),
        })
    }
}

/// A word for a shell.
fn shell(word: &str) -> String {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "/._-=:@%+,".contains(letter);
    if word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}

/// logind: the user's systemd runs from boot to shutdown.
pub fn lingers(user: &str) -> bool {
    Path::new("/var/lib/systemd/linger").join(user).exists()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_a_shell_stay_whole() {
        assert_eq!(
            shell("XDG_RUNTIME_DIR=/run/a-b"),
            "XDG_RUNTIME_DIR=/run/a-b"
        );
        assert_eq!(shell("/a b/it's"), "'/a b/it'\\''s'");
    }
}
