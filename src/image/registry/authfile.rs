//! Files with credentials (containers-auth.json(5), and Docker's config.json): where they are, what they say
//! of a repository, and changes of them that leave alone what else is in them.

use std::path::Path;
use std::path::PathBuf;

use anyhow::Context;
use anyhow::Result;
use anyhow::anyhow;
use anyhow::bail;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustix::fs::FlockOperation;
use serde_json::Map;
use serde_json::Value;
use serde_json::json;

use crate::config::registries::AUTH_FILES;
use crate::config::registries::Registries;
use crate::error::Kind;
use crate::error::WithHint;
use crate::error::fail;
use crate::image::registry::access::Access;
use crate::image::registry::auth::Credentials;
use crate::image::registry::helper;
use crate::oci::reference::DOCKER_HUB;
use crate::store::atomic;
use crate::store::atomic::Durability;

const FILE_MAX: u64 = 4 << 20;
/// What Docker calls its registry in files and for helpers.
const DOCKER_KEY: &str = "https://index.docker.io/v1/";

/// The credentials for a repository (or a registry, with an empty repository): those given, else what the
/// helpers of registries.conf say, among which are the auth files.
pub fn find(
    registry: &str,
    repository: &str,
    access: &Access,
    registries: &Registries,
) -> Result<Option<Credentials>> {
    if let Some(given) = &access.creds {
        return Credentials::parse(given)
            .map(Some)
            .ok_or_else(|| fail(Kind::Usage, "--creds must be USER:PASSWORD"));
    }
    if let Some(path) = &access.authfile
        && !path.exists()
    {
        return Err(fail(
            Kind::NotFound,
            format!("there is no auth file {}", path.display()),
        ));
    }
    for helper in helpers(registries) {
        let found = if helper == AUTH_FILES {
            in_files(registry, repository, &places(access))?
        } else {
            helper::get(helper, registry)?
        };
        if found.is_some() {
            return Ok(found);
        }
    }
    Ok(None)
}

pub fn helpers(registries: &Registries) -> Vec<&str> {
    let helpers = registries.credential_helpers.iter().map(String::as_str);
    let helpers: Vec<&str> = helpers.collect();
    if helpers.is_empty() {
        return vec![AUTH_FILES];
    }
    helpers
}

fn in_files(registry: &str, repository: &str, paths: &[PathBuf]) -> Result<Option<Credentials>> {
    for path in paths {
        let found = AuthFile::read(path)
            .and_then(|file| file.find(registry, repository))
            .with_context(|| format!("cannot read {}", path.display()))?;
        if found.is_some() {
            return Ok(found);
        }
    }
    Ok(None)
}

/// The auth files, the one that `login` writes first.
pub fn places(access: &Access) -> Vec<PathBuf> {
    match &access.authfile {
        Some(path) => vec![path.clone()],
        None => default_places(|name| {
            let value = std::env::var_os(name).filter(|value| !value.is_empty());
            value.map(PathBuf::from)
        }),
    }
}

/// In Podman's order: a variable that names a file or Docker's directory leaves no other.
fn default_places(variable: impl Fn(&str) -> Option<PathBuf>) -> Vec<PathBuf> {
    if let Some(path) = variable("REGISTRY_AUTH_FILE") {
        return vec![path];
    }
    if let Some(dir) = variable("DOCKER_CONFIG") {
        return vec![dir.join("config.json")];
    }
    let home = variable("HOME");
    let in_home = |path: &str| home.as_ref().map(|home| home.join(path));
    let uid = rustix::process::geteuid().as_raw();
    let run = match variable("XDG_RUNTIME_DIR") {
        Some(dir) => dir.join("containers/auth.json"),
        None => PathBuf::from(format!("/run/containers/{uid}/auth.json")),
    };
    let config = variable("XDG_CONFIG_HOME").or_else(|| in_home(".config"));
    let config = config.map(|dir| dir.join("containers/auth.json"));
    let docker = in_home(".docker/config.json");
    [Some(run), config, docker].into_iter().flatten().collect()
}

/// One file as it is, also where it does not exist.
pub struct AuthFile {
    path: PathBuf,
    content: Map<String, Value>,
}

impl AuthFile {
    pub fn read(path: &Path) -> Result<Self> {
        let content = match std::fs::metadata(path) {
            Err(err) if err.kind() == std::io::ErrorKind::NotFound => Map::new(),
            Err(err) => return Err(err.into()),
            Ok(metadata) if metadata.len() > FILE_MAX => {
                bail!("it has more than {FILE_MAX} bytes");
            }
            Ok(_) => match std::fs::read(path)? {
                // Of `--authfile $(mktemp)`, say.
                bytes if bytes.is_empty() => Map::new(),
                bytes => serde_json::from_slice(&bytes)?,
            },
        };
        Ok(Self {
            path: path.to_owned(),
            content,
        })
    }

    /// What it says: by a helper for this registry, by an entry, by the helper for all.
    pub fn find(&self, registry: &str, repository: &str) -> Result<Option<Credentials>> {
        if let Some((helper, key)) = self.helper_for(registry, repository) {
            return helper::get(helper, &key);
        }
        for key in keys(registry, repository) {
            if let Some(entry) = self.auths().and_then(|auths| auths.get(&key)) {
                let found = credentials(entry).with_context(|| format!("the entry for {key}"))?;
                if found.is_some() {
                    return Ok(found);
                }
            }
        }
        match self.store_for_all() {
            Some(helper) => helper::get(helper, docker_key(registry)),
            None => Ok(None),
        }
    }

    /// Writes credentials down, or gives them to the helper that the file names. Returns where they are.
    pub fn set(&mut self, key: &str, credentials: &Credentials) -> Result<String> {
        let (registry, repository) = key.split_once('/').unwrap_or((key, ""));
        if let Some((helper, key)) = self.helper_for(registry, repository) {
            helper::store(helper, &key, credentials)?;
            return Ok(format!("credential helper {helper}"));
        }
        if let Some(helper) = self.store_for_all().filter(|_| repository.is_empty()) {
            helper::store(helper, docker_key(registry), credentials)?;
            let where_to = format!("credential helper {helper}");
            // As Docker writes it: that there is something to ask the helper for.
            self.insert(docker_key(registry), json!({}))?;
            return Ok(where_to);
        }
        let pair = |user: &str, password: &str| STANDARD.encode(format!("{user}:{password}"));
        let entry = match credentials {
            Credentials::Password { user, password } => json!({"auth": pair(user, password)}),
            // As Docker writes it.
            Credentials::IdentityToken { user, token } => {
                json!({"auth": pair(user, ""), "identitytoken": token})
            }
        };
        self.insert(key, entry)?;
        Ok(self.path.display().to_string())
    }

    /// Forgets credentials; whether there were some.
    pub fn remove(&mut self, key: &str) -> Result<bool> {
        let (registry, repository) = key.split_once('/').unwrap_or((key, ""));
        let mut removed = false;
        if let Some((helper, key)) = self.helper_for(registry, repository) {
            removed |= helper::erase(helper, &key)?;
        } else if let Some(helper) = self.store_for_all().filter(|_| repository.is_empty()) {
            removed |= helper::erase(helper, docker_key(registry))?;
        }
        let mut names = vec![key.to_owned()];
        if repository.is_empty() {
            names.extend(spellings(registry));
        }
        let auths = self.content.get_mut("auths").and_then(Value::as_object_mut);
        let Some(auths) = auths else {
            return Ok(removed);
        };
        let before = auths.len();
        auths.retain(|name, _| !names.contains(name));
        if auths.len() < before {
            removed = true;
            self.save()?;
        }
        Ok(removed)
    }

    /// Forgets all that the file has, and all that its helpers keep for it.
    pub fn remove_all(&mut self) -> Result<()> {
        if let Some(helper) = self.store_for_all() {
            for server in helper::list(helper)? {
                helper::erase(helper, &server)?;
            }
        }
        for (server, helper) in self.helpers().into_iter().flatten() {
            if let Some(helper) = helper.as_str() {
                helper::erase(helper, server)?;
            }
        }
        let auths = self.content.get("auths").and_then(Value::as_object);
        if auths.is_some_and(|auths| !auths.is_empty()) {
            self.content.insert("auths".to_owned(), json!({}));
            self.save()?;
        }
        Ok(())
    }

    fn auths(&self) -> Option<&Map<String, Value>> {
        self.content.get("auths")?.as_object()
    }

    fn helpers(&self) -> Option<&Map<String, Value>> {
        self.content.get("credHelpers")?.as_object()
    }

    /// The helper for a registry, and what it is asked for.
    fn helper_for(&self, registry: &str, repository: &str) -> Option<(&str, String)> {
        let helpers = self.helpers()?;
        keys(registry, repository).into_iter().find_map(|key| {
            let helper = helpers.get(&key)?.as_str()?;
            Some((helper, key))
        })
    }

    fn store_for_all(&self) -> Option<&str> {
        let helper = self.content.get("credsStore")?.as_str()?;
        (!helper.is_empty()).then_some(helper)
    }

    fn insert(&mut self, key: &str, entry: Value) -> Result<()> {
        let auths = self.content.entry("auths").or_insert_with(|| json!({}));
        let auths = auths
            .as_object_mut()
            .ok_or_else(|| anyhow!("{}: auths is no object", self.path.display()))?;
        auths.insert(key.to_owned(), entry);
        self.save()
    }

    fn save(&self) -> Result<()> {
        // One that is a symbolic link stays one.
        let path = std::fs::canonicalize(&self.path).unwrap_or_else(|_| self.path.clone());
        let mut text = serde_json::to_string_pretty(&self.content)?;
        text.push('\n');
        atomic::write(&path, text.as_bytes(), Durability::Durable)
    }
}

/// Changes a file while nobody else of rbox does. Its directory is made where it is missing.
pub fn change<T>(path: &Path, act: impl FnOnce(&mut AuthFile) -> Result<T>) -> Result<T> {
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let cannot = || format!("cannot change {}", path.display());
    let mode = std::os::unix::fs::DirBuilderExt::mode(&mut std::fs::DirBuilder::new(), 0o700)
        .recursive(true)
        .create(parent);
    mode.with_context(cannot)?;
    let dir = std::fs::File::open(parent).with_context(cannot)?;
    rustix::fs::flock(&dir, FlockOperation::LockExclusive).with_context(cannot)?;
    let mut file = AuthFile::read(path)
        .with_context(cannot)
        .hint("mend the file, or name another with --authfile")?;
    act(&mut file)
}

/// One entry of `auths`; `None` for an empty one.
fn credentials(entry: &Value) -> Result<Option<Credentials>> {
    let field = |name: &str| {
        let value = entry.get(name).and_then(Value::as_str);
        value.map(str::trim).filter(|value| !value.is_empty())
    };
    let pair = field("auth").map(|auth| {
        let decoded = STANDARD.decode(auth).ok();
        let pair = decoded.and_then(|bytes| String::from_utf8(bytes).ok())?;
        // Docker of old ended it with zeros.
        Credentials::parse(pair.trim_end_matches('\0'))
    });
    if let Some(token) = field("identitytoken") {
        let user = pair.flatten().map(|pair| pair.user().to_owned());
        return Ok(Some(Credentials::IdentityToken {
            user: user.unwrap_or_default(),
            token: token.to_owned(),
        }));
    }
    match pair {
        Some(None) => bail!("it is not user:password in base64"),
        found => Ok(found.flatten()),
    }
}

/// From the most special to the registry, and then as Docker writes it.
fn keys(registry: &str, repository: &str) -> Vec<String> {
    let mut keys = Vec::new();
    let mut path = format!("{registry}/{repository}");
    while let Some(slash) = path.rfind('/') {
        if !path.ends_with('/') {
            keys.push(path.clone());
        }
        path.truncate(slash);
    }
    keys.push(path);
    keys.extend(spellings(registry));
    keys
}

/// Other names of a registry in files.
fn spellings(registry: &str) -> Vec<String> {
    let mut names = Vec::new();
    if registry == DOCKER_HUB {
        names.extend([DOCKER_KEY, "index.docker.io"].map(str::to_owned));
    }
    for scheme in ["https", "http"] {
        names.push(format!("{scheme}://{registry}"));
        names.push(format!("{scheme}://{registry}/"));
        names.push(format!("{scheme}://{registry}/v1/"));
        names.push(format!("{scheme}://{registry}/v2/"));
    }
    names
}

/// What Docker calls a registry.
pub fn docker_key(registry: &str) -> &str {
    match registry {
        DOCKER_HUB => DOCKER_KEY,
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::temp::tests::scratch;

    const FILE: &str = r#"{"auths":{"example.org":{"auth":"YTpi"},"example.org/ann":{"auth":"YzpkOmU="},
        "https://index.docker.io/v1/":{"auth":"eDp5"},"bad.org":{"auth":"!"},"empty.org":{},
        "token.org":{"auth":"YTo=","identitytoken":"t"}},
        "HttpHeaders":{"X":"y"}}"#;

    fn shown(found: Option<Credentials>) -> Option<String> {
        found.map(|found| match found {
            Credentials::Password { user, password } => format!("{user}|{password}"),
            Credentials::IdentityToken { user, token } => format!("token {token} of {user}"),
        })
    }

    #[test]
    fn the_most_special_entry_counts() {
        let dir = scratch("authfile");
        let path = dir.path().join("auth.json");
        std::fs::write(&path, FILE).unwrap();
        let file = AuthFile::read(&path).unwrap();
        let find =
            |registry: &str, repository: &str| shown(file.find(registry, repository).unwrap());
        assert_eq!(find("example.org", "bob/app").as_deref(), Some("a|b"));
        assert_eq!(find("example.org", "ann/app").as_deref(), Some("c|d:e"));
        assert_eq!(find("example.org", "").as_deref(), Some("a|b"));
        assert_eq!(find("docker.io", "library/x").as_deref(), Some("x|y"));
        assert_eq!(find("token.org", "x").as_deref(), Some("token t of a"));
        assert_eq!(find("other.org", "x"), None);
        assert_eq!(find("empty.org", "x"), None);
        assert!(file.find("bad.org", "x").is_err());
    }

    #[test]
    fn a_change_keeps_what_else_is_there() {
        use std::os::unix::fs::PermissionsExt;
        let dir = scratch("authfile");
        let path = dir.path().join("new/auth.json");
        let ann = Credentials::parse("ann:secret").unwrap();
        change(&path, |file| file.set("a.org/team", &ann)).unwrap();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        std::fs::write(&path, FILE).unwrap();
        change(&path, |file| file.set("a.org", &ann)).unwrap();
        assert!(change(&path, |file| file.remove("docker.io")).unwrap());
        assert!(!change(&path, |file| file.remove("docker.io")).unwrap());
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains("HttpHeaders") && text.contains("YW5uOnNlY3JldA=="));
        assert!(text.contains("empty.org") && !text.contains("index.docker.io"));
        change(&path, AuthFile::remove_all).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(
            text,
            "{\n  \"auths\": {},\n  \"HttpHeaders\": {\n    \"X\": \"y\"\n  }\n}\n"
        );
    }

    #[test]
    fn podmans_order() {
        let at = |given: &[(&str, &str)]| {
            let places = default_places(|name| {
                let pair = given.iter().find(|(key, _)| *key == name);
                pair.map(|(_, value)| PathBuf::from(value))
            });
            let places = places.iter().map(|path| path.display().to_string());
            places.collect::<Vec<_>>().join(" ")
        };
        let usual = [("HOME", "/h"), ("XDG_RUNTIME_DIR", "/r")];
        assert_eq!(
            at(&usual),
            "/r/containers/auth.json /h/.config/containers/auth.json /h/.docker/config.json"
        );
        assert_eq!(
            at(&[("XDG_CONFIG_HOME", "/c"), usual[0], usual[1]]),
            "/r/containers/auth.json /c/containers/auth.json /h/.docker/config.json"
        );
        assert_eq!(at(&[("DOCKER_CONFIG", "/d"), usual[0]]), "/d/config.json");
        let named = [("REGISTRY_AUTH_FILE", "/a"), ("DOCKER_CONFIG", "/d")];
        assert_eq!(at(&named), "/a");
    }
}
