//! Flags that set environment variables. Only what the user types is looked up on the host.

use std::path::Path;

use clap::Args;
use clap::builder::BoolishValueParser;

use crate::engine::activation::VARIABLES;
use crate::engine::create::process::Environment;
use crate::error::Kind;
use crate::error::fail;
use crate::text::variables;

/// Variables that programs take for the proxy to use; each counts in capitals too.
const PROXY: [&str; 4] = ["http_proxy", "https_proxy", "ftp_proxy", "no_proxy"];

/// What `run`, `create`, `update` and `exec` share.
#[derive(Clone, Debug, Args)]
pub struct OwnVariables {
    /// Set an environment variable; without a value, that of the host; NAME* takes all that begin so
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    env: Vec<String>,

    /// Set environment variables from a file: one NAME=VALUE a line
    #[arg(long, value_name = "FILE")]
    env_file: Vec<String>,
}

impl OwnVariables {
    /// Those of the files first, then the single ones.
    pub fn read(self) -> anyhow::Result<Vec<String>> {
        if self.env.is_empty() && self.env_file.is_empty() {
            return Ok(vec![]);
        }
        let host = of_host();
        let mut all = Vec::new();
        for path in self.env_file {
            all.extend(read_file(&path, &host)?);
        }
        for word in self.env {
            let read = variables::read(&word, &host).map_err(|why| wrong("--env", &word, &why))?;
            all.extend(read);
        }
        Ok(all)
    }
}

#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Environment")]
pub struct EnvironmentFlags {
    #[command(flatten)]
    own: OwnVariables,

    /// Set all environment variables of the host
    #[arg(long)]
    env_host: bool,

    /// Set an environment variable, with $NAME and ${NAME} in it replaced by those of the image
    #[arg(long, value_name = "NAME=VALUE")]
    env_merge: Vec<String>,

    /// Set the host's http_proxy, https_proxy, ftp_proxy and no_proxy
    #[arg(long, value_name = "BOOL", default_value = "true", default_missing_value = "true",
        num_args = 0..=1, require_equals = true, action = clap::ArgAction::Set,
        value_parser = BoolishValueParser::new(), hide_possible_values = true)]
    http_proxy: bool,

    /// Leave out an environment variable of the image, or one that every container has
    #[arg(long, value_name = "NAME")]
    unsetenv: Vec<String>,

    /// Leave out all environment variables but those that are set by a flag
    #[arg(long)]
    unsetenv_all: bool,
}

/// What `update` has.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Environment, from the next start on")]
pub struct ChangedVariables {
    #[command(flatten)]
    own: OwnVariables,

    /// Leave out an environment variable that it had until now
    #[arg(long, value_name = "NAME")]
    unsetenv: Vec<String>,
}

impl ChangedVariables {
    pub fn into_changes(self) -> anyhow::Result<Environment> {
        check_names(&self.unsetenv)?;
        Ok(Environment {
            own: self.own.read()?,
            unset: self.unsetenv,
            ..Environment::default()
        })
    }
}

impl EnvironmentFlags {
    pub fn into_wish(self) -> anyhow::Result<Environment> {
        let mut base = Vec::new();
        if self.env_host {
            let host = of_host();
            // They are about this process.
            let host = host
                .iter()
                .filter(|(name, _)| !VARIABLES.contains(&name.as_str()));
            base.extend(host.map(|(name, value)| format!("{name}={value}")));
        }
        if self.http_proxy {
            base.extend(proxies());
        }
        let mut merged = Vec::new();
        for word in self.env_merge {
            match word.split_once('=') {
                Some((name, value)) if !name.is_empty() => {
                    merged.push((name.to_owned(), value.to_owned()));
                }
                _ => return Err(wrong("--env-merge", &word, "expected NAME=VALUE")),
            }
        }
        check_names(&self.unsetenv)?;
        Ok(Environment {
            base,
            merged,
            own: self.own.read()?,
            unset: self.unsetenv,
            unset_all: self.unsetenv_all,
        })
    }
}

fn check_names(unset: &[String]) -> anyhow::Result<()> {
    for name in unset {
        if name.is_empty() || name.contains('=') {
            return Err(wrong("--unsetenv", name, "expected the name of a variable"));
        }
    }
    Ok(())
}

fn wrong(flag: &str, value: &str, why: &str) -> anyhow::Error {
    fail(Kind::Usage, format!("{flag}=\"{value}\": {why}"))
}

/// The host's variables that are text.
fn of_host() -> Vec<(String, String)> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}

fn proxies() -> impl Iterator<Item = String> {
    PROXY
        .iter()
        .flat_map(|name| [(*name).to_owned(), name.to_ascii_uppercase()])
        .filter_map(|name| Some(format!("{name}={}", std::env::var(&name).ok()?)))
}

fn read_file(path: &str, host: &[(String, String)]) -> anyhow::Result<Vec<String>> {
    let text = std::fs::read_to_string(Path::new(path))
        .map_err(|err| wrong("--env-file", path, &err.to_string()))?;
    variables::read_file(&text, host)
        .map_err(|(line, why)| fail(Kind::Usage, format!("{path}:{line}: {why}")))
}
