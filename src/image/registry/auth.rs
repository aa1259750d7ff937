//! Who we are for a registry, and what it asks for in `WWW-Authenticate`.

use std::collections::BTreeMap;
use std::net::IpAddr;

use anyhow::Context;
use anyhow::Result;
use anyhow::anyhow;
use anyhow::bail;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use ureq::http::Uri;

use crate::image::registry::http::is_loopback;
use crate::oci::digest::hex;

/// What token servers know rbox by.
const CLIENT: &str = "rbox";

#[derive(Clone, PartialEq, Eq)]
pub enum Credentials {
    Password {
        user: String,
        password: String,
    },
    /// A refresh token (OAuth 2), which is exchanged for others.
    IdentityToken {
        user: String,
        token: String,
    },
}

// Not derived: a password must not get into a message.
impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Password { user, .. } => write!(f, "Password({user:?}, …)"),
            Self::IdentityToken { user, .. } => write!(f, "IdentityToken({user:?}, …)"),
        }
    }
}

impl Credentials {
    /// `USER:PASSWORD`
    pub fn parse(pair: &str) -> Option<Self> {
        let (user, password) = pair.split_once(':')?;
        Some(Self::Password {
            user: user.to_owned(),
            password: password.to_owned(),
        })
    }

    pub fn user(&self) -> &str {
        match self {
            Self::Password { user, .. } | Self::IdentityToken { user, .. } => user,
        }
    }
}

/// The value of an `Authorization` header.
pub fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
}

/// What a token server answers with: a token for this command, and perhaps one to be had others for.
pub struct Tokens {
    pub access: String,
    pub refresh: Option<String>,
}

impl Tokens {
    pub fn parse(body: &[u8]) -> Result<Self> {
        #[derive(Deserialize)]
        struct Answer {
            token: Option<String>,
            access_token: Option<String>,
            refresh_token: Option<String>,
        }
        let answer: Answer =
            serde_json::from_slice(body).context("cannot read the registry's token")?;
        let is_clean =
            |token: &String| !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic());
        let either = [answer.token, answer.access_token];
        let token = either.into_iter().flatten().find(|token| !token.is_empty());
        let Some(access) = token.filter(is_clean) else {
            bail!("the registry's token server gives no token");
        };
        let refresh = answer.refresh_token.filter(is_clean);
        Ok(Self { access, refresh })
    }
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
    /// Where the token is had. It must be https, unless the registry itself is not; and a registry
    /// elsewhere does not make us ask a server of this machine (CVE-2019-10214).
    pub fn realm(&self, base: &str) -> Result<&str> {
        let refused = || anyhow!("the registry wants the password sent to {:?}", self.realm);
        let realm: Uri = self.realm.parse().map_err(|_| refused())?;
        let (host, scheme) = (realm.host().unwrap_or_default(), realm.scheme_str());
        let has_user = realm
            .authority()
            .is_some_and(|authority| authority.as_str().contains('@'));
        let from_here = base
            .split_once("://")
            .is_some_and(|(_, host)| is_loopback(host));
        let is_safe = match scheme {
            Some("https") => true,
            Some("http") => base.starts_with("http:"),
            _ => false,
        };
        // The parser takes no notice of a fragment, and what is asked for would become part of it.
        let is_odd = self
            .realm
            .contains(|sign: char| sign == '#' || sign.is_control());
        if host.is_empty() || has_user || is_odd || !is_safe || (is_here(host) && !from_here) {
            return Err(refused());
        }
        Ok(&self.realm)
    }

    /// None where neither the registry names one nor a repository is meant.
    fn scope(&self, repository: &str) -> Option<String> {
        match &self.scope {
            Some(scope) => Some(scope.clone()),
            None if repository.is_empty() => None,
            None => Some(format!("repository:{repository}:pull")),
        }
    }

    /// A question by GET. `offline` asks for a refresh token too, for this user (Docker's token
    /// specification).
    pub fn url(&self, repository: &str, offline: Option<&str>) -> String {
        let mut url = self.realm.clone();
        let mut separator = if url.contains('?') { '&' } else { '?' };
        let scope = self.scope(repository);
        let asked = offline.is_some();
        let pairs = [
            ("service", self.service.as_deref()),
            ("scope", scope.as_deref()),
            ("account", offline),
            ("client_id", asked.then_some(CLIENT)),
            ("offline_token", asked.then_some("true")),
        ];
        for (name, value) in pairs {
            if let Some(value) = value {
                url.push(separator);
                url.push_str(name);
                url.push('=');
                url.push_str(&escaped(value));
                separator = '&';
            }
        }
        url
    }

    /// A question by POST (RFC 6749, section 6).
    pub fn form(&self, repository: &str, token: &str) -> Vec<(&'static str, String)> {
        let mut form = vec![
            ("grant_type", "refresh_token".to_owned()),
            ("refresh_token", token.to_owned()),
            ("client_id", CLIENT.to_owned()),
        ];
        form.extend(self.service.clone().map(|service| ("service", service)));
        form.extend(self.scope(repository).map(|scope| ("scope", scope)));
        form
    }
}

/// Whether a host is this machine. Linux: connect(2) takes 0.0.0.0 and :: for it, and IPv4 addresses in IPv6.
fn is_here(host: &str) -> bool {
    let name = host.trim_matches(['[', ']']).trim_end_matches('.');
    let name = name.to_ascii_lowercase();
    match name.parse::<IpAddr>().map(|address| address.to_canonical()) {
        Ok(address) => address.is_loopback() || address.is_unspecified(),
        // RFC 6761, section 6.3.
        Err(_) => name == "localhost" || name.ends_with(".localhost"),
    }
}

/// For a query (RFC 3986).
pub fn escaped(text: &str) -> String {
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

    fn bearer(header: &str) -> Bearer {
        match Challenge::parse(header) {
            Some(Challenge::Bearer(bearer)) => bearer,
            other => panic!("{header}: {other:?}"),
        }
    }

    #[test]
    fn challenges_are_read() {
        let header = r#"Bearer realm="https://auth.example.org/token",service="a b",scope="repository:x:pull,push""#;
        assert_eq!(
            bearer(header).url("y", None),
            "https://auth.example.org/token?service=a%20b&scope=repository:x:pull,push"
        );
        let short = bearer("bearer  Realm=http://127.0.0.1/t?x=1");
        assert_eq!(
            short.url("y", None),
            "http://127.0.0.1/t?x=1&scope=repository:y:pull"
        );
        assert_eq!(short.url("", None), "http://127.0.0.1/t?x=1");
        assert_eq!(
            short.url("", Some("a&b")),
            "http://127.0.0.1/t?x=1&account=a%26b&client_id=rbox&offline_token=true"
        );
        assert_eq!(
            Challenge::parse("Basic realm=\"x\""),
            Some(Challenge::Basic)
        );
        assert_eq!(Challenge::parse("Negotiate"), None);
        assert_eq!(Challenge::parse("Bearer service=\"x\""), None);
    }

    #[test]
    fn a_realm_is_no_worse_than_the_registry() {
        for (realm, base, good) in [
            ("https://auth.org/t", "https://a.org", true),
            ("http://auth.org/t", "https://a.org", false),
            ("http://auth.org/t", "http://a.org:5000", true),
            ("https://127.0.0.1/t", "https://a.org", false),
            ("http://localhost:9/t", "http://a.org:5000", false),
            ("http://127.0.0.1:9/t", "http://127.0.0.1:5000", true),
            ("http://127.0.0.1:9/t", "https://127.0.0.1:5000", false),
            ("https://ann@auth.org/t", "https://a.org", false),
            ("file:///etc/passwd", "https://a.org", false),
            ("auth.org", "https://a.org", false),
            ("https://auth.org/t#x", "https://a.org", false),
            ("https://[::1]/t", "https://a.org", false),
            ("https://[::ffff:127.0.0.1]/t", "https://a.org", false),
            ("https://0.0.0.0/t", "https://a.org", false),
            ("https://[::]/t", "https://a.org", false),
            ("https://LOCALHOST./t", "https://a.org", false),
            ("https://x.localhost/t", "https://a.org", false),
            ("https://10.0.0.1/t", "https://a.org", true),
        ] {
            let bearer = bearer(&format!("Bearer realm=\"{realm}\""));
            assert_eq!(bearer.realm(base).is_ok(), good, "{realm} of {base}");
        }
    }

    #[test]
    fn tokens_are_read() {
        let read = |body: &str| {
            let tokens = Tokens::parse(body.as_bytes())?;
            anyhow::Ok((tokens.access, tokens.refresh))
        };
        let access = r#"{"token":"","access_token":"a","refresh_token":"a b"}"#;
        assert_eq!(read(access).unwrap(), ("a".to_owned(), None));
        let both = r#"{"token":"t","refresh_token":"r"}"#;
        assert_eq!(read(both).unwrap(), ("t".to_owned(), Some("r".to_owned())));
        for bad in ["{}", r#"{"token":"a\r\nX: y"}"#, "[", r#"{"token":7}"#] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_password_does_not_show() {
        let credentials = Credentials::parse("ann:secret").unwrap();
        assert!(!format!("{credentials:?}").contains("secret"));
        let token = Credentials::IdentityToken {
            user: "ann".into(),
            token: "secret".into(),
        };
        assert!(!format!("{token:?}").contains("secret"));
        assert_eq!(basic("ann", "secret"), "Basic YW5uOnNlY3JldA==");
    }
}
