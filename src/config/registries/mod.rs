//! What registries.conf and its drop-ins say (containers-registries.conf(5)): where an image is
//! really fetched from, what is blocked, and what a short name stands for.

use std::collections::BTreeMap;
use std::path::Path;
use std::path::PathBuf;

use anyhow::Context;
use anyhow::Result;
use anyhow::anyhow;
use anyhow::bail;

pub mod file;

pub use file::PullFromMirror;
pub use file::Registry;

use file::File;

/// In place of all files of the system and the user.
const VARIABLE: &str = "CONTAINERS_REGISTRIES_CONF";
/// From the last resort to the first.
const SYSTEM: [&str; 2] = ["/usr/share/containers", "/etc/containers"];
/// Auth files, among the credential helpers.
pub const AUTH_FILES: &str = "containers-auth.json";

#[derive(Debug, Default, PartialEq, Eq)]
pub struct Registries {
    /// `None` where no file says anything.
    search: Option<Vec<String>>,
    pub credential_helpers: Vec<String>,
    mode: ShortNameMode,
    registries: BTreeMap<String, Registry>,
    aliases: BTreeMap<String, String>,
}

/// What is done where a short name may mean several images.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ShortNameMode {
    /// The user is asked; where there is none, it is an error.
    Enforcing,
    /// The user is asked; where there is none, one after the other is tried.
    #[default]
    Permissive,
    /// One after the other is tried.
    Disabled,
}

/// What a short name stands for: names without tag and digest.
#[derive(Debug, PartialEq, Eq)]
pub enum Meaning {
    Alias(String),
    /// One of these, in this order.
    OneOf(Vec<String>, ShortNameMode),
}

/// A place to fetch an image from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    pub reference: String,
    pub insecure: bool,
}

impl Registries {
    /// Reads the files that are there, or the given one alone.
    pub fn load(given: Option<&Path>) -> Result<Self> {
        let variable = std::env::var_os(VARIABLE).filter(|path| !path.is_empty());
        let mut registries = Self::default();
        if let Some(path) = given.map(Path::to_path_buf).or(variable.map(PathBuf::from)) {
            let text = std::fs::read_to_string(&path).with_context(|| cannot_read(&path))?;
            registries.merge(&path, &text)?;
        } else {
            for path in paths(&places()) {
                match std::fs::read_to_string(&path) {
                    Ok(text) => registries.merge(&path, &text)?,
                    Err(err) if err.kind() == std::io::ErrorKind::NotFound => {}
                    Err(err) => return Err(err).with_context(|| cannot_read(&path)),
                }
            }
        }
        let recorded = aliases_path();
        if let Some(text) = recorded.and_then(|path| std::fs::read_to_string(path).ok())
            && let Ok(file) = File::parse(&text)
        {
            // Made by machines, here and by podman: a damaged one is no obstacle.
            registries.aliases.extend(file.aliases);
        }
        Ok(registries)
    }

    /// What a later file says replaces what an earlier one said of the same thing.
    fn merge(&mut self, path: &Path, text: &str) -> Result<()> {
        let wrong = |why: String| anyhow!("{}: {why}", cannot_read(path));
        let file = File::parse(text).map_err(&wrong)?;
        if let Some(search) = file.unqualified_search_registries {
            self.search = Some(search);
        }
        if let Some(helpers) = file.credential_helpers {
            self.credential_helpers = helpers;
        }
        match file.short_name_mode.as_deref() {
            None | Some("") => {}
            Some("enforcing") => self.mode = ShortNameMode::Enforcing,
            Some("permissive") => self.mode = ShortNameMode::Permissive,
            Some("disabled") => self.mode = ShortNameMode::Disabled,
            Some(other) => {
                return Err(wrong(format!(
                    "short-name-mode {other:?} is none of enforcing, permissive and disabled"
                )));
            }
        }
        for registry in file.registries {
            self.registries.insert(registry.prefix.clone(), registry);
        }
        self.aliases.extend(file.aliases);
        Ok(())
    }

    /// Where short names are looked for; Docker's registry where no file says anything.
    pub fn search(&self) -> Vec<String> {
        match &self.search {
            Some(search) if !search.is_empty() => search.clone(),
            _ => vec!["docker.io".to_owned()],
        }
    }

    pub fn all(&self) -> impl Iterator<Item = &Registry> {
        self.registries.values()
    }

    /// What holds for a name: that of the longest prefix.
    pub fn of(&self, name: &str) -> Option<&Registry> {
        let fitting = self.registries.values();
        fitting
            .filter_map(|registry| Some((matched(&registry.prefix, name)?, registry)))
            .max_by_key(|(length, registry)| (*length, !registry.prefix.starts_with("*.")))
            .map(|(_, registry)| registry)
    }

    /// The places of an image, mirrors first. An error where it is blocked.
    pub fn sources(&self, reference: &str) -> Result<Vec<Source>> {
        let Some(registry) = self.of(reference) else {
            return Ok(vec![Source {
                reference: reference.to_owned(),
                insecure: false,
            }]);
        };
        if registry.blocked {
            bail!("registry {} is blocked by registries.conf", registry.prefix);
        }
        let by_digest = reference.contains('@');
        let serves = |mirror: &&file::Mirror| match mirror.pull_from_mirror {
            PullFromMirror::All => by_digest || !registry.mirror_by_digest_only,
            PullFromMirror::DigestOnly => by_digest,
            PullFromMirror::TagOnly => !by_digest,
        };
        let place = |location: &str, insecure: bool| Source {
            reference: rewritten(reference, &registry.prefix, location),
            insecure,
        };
        let mirrors = registry.mirrors.iter().filter(serves);
        let mut sources: Vec<Source> = mirrors
            .map(|mirror| place(&mirror.location, mirror.insecure))
            .collect();
        sources.push(place(&registry.location, registry.insecure));
        Ok(sources)
    }

    /// What a name without a registry stands for; it comes without tag and digest.
    pub fn meaning(&self, short: &str) -> Meaning {
        if let Some(alias) = self.aliases.get(short).filter(|value| !value.is_empty()) {
            return Meaning::Alias(alias.clone());
        }
        let search = self.search().into_iter();
        let names = search.map(|registry| format!("{registry}/{short}"));
        Meaning::OneOf(names.collect(), self.mode)
    }
}

fn cannot_read(path: &Path) -> String {
    format!("cannot read {}", path.display())
}

/// The directories with registries.conf, the user's last.
fn places() -> Vec<PathBuf> {
    let mut places: Vec<PathBuf> = SYSTEM.iter().map(PathBuf::from).collect();
    let home = std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".config"));
    let config = std::env::var_os("XDG_CONFIG_HOME").map(PathBuf::from);
    let config = config.filter(|path| path.is_absolute()).or(home);
    places.extend(config.map(|config| config.join("containers")));
    places
}

/// One registries.conf, the first user's, then the drop-ins of all places by name.
fn paths(places: &[PathBuf]) -> Vec<PathBuf> {
    let main = places
        .iter()
        .rev()
        .map(|place| place.join("registries.conf"));
    let mut paths: Vec<PathBuf> = main.filter(|path| path.exists()).take(1).collect();
    for place in places {
        let entries = std::fs::read_dir(place.join("registries.conf.d"));
        let entries = entries.into_iter().flatten().flatten();
        let mut found: Vec<PathBuf> = entries
            .map(|entry| entry.path())
            .filter(|path| path.extension().is_some_and(|ending| ending == "conf"))
            .collect();
        found.sort();
        paths.extend(found);
    }
    paths
}

/// Where choices of the user are recorded, as Podman does it.
pub fn aliases_path() -> Option<PathBuf> {
    const NAME: &str = "containers/short-name-aliases.conf";
    if rustix::process::geteuid().is_root() {
        return Some(PathBuf::from("/var/cache").join(NAME));
    }
    let home = std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache"));
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.filter(|path| path.is_absolute()).or(home);
    cache.map(|cache| cache.join(NAME))
}

/// The file of recorded choices with one more in it.
pub fn with_alias(text: &str, short: &str, name: &str) -> String {
    let mut aliases = File::parse(text).unwrap_or_default().aliases;
    aliases.insert(short.to_owned(), name.to_owned());
    // A string of JSON is one of TOML.
    let lines = aliases
        .iter()
        .map(|(short, name)| format!("  {short:?} = {name:?}\n"));
    std::iter::once("[aliases]\n".to_owned())
        .chain(lines)
        .collect()
}

/// How many bytes of a name its prefix takes.
fn matched(prefix: &str, name: &str) -> Option<usize> {
    let end = match prefix.strip_prefix('*') {
        // `*.example.org` fits the whole host.
        Some(domain) => {
            let host = name.find(['/', ':', '@']).unwrap_or(name.len());
            let fits = name[..host].ends_with(domain) && host > domain.len();
            return fits.then_some(host);
        }
        None if name.starts_with(prefix) => prefix.len(),
        None => return None,
    };
    let next = name[end..].chars().next();
    next.is_none_or(|next| "/:@".contains(next)).then_some(end)
}

fn rewritten(reference: &str, prefix: &str, location: &str) -> String {
    match matched(prefix, reference) {
        Some(end) if !location.is_empty() => format!("{location}{}", &reference[end..]),
        _ => reference.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONF: &str = r#"
unqualified-search-registries = ["a.org", "b.org:5000"]
short-name-mode = "enforcing"
credential-helpers = ["containers-auth.json", "pass"]

[[registry]]
prefix = "a.org/team"
location = "c.org/mirror/team"
[[registry.mirror]]
location = "m1.org"
insecure = true
[[registry.mirror]]
location = "m2.org/x"
pull-from-mirror = "digest-only"

[[registry]]
location = "a.org/team/secret"
blocked = true

[[registry]]
prefix = "*.lan"
insecure = true

[aliases]
"app" = "d.org/x/app"
"gone" = "d.org/gone"
"#;

    fn registries(texts: &[&str]) -> Registries {
        let mut registries = Registries::default();
        for text in texts {
            registries.merge(Path::new("x.conf"), text).unwrap();
        }
        registries
    }

    fn sources(registries: &Registries, reference: &str) -> Vec<String> {
        let sources = registries.sources(reference).unwrap().into_iter();
        let shown = |source: Source| {
            let mark = if source.insecure { "!" } else { "" };
            format!("{mark}{}", source.reference)
        };
        sources.map(shown).collect()
    }

    #[test]
    fn the_longest_prefix_counts_and_mirrors_come_first() {
        let registries = registries(&[CONF]);
        assert_eq!(sources(&registries, "z.org/x:1"), ["z.org/x:1"]);
        assert_eq!(sources(&registries, "a.org/teams:1"), ["a.org/teams:1"]);
        assert_eq!(
            sources(&registries, "a.org/team/app:1"),
            ["!m1.org/app:1", "c.org/mirror/team/app:1"]
        );
        assert_eq!(
            sources(&registries, "a.org/team/app@sha256:0"),
            [
                "!m1.org/app@sha256:0",
                "m2.org/x/app@sha256:0",
                "c.org/mirror/team/app@sha256:0"
            ]
        );
        assert_eq!(
            sources(&registries, "h.x.lan:5000/a:1"),
            ["!h.x.lan:5000/a:1"]
        );
        assert_eq!(sources(&registries, "lan/a:1"), ["lan/a:1"]);
        assert!(registries.sources("a.org/team/secret:1").is_err());
        assert!(registries.sources("a.org/team/secret/more:1").is_err());
    }

    #[test]
    fn short_names_have_aliases_or_are_searched_for() {
        let more = "[aliases]\n\"gone\" = \"\"\n\"new/app\" = \"e.org/app\"\n";
        let registries = registries(&[CONF, more]);
        let alias = |name: &str| Meaning::Alias(name.to_owned());
        assert_eq!(registries.meaning("app"), alias("d.org/x/app"));
        assert_eq!(registries.meaning("new/app"), alias("e.org/app"));
        let names = vec!["a.org/gone".to_owned(), "b.org:5000/gone".to_owned()];
        let several = Meaning::OneOf(names, ShortNameMode::Enforcing);
        assert_eq!(registries.meaning("gone"), several);
        let nothing = Registries::default();
        let hub = Meaning::OneOf(vec!["docker.io/x".to_owned()], ShortNameMode::Permissive);
        assert_eq!(nothing.meaning("x"), hub);
    }

    #[test]
    fn later_files_replace_what_earlier_ones_say() {
        let later =
            "unqualified-search-registries = [\"z.org\"]\n[[registry]]\nprefix = \"*.lan\"\n";
        let registries = registries(&[CONF, later]);
        assert_eq!(registries.search(), ["z.org"]);
        assert_eq!(registries.credential_helpers, [AUTH_FILES, "pass"]);
        assert_eq!(sources(&registries, "x.lan/a"), ["x.lan/a"]);
        let old = "[registries.search]\nregistries = ['r.org']\n[registries.insecure]\nregistries = ['s.org']\n[registries.block]\nregistries = ['t.org']\n";
        let registries = self::registries(&[old]);
        assert_eq!(registries.search(), ["r.org"]);
        assert_eq!(sources(&registries, "s.org/a"), ["!s.org/a"]);
        assert!(registries.sources("t.org/a").is_err());
    }

    #[test]
    fn mistakes_are_told() {
        for (text, word) in [
            ("x = [", "array"),
            ("[[registry]]\ninsecure = true", "neither"),
            ("[[registry]]\nlocation = \"https://a.org\"", "scheme"),
            (
                "[[registry]]\nprefix = \"a.*.org\"\nlocation = \"b\"",
                "*.DOMAIN",
            ),
            ("[[registry]]\nprefix = \"*.a.org/x\"", "*.DOMAIN"),
            (
                "[[registry]]\nlocation = \"a\"\n[[registry.mirror]]\n",
                "no location",
            ),
            (
                "[[registry]]\nlocation = \"a\"\n[[registry.mirror]]\nlocation = \"b\"\npull-from-mirror = \"x\"",
                "x",
            ),
            ("short-name-mode = \"odd\"", "odd"),
            ("[aliases]\n\"a:1\" = \"b.org/a\"", "a:1"),
            ("[aliases]\n\"a\" = \"b\"", "full"),
        ] {
            let err = Registries::default().merge(Path::new("x.conf"), text);
            let message = crate::error::message(&err.unwrap_err());
            assert!(message.contains(word), "{text}: {message}");
            assert!(!message.contains('\n'), "{message}");
        }
    }

    #[test]
    fn a_choice_is_recorded() {
        let text = with_alias("", "app", "a.org/app");
        assert_eq!(text, "[aliases]\n  \"app\" = \"a.org/app\"\n");
        let text = with_alias(&text, "b", "a.org/b");
        assert_eq!(File::parse(&text).unwrap().aliases.len(), 2, "{text}");
    }
}
