//! Flags that say where the output of a container is kept.

use std::io::IsTerminal;
use std::path::PathBuf;

use clap::Args;
use regex::Regex;

use crate::cli::flags;
use crate::cli::flags::namespaces::absolute;
use crate::container::config::log::Driver;
use crate::container::config::log::Rotation;
use crate::container::log::tag;
use crate::engine::create::log::Wish;
use crate::error::Kind;
use crate::error::WithHint;
use crate::error::fail;
use crate::text::size;

#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Log")]
pub struct LogFlags {
    /// Keep the output by this driver: k8s-file, json-file, journald, none, passthrough, passthrough-tty
    // Empty is the default, as with podman.
    #[arg(long, value_name = "DRIVER", value_parser = driver)]
    log_driver: Option<Choice>,

    /// Set an option of the driver, as max-size=10m, max-file=3, compress=true, path=FILE or tag=TEMPLATE
    #[arg(long, value_name = "KEY=VALUE", value_parser = option)]
    log_opt: Vec<One>,
}

#[derive(Clone, Copy, Debug)]
struct Choice(Driver);

fn driver(text: &str) -> Result<Choice, String> {
    let mut drivers = Driver::ALL.into_iter();
    match drivers.find(|driver| driver.name() == text) {
        Some(driver) => Ok(Choice(driver)),
        None if text.is_empty() => Ok(Choice(Driver::default())),
        None => Err(
            "expected one of k8s-file, json-file, journald, none, passthrough, passthrough-tty"
                .into(),
        ),
    }
}

/// An option as it was given, and what it says.
#[derive(Clone, Debug)]
struct One {
    key: &'static str,
    value: String,
    says: Says,
}

#[derive(Clone, Debug)]
enum Says {
    Path(PathBuf),
    MaxSize(Option<u64>),
    MaxFile(u32),
    Compress(bool),
    Mode { non_blocking: bool },
    Tag(String),
    Attribute(String, String),
    Labels(Vec<String>),
    LabelsRegex(Regex),
    Env(Vec<String>),
    EnvRegex(Regex),
}

/// The options of the drivers that write files.
const OF_FILES: [&str; 5] = ["compress", "max-file", "max-size", "mode", "path"];
/// Those of the drivers that have a place for more than text.
const OF_RECORDS: [&str; 6] = ["env", "env-regex", "label", "labels", "labels-regex", "tag"];

fn options_of(driver: Driver) -> Vec<&'static str> {
    match driver {
        Driver::K8sFile => OF_FILES.to_vec(),
        Driver::JsonFile => [OF_FILES.as_slice(), &OF_RECORDS].concat(),
        Driver::Journald => [OF_RECORDS.as_slice(), &["mode"]].concat(),
        Driver::None | Driver::Passthrough | Driver::PassthroughTty => vec![],
    }
}

fn option(text: &str) -> Result<One, String> {
    let known = [OF_FILES.as_slice(), &OF_RECORDS].concat();
    let (key, value) = text.split_once('=').ok_or("expected KEY=VALUE")?;
    let Some(key) = known.iter().copied().find(|name| *name == key) else {
        return Err(format!("expected one of the keys {}", known.join(", ")));
    };
    Ok(One {
        key,
        value: value.to_owned(),
        says: says(key, value)?,
    })
}

fn says(key: &str, value: &str) -> Result<Says, String> {
    let names = || {
        value
            .split(',')
            .map(|name| name.trim().to_owned())
            .collect()
    };
    let regex = || Regex::new(value).map_err(|_| "expected a regular expression".to_owned());
    Ok(match key {
        "path" if value.is_empty() => return Err("expected a path".into()),
        "path" => Says::Path(absolute(value)?),
        "max-size" => Says::MaxSize(max_size(value)?),
        "max-file" => Says::MaxFile(
            value
                .parse()
                .ok()
                .filter(|files| *files > 0)
                .ok_or("expected a number of files, at least 1")?,
        ),
        "compress" => Says::Compress(match value {
            "true" | "1" => true,
            "false" | "0" => false,
            _ => return Err("expected true or false".into()),
        }),
        "mode" => Says::Mode {
            non_blocking: match value {
                "blocking" => false,
                "non-blocking" => true,
                _ => return Err("expected blocking or non-blocking".into()),
            },
        },
        "tag" => match tag::check(value) {
            Ok(()) => Says::Tag(value.to_owned()),
            Err(err) => return Err(crate::error::message(&err)),
        },
        "label" => match value.split_once('=') {
            Some((key, value)) if !key.is_empty() => Says::Attribute(key.into(), value.into()),
            _ => return Err("expected label=KEY=VALUE".into()),
        },
        "labels" => Says::Labels(names()),
        "labels-regex" => Says::LabelsRegex(regex()?),
        "env" => Says::Env(names()),
        _ => Says::EnvRegex(regex()?),
    })
}

/// As podman and docker, -1 is no limit.
fn max_size(value: &str) -> Result<Option<u64>, String> {
    if value == "-1" {
        return Ok(None);
    }
    match size::parse(value) {
        Ok(size) if size > 0 => Ok(Some(size)),
        _ => Err("expected a size as 10m, or -1 for no limit".into()),
    }
}

impl LogFlags {
    /// `terminal`: the container has one of its own.
    pub fn into_wish(self, terminal: bool) -> anyhow::Result<Wish> {
        let driver = self.log_driver.map_or(Driver::default(), |choice| choice.0);
        check_streams(driver, terminal)?;
        let known = options_of(driver);
        let mut wish = Wish {
            driver,
            ..Wish::default()
        };
        let (mut size, mut files, mut compress) = (None, None, false);
        for one in self.log_opt {
            if !known.contains(&one.key) {
                return Err(not_of(driver, &one, &known));
            }
            let earlier = wish.options.insert(one.key.to_owned(), one.value.clone());
            if let (Some(earlier), "label") = (earlier, one.key) {
                let both = format!("{earlier},{}", one.value);
                wish.options.insert(one.key.to_owned(), both);
            }
            match one.says {
                Says::Path(path) => wish.path = Some(path),
                Says::MaxSize(given) => size = given,
                Says::MaxFile(given) => files = Some(given),
                Says::Compress(given) => compress = given,
                Says::Mode { non_blocking } if non_blocking && driver.writes_files() => {
                    let text = "--log-opt=\"mode=non-blocking\": expected blocking: a file is written at once";
                    return Err(fail(Kind::Unsupported, text));
                }
                Says::Mode { non_blocking } => wish.non_blocking = non_blocking,
                Says::Tag(tag) => wish.tag = flags::given(Some(tag)),
                Says::Attribute(key, value) => drop(wish.attributes.insert(key, value)),
                Says::Labels(names) => wish.labels = names,
                Says::LabelsRegex(regex) => wish.labels_regex = Some(regex),
                Says::Env(names) => wish.env = names,
                Says::EnvRegex(regex) => wish.env_regex = Some(regex),
            }
        }
        wish.rotation = rotation(size, files, compress)?;
        Ok(wish)
    }
}

fn not_of(driver: Driver, one: &One, known: &[&str]) -> anyhow::Error {
    let mut known = known.to_vec();
    known.sort_unstable();
    let takes = if known.is_empty() {
        "takes no options".to_owned()
    } else {
        format!("takes {}", known.join(", "))
    };
    let text = format!(
        "--log-opt=\"{}={}\": the log driver {} {takes}",
        one.key,
        one.value,
        driver.name()
    );
    fail(Kind::Usage, text)
}

/// An option that would have no effect is refused.
fn rotation(
    size: Option<u64>,
    files: Option<u32>,
    compress: bool,
) -> anyhow::Result<Option<Rotation>> {
    let files_or_one = files.unwrap_or(1);
    match size {
        None if files.is_some_and(|files| files > 1) || compress => Err(fail(
            Kind::Usage,
            "--log-opt max-file and compress need max-size: without it a log is one file",
        )
        .hint("add `--log-opt max-size=10m`")),
        None => Ok(None),
        Some(_) if compress && files_or_one == 1 => Err(fail(
            Kind::Usage,
            "--log-opt compress needs max-file of 2 or more: the file that is written is never compressed",
        )
        .hint("add `--log-opt max-file=3`")),
        Some(size) => Ok(Some(Rotation {
            size,
            files: files_or_one,
            compress,
        })),
    }
}

fn check_streams(driver: Driver, terminal: bool) -> anyhow::Result<()> {
    let name = driver.name();
    if terminal && driver.passes_through() {
        let text = format!(
            "--log-driver={name} with --tty: the container has our streams, not a terminal of its own"
        );
        return Err(fail(Kind::Usage, text));
    }
    // As podman: who can write to our terminal can put words into our mouth (TIOCSTI).
    let has_terminal = std::io::stdin().is_terminal()
        || std::io::stdout().is_terminal()
        || std::io::stderr().is_terminal();
    if driver == Driver::Passthrough && has_terminal {
        let text = "--log-driver=passthrough: a stream of ours is a terminal";
        return Err(fail(Kind::Usage, text)
            .hint("`--log-driver passthrough-tty` gives the container your terminal"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_without_effect_are_refused() {
        assert!(rotation(None, None, false).unwrap().is_none());
        assert!(rotation(None, Some(1), false).unwrap().is_none());
        assert!(rotation(None, Some(2), false).is_err());
        assert!(rotation(Some(1), None, true).is_err());
        let rotation = rotation(Some(1), Some(2), true).unwrap().unwrap();
        assert!(rotation.compress && rotation.files == 2);
    }
}
