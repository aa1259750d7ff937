//! How a registry is spoken to: what the command line says of it.

use std::path::PathBuf;
use std::time::Duration;

/// Half a second, then twice as long each time, not longer than this.
const WAIT_MAX: Duration = Duration::from_secs(30);

#[derive(Clone, Debug)]
pub struct Access {
    /// With `false`, certificates are not checked and http is tried where https fails. `None`
    /// leaves it to registries.conf, which asks for it where it says nothing.
    pub tls_verify: Option<bool>,
    /// More certificates, as in `certs.d/HOST:PORT/`.
    pub cert_dir: Option<PathBuf>,
    /// `USER:PASSWORD`, in place of what auth files say.
    pub creds: Option<String>,
    /// The only auth file, in place of those of containers-auth.json(5).
    pub authfile: Option<PathBuf>,
    /// In place of those of containers-registries.conf(5).
    pub registries_conf: Option<PathBuf>,
    /// How often one thing is tried again.
    pub retries: u32,
    /// Between two attempts; `None` for a growing time.
    pub retry_delay: Option<Duration>,
    /// How long a server may be silent.
    pub patience: Duration,
}

impl Access {
    /// For a registry that the user has not named: a password that was given is for the one that he has.
    pub fn of_others(&self) -> Self {
        Self {
            creds: None,
            ..self.clone()
        }
    }
}

impl Default for Access {
    fn default() -> Self {
        Self {
            tls_verify: None,
            cert_dir: None,
            creds: None,
            authfile: None,
            registries_conf: None,
            retries: 3,
            retry_delay: None,
            patience: Duration::from_mins(1),
        }
    }
}

impl Access {
    /// How long to wait after that many failures.
    pub fn wait(&self, failures: u32) -> Duration {
        let growing = Duration::from_millis(250) * 2u32.saturating_pow(failures.min(8));
        self.retry_delay.unwrap_or(growing.min(WAIT_MAX))
    }

    /// How long to wait where the registry says for how long, which must be bearable.
    pub fn wait_told(&self, failures: u32, told: Option<Duration>) -> Duration {
        match told {
            Some(told) => told.min(WAIT_MAX),
            None => self.wait(failures),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_grows_and_ends() {
        let access = Access::default();
        assert_eq!(access.wait(1), Duration::from_millis(500));
        assert_eq!(access.wait(4), Duration::from_secs(4));
        assert_eq!(access.wait(100), WAIT_MAX);
        assert_eq!(access.wait_told(1, Some(Duration::MAX)), WAIT_MAX);
        let steady = Access {
            retry_delay: Some(Duration::from_secs(2)),
            ..access
        };
        assert_eq!(steady.wait(5), Duration::from_secs(2));
    }
}
