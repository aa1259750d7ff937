//! Requests to one repository of one registry: http or https, tokens, retries, clear errors.

use std::collections::BTreeMap;
use std::io::Read;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;
use std::time::Instant;

use anyhow::Context;
use anyhow::Result;
use anyhow::anyhow;
use anyhow::bail;
use serde::Deserialize;
use ureq::Body;
use ureq::http::Response;
use ureq::http::Uri;

use crate::config::registries::Registries;
use crate::error::Kind;
use crate::error::WithHint;
use crate::error::fail;
use crate::image::manifest;
use crate::image::manifest::MANIFEST_MAX;
use crate::image::registry::access::Access;
use crate::image::registry::auth;
use crate::image::registry::auth::Bearer;
use crate::image::registry::auth::Challenge;
use crate::image::registry::auth::Credentials;
use crate::image::registry::auth::Tokens;
use crate::image::registry::authfile;
use crate::image::registry::http;
use crate::image::registry::http::Answer;
use crate::image::registry::http::Http;
use crate::image::registry::http::is_loopback;
use crate::image::registry::search::Entry;
use crate::oci::digest::Digest;
use crate::oci::reference::DOCKER_HUB;
use crate::oci::reference::Reference;

pub mod upload;

/// A registry's own error text is read up to here.
const ERROR_BODY_MAX: u64 = 16 << 10;
const TOKEN_MAX: u64 = 1 << 20;
const LIST_MAX: u64 = 8 << 20;
/// Names of all pages of a list, which are held in memory.
const NAMES_MAX: usize = 1_000_000;
/// Of a thousand names each.
const PAGES_MAX: usize = 1000;

/// The registry does not let us in.
#[derive(Debug)]
pub struct Denied(String);

impl std::fmt::Display for Denied {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Denied {}

pub struct Client {
    http: Http,
    /// `https://host:port`
    base: String,
    registry: String,
    repository: String,
    credentials: Option<Credentials>,
    /// The `Authorization` header, once the registry has asked for one.
    authorization: Mutex<Option<String>>,
    /// Whether a token is to be had for a password that is good for other commands too, and that.
    wants_identity: bool,
    identity: Mutex<Option<String>>,
    access: Access,
}

impl Client {
    /// Speaks to the registry of a reference, if registries.conf does not forbid it.
    pub fn connect(reference: &Reference, access: &Access) -> Result<Self> {
        let registries = Registries::load(access.registries_conf.as_deref())?;
        let sources = registries.sources(&reference.to_string())?;
        let insecure = sources.last().is_some_and(|source| source.insecure);
        let (registry, repository) = (reference.registry(), reference.repository());
        let credentials = authfile::find(registry, repository, access, &registries)?;
        Self::open(registry, repository, insecure, access, credentials)
    }

    /// Finds out how the registry is spoken to.
    pub fn open(
        registry: &str,
        repository: &str,
        insecure: bool,
        access: &Access,
        credentials: Option<Credentials>,
    ) -> Result<Self> {
        let verify = access.tls_verify.unwrap_or(!insecure);
        let host = match registry {
            DOCKER_HUB => "registry-1.docker.io",
            other => other,
        };
        let mut client = Self {
            http: Http::new(registry, access, verify)?,
            base: format!("https://{host}"),
            registry: registry.to_owned(),
            repository: repository.to_owned(),
            credentials,
            authorization: Mutex::new(None),
            wants_identity: false,
            identity: Mutex::new(None),
            access: access.clone(),
        };
        let http_allowed = !verify || is_loopback(host);
        match client.ping() {
            Ok(()) => {}
            Err(err) if http_allowed && !speaks_tls(&err) => {
                client.base = format!("http://{host}");
                // Where neither works, the first error is the one that counts, unless nobody spoke
                // TLS there.
                client.ping().map_err(|second| match &err {
                    ureq::Error::Io(_) => client.unreachable(err),
                    _ => client.unreachable(second),
                })?;
            }
            Err(err) => return Err(client.unreachable(err)),
        }
        Ok(client)
    }

    pub fn access(&self) -> &Access {
        &self.access
    }

    /// Any answer will do: what it means shows with the first real request.
    fn ping(&self) -> Result<(), ureq::Error> {
        let mut attempt = 0;
        loop {
            attempt += 1;
            match self.http.get(&format!("{}/v2/", self.base), &[], None) {
                Ok(_) => return Ok(()),
                Err(err) if attempt < 2 && is_transient(&err) => {
                    std::thread::sleep(self.access.wait(attempt));
                }
                Err(err) => return Err(err),
            }
        }
    }

    /// A manifest or index by tag or digest, and what the registry calls its type.
    pub fn manifest(&self, name: &str) -> Result<(Vec<u8>, Option<String>)> {
        let url = format!("{}/v2/{}/manifests/{name}", self.base, self.repository);
        let accept = [
            manifest::OCI_INDEX,
            manifest::DOCKER_INDEX,
            manifest::OCI_MANIFEST,
            manifest::DOCKER_MANIFEST,
        ]
        .join(", ");
        let response = self.get(&url, &[("Accept", &accept)], || {
            let separator = if name.contains(':') { '@' } else { ':' };
            format!("{}{separator}{name}", self.repository)
        })?;
        let header = response.headers().get("content-type");
        let media_type = header
            .and_then(|value| value.to_str().ok())
            .map(ToOwned::to_owned);
        let bytes = self.read(response, MANIFEST_MAX, "manifest")?;
        Ok((bytes, media_type))
    }

    /// Sees to it that the registry lets us in. Returns the token that stands for the password from now on,
    /// where the registry's token server has such.
    pub fn log_in(mut self) -> Result<Option<String>> {
        self.wants_identity = true;
        let url = format!("{}/v2/", self.base);
        self.get(&url, &[], || "/v2/".to_owned())?;
        let identity = self.identity.into_inner();
        Ok(identity.unwrap_or_else(PoisonError::into_inner))
    }

    /// Docker's search; `None` where the registry has none. Nobody logs in for it.
    pub fn search(&self, term: &str, limit: usize) -> Result<Option<Vec<Entry>>> {
        #[derive(Deserialize)]
        struct Results {
            results: Vec<Entry>,
        }
        let base = match &*self.registry {
            DOCKER_HUB => "https://index.docker.io",
            _ => &self.base,
        };
        let url = format!("{base}/v1/search?q={}&n={limit}", auth::escaped(term));
        let answer = self.http.get(&url, &[("Accept", "application/json")], None);
        let Ok(response) = answer.map(|answer| answer.response) else {
            return Ok(None);
        };
        if response.status().as_u16() != 200 {
            return Ok(None);
        }
        let body = self.read(response, LIST_MAX, "answer to a search")?;
        // Other servers have other pages there.
        let results: Option<Results> = serde_json::from_slice(&body).ok();
        Ok(results.map(|results| results.results))
    }

    /// A list that comes in pages: those names under `field` that are wanted.
    pub fn list(
        &self,
        path: &str,
        field: &str,
        wanted: impl Fn(&str) -> bool,
    ) -> Result<Vec<String>> {
        let mut url = format!("{}{path}?n=1000", self.base);
        let mut names: Vec<String> = Vec::new();
        for _ in 0..PAGES_MAX {
            let response = self.get(&url, &[], || path.trim_start_matches("/v2/").to_owned())?;
            let link = response.headers().get("link");
            let link = link
                .and_then(|value| value.to_str().ok())
                .map(str::to_owned);
            let body = self.read(response, LIST_MAX, "list")?;
            let mut page: BTreeMap<String, serde_json::Value> =
                serde_json::from_slice(&body).context("cannot read the registry's list")?;
            // A repository without tags has null.
            let page: Option<Vec<String>> =
                serde_json::from_value(page.remove(field).unwrap_or_default())
                    .context("cannot read the registry's list")?;
            names.extend(
                page.unwrap_or_default()
                    .into_iter()
                    .filter(|name| wanted(name)),
            );
            match next_page(&url, link.as_deref()) {
                Some(_) if names.len() > NAMES_MAX => break,
                Some(next) => url = next,
                None => return Ok(names),
            }
        }
        bail!("the list of registry {} does not end", self.registry)
    }

    /// The bytes of a blob from `offset` on, after as many bytes as are to be passed over.
    pub fn blob(&self, digest: &Digest, offset: u64) -> Result<(impl Read + use<>, u64)> {
        let url = format!("{}/v2/{}/blobs/{digest}", self.base, self.repository);
        let range = format!("bytes={offset}-");
        let headers: &[(&str, &str)] = if offset > 0 {
            &[("Range", &range)]
        } else {
            &[]
        };
        let response = self.get(&url, headers, || format!("blob {digest}"))?;
        let partial = response.status().as_u16() == 206;
        if partial {
            let header = response.headers().get("content-range");
            let told = header.and_then(|value| value.to_str().ok());
            if !told.is_some_and(|told| told.starts_with(&format!("bytes {offset}-"))) {
                bail!("the registry sends another part of blob {digest} than asked for");
            }
        }
        let reader = response.into_body().into_reader();
        Ok((reader, if partial { 0 } else { offset }))
    }

    /// A request, repeated while that may help. `what` names the object in errors.
    fn get(
        &self,
        url: &str,
        headers: &[(&str, &str)],
        what: impl Fn() -> String,
    ) -> Result<Response<Body>> {
        let mut authorized = false;
        let mut attempt = 0;
        loop {
            attempt += 1;
            let answer = match self.send(url, headers) {
                Ok(answer) => answer,
                Err(err) if attempt <= self.access.retries && is_transient(&err) => {
                    std::thread::sleep(self.access.wait(attempt));
                    continue;
                }
                Err(err) => return Err(self.unreachable(err)),
            };
            let response = answer.response;
            match (response.status().as_u16(), answer.elsewhere) {
                (200 | 206, _) => return Ok(response),
                // Whoever was pointed to is told nothing of who we are.
                (401, Some(host)) => bail!(
                    "registry {} points to {host} for {}, which refuses access",
                    self.registry,
                    what()
                ),
                (401, None) if !authorized => {
                    authorized = true;
                    self.authorize(&response)?;
                }
                (429 | 500..=599, _) if attempt <= self.access.retries => {
                    let told = wait_told(&response);
                    std::thread::sleep(self.access.wait_told(attempt, told));
                }
                _ => return Err(self.refusal(response, &what())),
            }
        }
    }

    fn send(&self, url: &str, headers: &[(&str, &str)]) -> Result<Answer, ureq::Error> {
        let authorization = self.authorization();
        self.http.get(url, headers, authorization.as_deref())
    }

    /// What the next request to the registry itself shows.
    pub fn authorization(&self) -> Option<String> {
        let authorization = self.authorization.lock();
        authorization
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Does what a 401 asks for.
    fn authorize(&self, response: &Response<Body>) -> Result<()> {
        let challenges = response.headers().get_all("www-authenticate");
        let challenge = challenges
            .iter()
            .filter_map(|value| value.to_str().ok())
            .find_map(Challenge::parse);
        let header = match (challenge, &self.credentials) {
            (Some(Challenge::Basic), Some(Credentials::Password { user, password })) => {
                auth::basic(user, password)
            }
            (Some(Challenge::Bearer(bearer)), _) => format!("Bearer {}", self.token(&bearer)?),
            (_, _) => return Err(self.login_wanted("")),
        };
        let mut authorization = self
            .authorization
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *authorization = Some(header);
        Ok(())
    }

    /// A token of the server that the registry names (Docker's token specification, and OAuth 2 for
    /// identity tokens).
    fn token(&self, bearer: &Bearer) -> Result<String> {
        let realm = bearer.realm(&self.base)?;
        let response = match &self.credentials {
            Some(Credentials::IdentityToken { token, .. }) => {
                let form = bearer.form(&self.repository, token);
                let form: Vec<(&str, &str)> = form.iter().map(|(k, v)| (*k, v.as_str())).collect();
                self.http.post_form(realm, &form)
            }
            Some(Credentials::Password { user, password }) => {
                let basic = auth::basic(user, password);
                let offline = self.wants_identity.then_some(user.as_str());
                let url = bearer.url(&self.repository, offline);
                let answer = self.http.get(&url, &[], Some(&basic));
                answer.map(|answer| answer.response)
            }
            None => {
                let answer = self
                    .http
                    .get(&bearer.url(&self.repository, None), &[], None);
                answer.map(|answer| answer.response)
            }
        };
        let response = response
            .map_err(|err| anyhow!(plain(err)))
            .context("cannot get a token from the registry's token server")?;
        match response.status().as_u16() {
            200 => {}
            400 | 401 | 403 => return Err(self.login_wanted("")),
            status => bail!("the token server answers with status {status}"),
        }
        let body = self.read(response, TOKEN_MAX, "token")?;
        let tokens = Tokens::parse(&body)?;
        if self.wants_identity {
            let mut identity = self.identity.lock().unwrap_or_else(PoisonError::into_inner);
            *identity = tokens.refresh;
        }
        Ok(tokens.access)
    }

    /// A body that is small, and comes in bearable time.
    fn read(&self, response: Response<Body>, max: u64, what: &str) -> Result<Vec<u8>> {
        let deadline = Instant::now() + self.access.patience * 2;
        let mut reader = response.into_body().into_reader().take(max + 1);
        let mut bytes = Vec::new();
        let mut buffer = [0; 8 << 10];
        loop {
            let count = reader.read(&mut buffer);
            let count = count.with_context(|| format!("cannot read the {what}"))?;
            bytes.extend_from_slice(&buffer[..count]);
            if bytes.len() as u64 > max {
                bail!("the {what} is larger than {max} bytes");
            }
            if count == 0 {
                return Ok(bytes);
            }
            if Instant::now() > deadline {
                bail!("cannot read the {what}: it comes too slowly");
            }
        }
    }

    fn login_wanted(&self, said: &str) -> anyhow::Error {
        let text = format!("registry {} refuses access{said}", self.registry);
        let err = anyhow::Error::new(Denied(text));
        if self.credentials.is_some() {
            err.hint("the user name or the password is wrong, or the user may not read this image")
        } else {
            err.hint("log in with `rbox login`, or give --creds USER:PASSWORD; the name may also be wrong")
        }
    }

    fn unreachable(&self, err: ureq::Error) -> anyhow::Error {
        let certificate = is_certificate_error(&err);
        let text = plain(err);
        let err = anyhow!("cannot reach registry {}: {text}", self.registry);
        if certificate {
            return err.hint(format!(
                "put its CA certificate into ~/.config/containers/certs.d/{}/ca.crt, or use --tls-verify=false",
                self.registry
            ));
        }
        err
    }

    /// What the registry says about a request it does not serve.
    fn refusal(&self, response: Response<Body>, what: &str) -> anyhow::Error {
        let status = response.status().as_u16();
        let mut body = Vec::new();
        let mut reader = response.into_body().into_reader().take(ERROR_BODY_MAX);
        // Only for the text: an error page that breaks off is as good.
        reader.read_to_end(&mut body).ok();
        let said = message_of(&body);
        match status {
            401 | 403 => self.login_wanted(&said),
            404 => fail(
                Kind::NotFound,
                format!("registry {} has no {what}{said}", self.registry),
            ),
            429 => anyhow!("registry {} wants fewer requests{said}", self.registry)
                .hint("wait a while, or log in"),
            _ => anyhow!(
                "registry {} answers with status {status} for {what}{said}",
                self.registry
            ),
        }
    }
}

fn is_transient(err: &ureq::Error) -> bool {
    match err {
        ureq::Error::Io(err) => !matches!(
            err.kind(),
            std::io::ErrorKind::ConnectionRefused | std::io::ErrorKind::InvalidData
        ),
        ureq::Error::Timeout(_) => true,
        _ => false,
    }
}

fn is_certificate_error(err: &ureq::Error) -> bool {
    matches!(tls_error(err), Some(rustls::Error::InvalidCertificate(_)))
}

/// Whether the server speaks TLS, and does not want us or is not wanted: http is no way around that.
fn speaks_tls(err: &ureq::Error) -> bool {
    let alert = matches!(tls_error(err), Some(rustls::Error::AlertReceived(_)));
    alert || is_certificate_error(err)
}

fn tls_error(err: &ureq::Error) -> Option<&rustls::Error> {
    match err {
        ureq::Error::Rustls(err) => Some(err),
        ureq::Error::Io(err) => err.get_ref()?.downcast_ref(),
        _ => None,
    }
}

/// The cause alone, without the library's own words.
fn plain(err: ureq::Error) -> String {
    match err {
        ureq::Error::Io(err) => err.to_string(),
        ureq::Error::HostNotFound => "there is no such host".to_owned(),
        ureq::Error::Timeout(_) => "it does not answer in time".to_owned(),
        other => other.to_string(),
    }
}

/// The message of a registry's error document, shortened and on one line.
fn message_of(body: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Document {
        errors: Vec<Entry>,
    }
    #[derive(Deserialize)]
    struct Entry {
        #[serde(default)]
        message: String,
    }
    let document: Option<Document> = serde_json::from_slice(body).ok();
    let message = document
        .and_then(|document| document.errors.into_iter().next())
        .map(|entry| entry.message)
        .unwrap_or_default();
    let message: String = message
        .chars()
        .filter(|char| !char.is_control())
        .take(200)
        .collect();
    if message.is_empty() {
        String::new()
    } else {
        format!(" ({message})")
    }
}

/// `Retry-After` in seconds.
fn wait_told(response: &Response<Body>) -> Option<Duration> {
    let value = response.headers().get("retry-after")?;
    let seconds = value.to_str().ok()?.parse().ok()?;
    Some(Duration::from_secs(seconds))
}

/// `</v2/x/tags/list?last=b&n=2>; rel="next"`, of the same server (RFC 8288).
fn next_page(url: &str, link: Option<&str>) -> Option<String> {
    let (target, _) = link?.strip_prefix('<')?.split_once('>')?;
    let base: Uri = url.parse().ok()?;
    let next = http::resolve(&base, target)?;
    (http::origin(&next) == http::origin(&base)).then(|| next.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registry_cannot_write_to_the_terminal() {
        let body = br#"{"errors":[{"code":"X","message":"no \u001b[31mred\nline"}]}"#;
        assert_eq!(message_of(body), " (no [31mredline)");
        assert_eq!(message_of(b"<html>"), "");
    }
}
