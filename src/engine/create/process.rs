//! What will be executed, in which surroundings.

use std::path::Path;

use crate::container::config::Process;
use crate::container::config::etc::Etc;
use crate::container::config::etc::HostsBase;
use crate::container::config::namespaces::Namespace;
use crate::container::config::namespaces::Namespaces;
use crate::container::config::namespaces::Shm;
use crate::container::config::process::Attachment;
use crate::container::config::process::Limits;
use crate::container::config::process::Network;
use crate::container::config::process::PidFiles;
use crate::container::config::process::Unset;
use crate::container::config::sdnotify::SdNotify;
use crate::container::record::Container;
use crate::engine::Engine;
use crate::engine::etc;
use crate::engine::interfaces;
use crate::error::Kind;
use crate::error::WithHint;
use crate::error::fail;
use crate::image::config::ImageConfig;
use crate::sys::limits;
use crate::text::egress;
use crate::text::egress::Rule;
use crate::text::publish;
use crate::text::publish::Protocol;
use crate::text::publish::Publish;
use crate::text::rate::Rates;
use crate::text::signal;
use crate::text::variables;

/// What the user asks for. Absent is what the image says; containers are called as the user calls them.
#[derive(Clone, Debug)]
pub struct Wish {
    pub command: Vec<String>,
    pub entrypoint: Option<Vec<String>>,
    pub environment: Environment,
    pub workdir: Option<String>,
    pub hostname: Option<String>,
    pub network: Network,
    pub networks: Vec<Attachment>,
    pub publish: Vec<Publish>,
    /// `-P`: the ports that the image names are published too.
    pub publish_all: bool,
    pub expose: Vec<(u16, Protocol)>,
    pub egress: Vec<Rule>,
    pub rates: Rates,
    pub namespaces: Namespaces,
    pub etc: Etc,
    pub terminal: bool,
    pub interactive: bool,
    pub init: bool,
    pub stop_signal: Option<i32>,
    pub stop_timeout: Option<u32>,
    pub timeout: Option<u32>,
    pub limits: Limits,
    pub files: PidFiles,
    pub sdnotify: Option<SdNotify>,
}

/// Variables as `NAME=VALUE`, except where a name stands apart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Environment {
    /// Of the host; the image's win over them.
    pub base: Vec<String>,
    /// Name, and a value that refers to the image's variables.
    pub merged: Vec<(String, String)>,
    /// They win over all others.
    pub own: Vec<String>,
    pub unset: Vec<String>,
    pub unset_all: bool,
}

/// What the container is made of, as the user calls it.
#[derive(Clone, Copy)]
pub enum Base<'a> {
    Image(&'a str),
    Rootfs(&'a str),
}

/// Refuses what no image makes possible.
pub fn check(engine: &Engine, wish: &Wish) -> anyhow::Result<()> {
    let network = &wish.network;
    check_publish(&wish.publish, wish.publish_all, network)?;
    check_hostname(wish.hostname.as_deref(), &wish.namespaces.uts)?;
    check_etc(&wish.etc, network)?;
    check_egress(&wish.egress, wish.rates, network)?;
    check_limits(&wish.limits)?;
    // Looked up once more to be used: they may go while an image is pulled.
    find_network(engine, network.clone())?;
    interfaces::check(&engine.dirs, wish.networks.clone())?;
    find_namespaces(engine, wish.namespaces.clone()).map(drop)
}

/// Of a wish that was checked. `id` is the container's.
pub fn decide(
    engine: &Engine,
    wish: Wish,
    image: &ImageConfig,
    id: &str,
    base: Base<'_>,
) -> anyhow::Result<Process> {
    let (entrypoint, command) = match wish.entrypoint {
        // An entrypoint of the user's makes the image's command meaningless.
        Some(entrypoint) => (entrypoint, wish.command),
        None if wish.command.is_empty() => (image.entrypoint.clone(), image.cmd.clone()),
        None => (image.entrypoint.clone(), wish.command),
    };
    if entrypoint.is_empty() && command.is_empty() {
        return Err(no_command(base));
    }
    // The image's word is taken where it is a signal at all.
    let stop_signal = wish
        .stop_signal
        .or_else(|| signal::parse(&image.stop_signal).ok())
        .unwrap_or(libc::SIGTERM);
    let mut network = find_network(engine, wish.network)?;
    let networks = interfaces::check(&engine.dirs, wish.networks)?;
    let all = wish.publish_all.then(|| exposed(&wish.expose, image));
    let publish = published(wish.publish, all.as_deref());
    let is_limited = !wish.egress.is_empty() || wish.rates != Rates::default();
    interfaces::check_direct(&engine.dirs, &networks, !publish.is_empty(), is_limited)?;
    let namespaces = find_namespaces(engine, wish.namespaces)?;
    let hostname = hostname(engine, wish.hostname, &namespaces.uts, &network, id)?;
    if let Network::Private { optional, .. } = &mut network {
        *optional &= publish.is_empty() && !wish.publish_all && wish.etc.to_host().next().is_none();
    }
    let workdir = wish.workdir.unwrap_or_else(|| image.working_dir.clone());
    Ok(Process {
        entrypoint,
        command,
        env: wish.environment.join(&image.env),
        unset_env: if wish.environment.unset_all {
            Unset::All
        } else {
            Unset::Names(wish.environment.unset)
        },
        workdir: absolute(&workdir),
        hostname,
        network,
        networks,
        publish,
        expose: wish.expose,
        egress: wish.egress,
        rates: wish.rates,
        namespaces,
        etc: wish.etc,
        terminal: wish.terminal,
        interactive: wish.interactive,
        init: wish.init,
        stop_signal,
        stop_timeout: wish.stop_timeout.unwrap_or(10),
        timeout: wish.timeout,
        limits: wish.limits,
        files: wish.files,
        sdnotify: wish.sdnotify,
    })
}

fn no_command(base: Base<'_>) -> anyhow::Error {
    let (text, call) = match base {
        Base::Image(name) => (
            format!("image \"{name}\" has no command, and none was given"),
            name.to_owned(),
        ),
        Base::Rootfs(path) => (
            format!("--rootfs \"{path}\" needs a command, and none was given"),
            format!("--rootfs {path}"),
        ),
    };
    fail(Kind::Usage, text).hint(format!("give one: `rbox run {call} COMMAND`"))
}

impl Environment {
    /// With the image's variables, of which an entry without `=` is dropped: nothing is looked up on the
    /// host for it (CVE-2020-14370).
    pub fn join(&self, image: &[String]) -> Vec<String> {
        let image = || image.iter().filter(|variable| variable.contains('='));
        let merged = self.merged.iter().map(|(name, value)| {
            let of_image = |wanted: &str| {
                let found = image().find_map(|variable| {
                    variable.split_once('=').filter(|(name, _)| *name == wanted)
                });
                found.map(|(_, value)| value.to_owned())
            };
            format!("{name}={}", variables::expand(value, of_image))
        });
        let unset = |variable: &&String| {
            self.unset_all || self.unset.iter().any(|name| name == name_of(variable))
        };
        let others = self.base.iter().chain(image());
        let mut env: Vec<String> = Vec::new();
        for variable in others
            .filter(|variable| !unset(variable))
            .cloned()
            .chain(merged)
            .chain(self.own.iter().cloned())
        {
            match env
                .iter_mut()
                .find(|known| name_of(known) == name_of(&variable))
            {
                Some(known) => *known = variable,
                None => env.push(variable),
            }
        }
        env
    }
}

fn name_of(variable: &str) -> &str {
    variable.split('=').next().unwrap_or_default()
}

fn absolute(workdir: &str) -> String {
    if workdir.starts_with('/') {
        workdir.to_owned()
    } else {
        format!("/{workdir}")
    }
}

/// Names of containers become ids, which stay.
fn find(engine: &Engine, namespace: Namespace) -> anyhow::Result<Namespace> {
    Ok(match namespace {
        Namespace::Container(name) => {
            Namespace::Container(Container::find(&engine.dirs, &name)?.config.id)
        }
        other => other,
    })
}

fn find_network(engine: &Engine, network: Network) -> anyhow::Result<Network> {
    Ok(match network {
        Network::Container(name) => {
            Network::Container(Container::find(&engine.dirs, &name)?.config.id)
        }
        other => other,
    })
}

/// Whether the supervisor serves it.
fn has_way(network: &Network) -> bool {
    matches!(network, Network::Private { .. } | Network::Bridge)
}

/// What the user and the image name; what in an image is no port is none.
fn exposed(named: &[(u16, Protocol)], image: &ImageConfig) -> Vec<(u16, Protocol)> {
    let of_image = image.exposed_ports.iter();
    let of_image = of_image.filter_map(|text| publish::port_and_protocol(text).ok());
    named.iter().copied().chain(of_image).collect()
}

/// There must be a network to publish from, and each port of the host be asked for once.
fn check_publish(asked: &[Publish], all: bool, network: &Network) -> anyhow::Result<()> {
    let what = match asked.first() {
        Some(port) => Some(format!("cannot publish port \"{port}\"")),
        None => all.then(|| "--publish-all".to_owned()),
    };
    if let (false, Some(what)) = (has_way(network), what) {
        let name = network.name();
        let text = format!("{what}: with --network {name} there is nothing to publish from");
        let hint = match network {
            Network::Host => "leave it away: the container listens on the host itself",
            _ => "use `--network private`",
        };
        return Err(fail(Kind::Usage, text).hint(hint));
    }
    for (at, one) in asked.iter().enumerate() {
        // The same once more is no other wish.
        let mut others = asked[..at].iter().filter(|other| *other != one);
        if let Some(other) = others.find(|other| one.clashes(other)) {
            let text =
                format!("cannot publish port \"{one}\": \"{other}\" has that port of the host");
            return Err(fail(Kind::Usage, text));
        }
    }
    Ok(())
}

/// What is published; and with `-P` all that is named.
fn published(mut asked: Vec<Publish>, all: Option<&[(u16, Protocol)]>) -> Vec<Publish> {
    let mut seen = Vec::new();
    asked.retain(|one| {
        let is_new = one.host_port == 0 || !seen.contains(one);
        seen.push(*one);
        is_new
    });
    for &(port, protocol) in all.unwrap_or_default() {
        let is_known = |one: &Publish| one.port == port && one.protocol == protocol;
        if !asked.iter().any(is_known) {
            asked.push(Publish::any(port, protocol));
        }
    }
    asked
}

/// Only what goes through us can be limited.
pub fn check_egress(rules: &[Rule], rates: Rates, network: &Network) -> anyhow::Result<()> {
    egress::check(rules).map_err(|why| fail(Kind::Usage, format!("--network-policy: {why}")))?;
    let given = [
        ("--network-policy", !rules.is_empty()),
        ("--net-rate", rates != Rates::default()),
    ];
    let Some((flag, _)) = given.into_iter().find(|(_, given)| *given) else {
        return Ok(());
    };
    let why = match network {
        Network::Private { .. } | Network::Bridge => return Ok(()),
        Network::None => "there is nothing to limit",
        Network::Host => "the container's packets are the host's own",
        Network::Container(_) => "that container's own settings count",
        Network::Path(_) => "the network is not rbox's",
    };
    let text = format!(
        "flag {flag} cannot be used with --network {}: {why}",
        network.name()
    );
    Err(fail(Kind::Usage, text))
}

fn find_namespaces(engine: &Engine, wish: Namespaces) -> anyhow::Result<Namespaces> {
    if let Namespace::Container(name) = &wish.ipc {
        let other = Container::find(&engine.dirs, name)?
            .config
            .process
            .namespaces;
        if other.ipc == Namespace::Private && other.shm != Shm::Shareable {
            let text = format!("the IPC namespace of container \"{name}\" is not shareable");
            return Err(fail(Kind::Conflict, text).hint("create that with `--ipc shareable`"));
        }
    }
    Ok(Namespaces {
        pid: find(engine, wish.pid)?,
        ipc: find(engine, wish.ipc)?,
        uts: find(engine, wish.uts)?,
        cgroup: find(engine, wish.cgroup)?,
        time: find(engine, wish.time)?,
        ..wish
    })
}

fn check_hostname(wish: Option<&str>, uts: &Namespace) -> anyhow::Result<()> {
    let (Some(name), true) = (wish, *uts != Namespace::Private) else {
        return Ok(());
    };
    let text = format!(
        "--hostname=\"{name}\": the host name of --uts {} is not the container's to set",
        uts.name()
    );
    Err(fail(Kind::Usage, text))
}

/// Empty where it is not known.
fn hostname(
    engine: &Engine,
    wish: Option<String>,
    uts: &Namespace,
    network: &Network,
    id: &str,
) -> anyhow::Result<String> {
    if let Some(name) = wish {
        return Ok(name);
    }
    Ok(match (uts, network) {
        (Namespace::Container(other), _) => {
            Container::find(&engine.dirs, other)?
                .config
                .process
                .hostname
        }
        (Namespace::Path(_), _) => String::new(),
        (Namespace::Host, _) | (_, Network::Host) => rustix::system::uname()
            .nodename()
            .to_string_lossy()
            .into_owned(),
        _ => id[..12].to_owned(),
    })
}

fn check_etc(wish: &Etc, network: &Network) -> anyhow::Result<()> {
    let resolver = &wish.resolver;
    let given = [
        ("--add-host", !wish.added_hosts.is_empty()),
        ("--hosts-file", wish.hosts_base != HostsBase::Default),
        ("--dns", resolver.servers.is_some() || resolver.untouched),
        ("--dns-search", resolver.search.is_some()),
        ("--dns-option", resolver.options.is_some()),
    ];
    if let (Network::Container(_), Some((flag, _))) =
        (network, given.iter().find(|(_, given)| *given))
    {
        let text = format!(
            "flag {flag} cannot be used with --network {}: the files are those of that container",
            network.name()
        );
        return Err(fail(Kind::Usage, text));
    }
    if let (Network::None | Network::Path(_), Some(host)) = (network, wish.to_host().next()) {
        return Err(etc::no_host_gateway(host, &network.name()));
    }
    if let HostsBase::File(path) = &wish.hosts_base {
        std::fs::File::open(path).map_err(|err| {
            fail(
                Kind::Usage,
                format!("--hosts-file=\"{}\": {err}", path.display()),
            )
        })?;
    }
    if let Some(zone) = &wish.time_zone {
        etc::time_zone(zone)?;
    }
    Ok(())
}

pub fn check_limits(wish: &Limits) -> anyhow::Result<()> {
    for limit in &wish.ulimits {
        let host = limits::hard(&limit.name)?;
        if limit.hard > host && !limits::may_have(&limit.name, limit.hard) {
            let name = limit
                .name
                .trim_start_matches("RLIMIT_")
                .to_ascii_lowercase();
            let asked = match limit.hard {
                u64::MAX => "unlimited".into(),
                hard => hard.to_string(),
            };
            let text =
                format!("cannot raise ulimit {name} to {asked}: the host's hard limit is {host}");
            return Err(fail(Kind::Unsupported, text));
        }
    }
    if let Some(score) = wish.oom_score_adj
        && !limits::may_have_oom_score(score)
    {
        let text = format!(
            "cannot set the OOM score to {score}: you may not go below what you have, {}",
            limits::oom_score()?
        );
        return Err(fail(Kind::Unsupported, text));
    }
    if let Some(class) = &wish.rdt_class {
        let root = Path::new("/sys/fs/resctrl");
        let tasks = root.join(class).join("tasks");
        let why = if !root.join("tasks").exists() {
            "this host has no resctrl file system at /sys/fs/resctrl".to_owned()
        } else if let Err(err) = std::fs::File::options().write(true).open(&tasks) {
            format!("{}: {err}", tasks.display())
        } else {
            return Ok(());
        };
        return Err(fail(
            Kind::Unsupported,
            format!("cannot use RDT class \"{class}\": {why}"),
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(own: &[&str]) -> Environment {
        Environment {
            base: vec!["H=host".into(), "A=host".into()],
            merged: vec![],
            own: own.iter().map(|&variable| variable.into()).collect(),
            unset: vec![],
            unset_all: false,
        }
    }

    #[test]
    fn the_users_variables_win_and_the_images_never_reach_the_host() {
        let image = ["A=1", "SECRET", "B=2", "S*"].map(String::from);
        let joined = environment(&["B=3", "C=4", "C=5"]).join(&image);
        assert_eq!(joined, ["H=host", "A=1", "B=3", "C=5"]);
    }

    #[test]
    fn values_are_merged_with_the_images_alone() {
        let image = ["A=1", "B=2"].map(String::from);
        let mut wish = environment(&["B=3"]);
        wish.merged = [("A", "${A}:$H-$B"), ("N", "$NONE.")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .to_vec();
        assert_eq!(wish.join(&image), ["H=host", "A=1:-2", "B=3", "N=."]);
    }

    #[test]
    fn what_is_unset_was_the_images() {
        let image = ["A=1", "B=2"].map(String::from);
        let mut wish = environment(&["B=3"]);
        wish.unset = vec!["A".into(), "B".into()];
        assert_eq!(wish.join(&image), ["H=host", "B=3"]);
        wish.unset_all = true;
        assert_eq!(wish.join(&image), ["B=3"]);
    }

    #[test]
    fn a_working_directory_is_absolute() {
        assert_eq!(absolute(""), "/");
        assert_eq!(absolute("srv"), "/srv");
        assert_eq!(absolute("/srv"), "/srv");
    }
}
