//! What is executed, in which surroundings.

use serde::Deserialize;
use serde::Serialize;

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Process {
    /// What was set for the container and where the image's own value is kept otherwise.
    pub entrypoint: Vec<String>,
    pub command: Vec<String>,
    pub env: Vec<String>,
    pub workdir: String,
    pub hostname: String,
    pub network: Network,
    /// `-t`: a pseudo-terminal.
    pub terminal: bool,
    /// `-i`: standard input is kept open.
    pub interactive: bool,
    pub stop_signal: i32,
    /// Seconds between the stop signal and SIGKILL.
    pub stop_timeout: u32,
}

impl Process {
    /// The whole command line.
    pub fn args(&self) -> Vec<String> {
        [self.entrypoint.as_slice(), self.command.as_slice()].concat()
    }
}

/// How the container sees the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Network {
    /// A network namespace with nothing but loopback.
    None,
    /// The host's own.
    Host,
}

impl Network {
    pub fn name(self) -> &'static str {
        match self {
            Network::None => "none",
            Network::Host => "host",
        }
    }
}
