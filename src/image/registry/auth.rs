//! Who we are for a registry: credentials from `--creds` or auth files, and what the registry
//! asks for in `WWW-Authenticate`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use crate::error::Kind;
use crate::error::fail;
use crate::oci::digest::hex;
use crate::oci::reference::DOCKER_HUB;

#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    user: String,
    password: String,
}

// Not derived: a password must not get into a message.
impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Credentials({:?}, …)", self.user)
    }
}

impl Credentials {
    /// The value of an `Authorization` header.
    pub fn basic(&self) -> String {
        let pair = format!("{}:{}", self.user, self.password);
        format!("Basic {}", STANDARD.encode(pair))
    }

    fn parse(pair: &str) -> Option<Self> {
        let (user, password) = pair.split_once(':')?;
        Some(Self {
            user: user.to_owned(),
            password: password.to_owned(),
        })
    }
}

/// The credentials for a repository: those given, else those of the first auth file that has some.
pub fn find(registry: &str, repository: &str, given: Option<&str>) -> Result<Option<Credentials>> {
    if let Some(given) = given {
        return Credentials::parse(given)
            .map(Some)
            .ok_or_else(|| fail(Kind::Usage, "--creds must be USER:PASSWORD"));
    }
    for path in auth_files(|name| std::env::var_os(name).map(PathBuf::from)) {
        let Ok(bytes) = std::fs::read(&path) else {
            continue;
        };
        let found = look_up(&bytes, registry, repository)
            .with_context(|| format!("cannot read {}", path.display()))?;
        if found.is_some() {
            return Ok(found);
        }
    }
    Ok(None)
}

/// In the order of containers-auth.json(5).
fn auth_files(variable: impl Fn(&str) -> Option<PathBuf>) -> Vec<PathBuf> {
    let home = variable("HOME");
    let in_home = |path: &str| home.as_ref().map(|home| home.join(path));
    let config = variable("XDG_CONFIG_HOME").or_else(|| in_home(".config"));
    let docker = variable("DOCKER_CONFIG").or_else(|| in_home(".docker"));
    [
        variable("REGISTRY_AUTH_FILE"),
        variable("XDG_RUNTIME_DIR").map(|dir| dir.join("containers/auth.json")),
        config.map(|dir| dir.join("containers/auth.json")),
        docker.map(|dir| dir.join("config.json")),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn look_up(file: &[u8], registry: &str, repository: &str) -> Result<Option<Credentials>> {
    #[derive(Deserialize)]
    struct AuthFile {
        #[serde(default)]
        auths: BTreeMap<String, Entry>,
    }
    #[derive(Deserialize)]
    struct Entry {
        #[serde(default)]
        auth: Option<String>,
    }
    let file: AuthFile = serde_json::from_slice(file)?;
    for key in keys(registry, repository) {
        let Some(auth) = file.auths.get(&key).and_then(|entry| entry.auth.as_ref()) else {
            continue;
        };
        let decoded = STANDARD.decode(auth.trim()).ok();
        let pair = decoded.and_then(|bytes| String::from_utf8(bytes).ok());
        let pair = pair.map(|pair| pair.trim_end_matches('\0').to_owned());
        match pair.as_deref().and_then(Credentials::parse) {
            Some(credentials) => return Ok(Some(credentials)),
            None => bail!("the entry for {key} is not user:password in base64"),
        }
    }
    Ok(None)
}

/// From the most special to the registry, and then as Docker writes it.
fn keys(registry: &str, repository: &str) -> Vec<String> {
    let mut keys = Vec::new();
    let mut path = format!("{registry}/{repository}");
    loop {
        keys.push(path.clone());
        match path.rfind('/') {
            Some(slash) => path.truncate(slash),
            None => break,
        }
    }
    if registry == DOCKER_HUB {
        keys.push("https://index.docker.io/v1/".to_owned());
        keys.push("index.docker.io".to_owned());
    }
    keys.push(format!("https://{registry}"));
    keys.push(format!("http://{registry}"));
    keys
}

/// What a 401 asks for.
#[derive(Debug, PartialEq, Eq)]
pub enum Challenge {
    Basic,
    Bearer(Bearer),
}

#[derive(Debug, PartialEq, Eq)]
pub struct Bearer {
    realm: String,
    service: Option<String>,
    scope: Option<String>,
}

impl Challenge {
    /// One `WWW-Authenticate` header (RFC 9110, section 11.6.1); `None` for schemes unknown.
    pub fn parse(header: &str) -> Option<Self> {
        let (scheme, rest) = header.trim().split_once(' ').unwrap_or((header.trim(), ""));
        if scheme.eq_ignore_ascii_case("basic") {
            return Some(Self::Basic);
        }
        if !scheme.eq_ignore_ascii_case("bearer") {
            return None;
        }
        let mut parameters = parameters(rest);
        Some(Self::Bearer(Bearer {
            realm: parameters.remove("realm")?,
            service: parameters.remove("service"),
            scope: parameters.remove("scope"),
        }))
    }
}

/// `a="b, c", d=e`
fn parameters(text: &str) -> BTreeMap<String, String> {
    let mut parameters = BTreeMap::new();
    let mut rest = text.trim_start();
    while let Some((name, after)) = rest.split_once('=') {
        let (value, after) = match after.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').unwrap_or((quoted, "")),
            None => after.split_once(',').unwrap_or((after, "")),
        };
        parameters.insert(
            name.trim_matches([' ', ',']).to_ascii_lowercase(),
            value.trim().to_owned(),
        );
        rest = after.trim_start_matches([' ', ',']);
    }
    parameters
}

impl Bearer {
    /// Where the token is had. It must be https, unless the registry itself is not.
    pub fn url(&self, repository: &str, http_allowed: bool) -> Result<String> {
        let schemes: &[&str] = if http_allowed {
            &["https://", "http://"]
        } else {
            &["https://"]
        };
        if !schemes.iter().any(|scheme| self.realm.starts_with(scheme)) {
            bail!("the registry wants the password sent to {:?}", self.realm);
        }
        let scope = match &self.scope {
            Some(scope) => scope.clone(),
            None => format!("repository:{repository}:pull"),
        };
        let mut url = self.realm.clone();
        let mut separator = if url.contains('?') { '&' } else { '?' };
        for (name, value) in [("service", self.service.as_ref()), ("scope", Some(&scope))] {
            if let Some(value) = value {
                url.push(separator);
                url.push_str(name);
                url.push('=');
                url.push_str(&escaped(value));
                separator = '&';
            }
        }
        Ok(url)
    }
}

/// For a query (RFC 3986).
fn escaped(text: &str) -> String {
    let mut escaped = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~:/,".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            escaped.push('%');
            escaped.push_str(&hex(&[byte]).to_ascii_uppercase());
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_are_read() {
        let header = r#"Bearer realm="https://auth.example.org/token",service="a b",scope="repository:x:pull,push""#;
        let Some(Challenge::Bearer(bearer)) = Challenge::parse(header) else {
            panic!("{header}");
        };
        assert_eq!(
            bearer.url("y", false).unwrap(),
            "https://auth.example.org/token?service=a%20b&scope=repository:x:pull,push"
        );
        let header = "bearer  Realm=http://127.0.0.1/t?x=1";
        let Some(Challenge::Bearer(bearer)) = Challenge::parse(header) else {
            panic!("{header}");
        };
        assert!(bearer.url("y", false).is_err());
        assert_eq!(
            bearer.url("y", true).unwrap(),
            "http://127.0.0.1/t?x=1&scope=repository:y:pull"
        );
        assert_eq!(
            Challenge::parse("Basic realm=\"x\""),
            Some(Challenge::Basic)
        );
        assert_eq!(Challenge::parse("Negotiate"), None);
        assert_eq!(Challenge::parse("Bearer service=\"x\""), None);
    }

    #[test]
    fn the_most_special_entry_counts() {
        let file =
            br#"{"auths":{"example.org":{"auth":"YTpi"},"example.org/ann":{"auth":"YzpkOmU="},
            "https://index.docker.io/v1/":{"auth":"eDp5"},"bad.org":{"auth":"!"},"empty.org":{}},
            "credsStore":"x"}"#;
        let find = |registry: &str, repository: &str| {
            let found = look_up(file, registry, repository).unwrap()?;
            Some(format!("{}|{}", found.user, found.password))
        };
        assert_eq!(find("example.org", "bob/app").as_deref(), Some("a|b"));
        assert_eq!(find("example.org", "ann/app").as_deref(), Some("c|d:e"));
        assert_eq!(find("docker.io", "library/x").as_deref(), Some("x|y"));
        assert_eq!(find("other.org", "x"), None);
        assert_eq!(find("empty.org", "x"), None);
        assert!(look_up(file, "bad.org", "x").is_err());
    }

    #[test]
    fn a_password_does_not_show() {
        let credentials = Credentials::parse("ann:secret").unwrap();
        assert!(!format!("{credentials:?}").contains("secret"));
        assert_eq!(credentials.basic(), "Basic YW5uOnNlY3JldA==");
    }
}
