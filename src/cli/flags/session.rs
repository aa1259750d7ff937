//! Flags of the commands that stay with a container.

use std::path::PathBuf;

use anyhow::Context;
use clap::Args;

use crate::container::log::Stream;
use crate::error::Kind;
use crate::error::fail;
use crate::text::keys;
use crate::text::keys::Keys;

#[derive(Clone, Debug, Args)]
pub struct DetachFlags {
    /// Leave by these keys, as ctrl-p,ctrl-q or q; empty turns that off [default: ctrl-p,ctrl-q]
    #[arg(long, value_name = "KEYS", value_parser = keys::parse)]
    detach_keys: Option<Keys>,
}

impl DetachFlags {
    /// The keys for somebody at a terminal.
    pub fn keys(&self) -> anyhow::Result<Keys> {
        match &self.detach_keys {
            Some(keys) => Ok(keys.clone()),
            None => of_docker(),
        }
    }
}

/// The keys of Docker's configuration file (`detachKeys`), or the default.
fn of_docker() -> anyhow::Result<Keys> {
    #[derive(serde::Deserialize)]
    struct File {
        #[serde(rename = "detachKeys", default)]
        detach_keys: String,
    }
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".docker"));
    let dir = std::env::var_os("DOCKER_CONFIG").map(PathBuf::from);
    let path = dir.or_else(home).map(|dir| dir.join("config.json"));
    let bytes = path.as_ref().and_then(|path| std::fs::read(path).ok());
    // What else may be wrong with a file of somebody else is none of our affairs.
    let file: Option<File> = bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok());
    let text = file.map(|file| file.detach_keys).unwrap_or_default();
    let text = if text.is_empty() {
        keys::DEFAULT
    } else {
        &text
    };
    let parsed = keys::parse(text).map_err(|expected| {
        fail(
            Kind::Usage,
            format!("\"detachKeys\": \"{text}\": {expected}"),
        )
    });
    parsed.with_context(|| format!("{}", path.unwrap_or_default().display()))
}

#[derive(Clone, Copy, Debug, Args)]
pub struct ProxyFlags {
    /// Pass signals on to the container
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true,
        default_missing_value = "true", value_parser = clap::builder::BoolishValueParser::new(),
        hide_possible_values = true)]
    sig_proxy: Option<bool>,
}

impl ProxyFlags {
    pub fn is_given(self) -> bool {
        self.sig_proxy.is_some()
    }

    /// The choice of the command line, or this default.
    pub fn or(self, default: bool) -> bool {
        self.sig_proxy.unwrap_or(default)
    }
}

/// One of a container's streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attached {
    Stdin,
    Of(Stream),
}

pub fn attached(text: &str) -> Result<Attached, String> {
    match text.to_ascii_lowercase().as_str() {
        "stdin" => Ok(Attached::Stdin),
        "stdout" => Ok(Attached::Of(Stream::Stdout)),
        "stderr" => Ok(Attached::Of(Stream::Stderr)),
        _ => Err("expected stdin, stdout or stderr".into()),
    }
}
