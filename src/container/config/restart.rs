//! Whether a container is started again when it has ended by itself.

use serde::Deserialize;
use serde::Serialize;

/// A restart policy, as Docker and Podman have it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Restart {
    #[default]
    No,
    /// After a status other than 0, at most so many times; 0 is no limit.
    OnFailure {
        most: u32,
    },
    Always,
    /// As `Always`, but for the next boot: one that a person has stopped stays so.
    UnlessStopped,
}

impl Restart {
    /// Reads `on-failure:3`.
    pub fn parse(text: &str) -> Result<Restart, String> {
        let (name, most) = match text.split_once(':') {
            Some((name, most)) => (name, Some(most)),
            None => (text, None),
        };
        let restart = match name {
            "" | "no" => Restart::No,
            "on-failure" => {
                let most = most.map_or(Some(0), |most| most.parse().ok());
                let most = most.ok_or("expected a whole number after on-failure:, not negative")?;
                return Ok(Restart::OnFailure { most });
            }
            "always" => Restart::Always,
            "unless-stopped" => Restart::UnlessStopped,
            _ => return Err("expected no, on-failure[:TIMES], always or unless-stopped".into()),
        };
        match most {
            Some(_) => Err("expected a number of times after on-failure alone".into()),
            None => Ok(restart),
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Restart::No => "no",
            Restart::OnFailure { .. } => "on-failure",
            Restart::Always => "always",
            Restart::UnlessStopped => "unless-stopped",
        }
    }

    /// How often at most; 0 is no limit.
    pub fn most(self) -> u32 {
        match self {
            Restart::OnFailure { most } => most,
            _ => 0,
        }
    }

    /// Whether a container that ended by itself is started again, after so many times before.
    pub fn wants(self, status: i32, restarts: u32) -> bool {
        match self {
            Restart::No => false,
            Restart::OnFailure { most } => status != 0 && (most == 0 || restarts < most),
            Restart::Always | Restart::UnlessStopped => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_are_read_as_docker_and_podman_write_them() {
        for (text, restart) in [
            ("no", Restart::No),
            ("", Restart::No),
            ("on-failure", Restart::OnFailure { most: 0 }),
            ("on-failure:3", Restart::OnFailure { most: 3 }),
            ("always", Restart::Always),
            ("unless-stopped", Restart::UnlessStopped),
        ] {
            assert_eq!(Restart::parse(text), Ok(restart), "{text}");
        }
        for text in [
            "on-failure:",
            "on-failure:-1",
            "on-failure:x",
            "always:3",
            "no:1",
            ":3",
            "Always",
            "never",
        ] {
            assert!(Restart::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_policy_counts_failures() {
        let thrice = Restart::OnFailure { most: 3 };
        assert!(thrice.wants(1, 2) && !thrice.wants(1, 3) && !thrice.wants(0, 0));
        assert!(Restart::OnFailure { most: 0 }.wants(137, 1_000_000));
        assert!(Restart::Always.wants(0, 1_000_000) && !Restart::No.wants(1, 0));
    }
}
