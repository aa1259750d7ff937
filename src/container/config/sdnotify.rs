//! Who tells a service manager that the container is ready (sd_notify(3)).

use serde::Deserialize;
use serde::Serialize;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SdNotify {
    /// A program of the container, over a socket that it is shown.
    Container,
    /// The supervisor, when the container runs.
    Conmon,
    /// The supervisor, when the container's health check succeeds.
    Healthy,
    /// Nobody.
    Ignore,
}

impl SdNotify {
    pub fn name(self) -> &'static str {
        match self {
            SdNotify::Container => "container",
            SdNotify::Conmon => "conmon",
            SdNotify::Healthy => "healthy",
            SdNotify::Ignore => "ignore",
        }
    }

    pub fn parse(text: &str) -> Option<SdNotify> {
        let all = [
            SdNotify::Container,
            SdNotify::Conmon,
            SdNotify::Healthy,
            SdNotify::Ignore,
        ];
        all.into_iter().find(|one| one.name() == text)
    }
}
