//! Flags that say which namespaces the container has of its own, and which it shares.

use std::path::PathBuf;

use clap::Args;

use crate::cli::flags::usermode;
use crate::container::config::namespaces::Namespace;
use crate::container::config::namespaces::Namespaces;
use crate::container::config::namespaces::Shm;
use crate::container::config::namespaces::TimeOffset;
use crate::container::config::process::Network;
use crate::error::Kind;
use crate::error::fail;
use crate::text::duration;

/// Where `run --help` lists these.
pub const NETWORKS: &str = "Namespaces and networks";

#[derive(Clone, Debug, Args)]
#[command(next_help_heading = NETWORKS)]
pub struct NamespaceFlags {
    /// Use a cgroup namespace: private, host, container:NAME or ns:PATH
    #[arg(long, value_name = "MODE", value_parser = namespace, default_value = "private",
        hide_default_value = true)]
    cgroupns: Namespace,

    /// Use an IPC namespace: private, shareable, none (private without /dev/shm), host,
    /// container:NAME or ns:PATH
    #[arg(long, value_name = "MODE", value_parser = ipc, default_value = "private",
        hide_default_value = true)]
    ipc: (Namespace, Shm),

    /// Use a process namespace: private, host, container:NAME or ns:PATH
    #[arg(long, value_name = "MODE", value_parser = namespace, default_value = "private",
        hide_default_value = true)]
    pid: Namespace,

    /// Move a clock of the container: monotonic=DURATION or boottime=DURATION, as 24h or -10m
    #[arg(long, value_name = "CLOCK=DURATION", value_parser = time_offset, value_delimiter = ',')]
    time_offset: Vec<TimeOffset>,

    /// Use a time namespace: host, private, container:NAME or ns:PATH
    #[arg(long, value_name = "MODE", value_parser = namespace)]
    timens: Option<Namespace>,

    /// Use a namespace of host names: private, host, container:NAME or ns:PATH
    #[arg(long, value_name = "MODE", value_parser = namespace, default_value = "private",
        hide_default_value = true)]
    uts: Namespace,
}

impl NamespaceFlags {
    /// Containers are still called as the user calls them.
    pub fn into_wish(self) -> anyhow::Result<Namespaces> {
        let time = match (self.timens, self.time_offset.as_slice()) {
            (None, []) => Namespace::Host,
            (None | Some(Namespace::Private), _) => Namespace::Private,
            (Some(shared), []) => shared,
            (Some(shared), _) => {
                let text = format!(
                    "--timens=\"{}\": with --time-offset expected private",
                    shared.name()
                );
                return Err(fail(Kind::Usage, text));
            }
        };
        let (ipc, shm) = self.ipc;
        Ok(Namespaces {
            pid: self.pid,
            ipc,
            shm,
            uts: self.uts,
            cgroup: self.cgroupns,
            time,
            time_offsets: self.time_offset,
        })
    }
}

/// `container:NAME` or `ns:PATH`.
fn joined(text: &str) -> Option<Namespace> {
    match text.split_once(':')? {
        ("container", name) if !name.is_empty() => Some(Namespace::Container(name.to_owned())),
        ("ns", path) if !path.is_empty() => Some(Namespace::Path(std::path::absolute(path).ok()?)),
        _ => None,
    }
}

/// Nothing is what is without the flag, as scripts write it: `--pid "$MODE"`.
fn namespace(text: &str) -> Result<Namespace, String> {
    match text {
        "private" | "" => Ok(Namespace::Private),
        "host" => Ok(Namespace::Host),
        _ => joined(text).ok_or("expected private, host, container:NAME or ns:PATH".into()),
    }
}

fn ipc(text: &str) -> Result<(Namespace, Shm), String> {
    match text {
        "private" | "" => Ok((Namespace::Private, Shm::Private)),
        "shareable" => Ok((Namespace::Private, Shm::Shareable)),
        "none" => Ok((Namespace::Private, Shm::None)),
        "host" => Ok((Namespace::Host, Shm::Private)),
        _ => joined(text)
            .map(|it| (it, Shm::Private))
            .ok_or("expected private, shareable, none, host, container:NAME or ns:PATH".into()),
    }
}

/// A mode of `--network`: `default` is Docker's word for what is without the flag, and nothing is what scripts
/// write for it.
pub fn mode(text: &str) -> Result<Network, String> {
    match text {
        "default" | "" => Ok(Network::Private {
            host_loopback: false,
            optional: true,
            only: None,
            mtu: None,
        }),
        "none" => Ok(Network::None),
        "host" => Ok(Network::Host),
        _ => match joined(text) {
            Some(Namespace::Container(name)) => Ok(Network::Container(name)),
            Some(Namespace::Path(path)) => Ok(Network::Path(path)),
            _ => usermode::parse(text),
        },
    }
}

fn time_offset(text: &str) -> Result<TimeOffset, String> {
    let form =
        "expected monotonic=DURATION or boottime=DURATION, as boottime=24h or monotonic=-10m";
    let (clock, value) = text.split_once('=').ok_or(form)?;
    if !["monotonic", "boottime"].contains(&clock) {
        return Err(form.into());
    }
    let (back, value) = match value.strip_prefix('-') {
        Some(value) => (true, value),
        None => (false, value),
    };
    let offset = duration::parse(value).map_err(|_| form)?;
    let seconds = i64::try_from(offset.as_secs()).map_err(|_| form)?;
    // Linux: the nanoseconds count forwards also from negative seconds (time_namespaces(7)).
    let (seconds, nanos) = match (back, offset.subsec_nanos()) {
        (false, nanos) => (seconds, nanos),
        (true, 0) => (-seconds, 0),
        (true, nanos) => (-seconds - 1, 1_000_000_000 - nanos),
    };
    Ok(TimeOffset {
        clock: clock.to_owned(),
        seconds,
        nanos,
    })
}

/// A path as the user gave it, seen from the root directory.
pub fn absolute(text: &str) -> Result<PathBuf, String> {
    if text.is_empty() {
        return Err("expected a path".into());
    }
    std::path::absolute(text).map_err(|err| err.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_go_both_ways() {
        let read = |text: &str| time_offset(text).map(|it| (it.clock, it.seconds, it.nanos));
        assert_eq!(read("boottime=24h"), Ok(("boottime".into(), 86400, 0)));
        assert_eq!(read("monotonic=-90s"), Ok(("monotonic".into(), -90, 0)));
        assert_eq!(
            read("monotonic=-1500ms"),
            Ok(("monotonic".into(), -2, 500_000_000))
        );
        for wrong in ["", "realtime=1s", "boottime", "boottime=1", "boottime=--1s"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
