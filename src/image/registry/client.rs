//! Requests to one repository of one registry: http or https, tokens, retries, clear errors.

use std::io::Read;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use anyhow::Context;
use anyhow::Result;
use anyhow::anyhow;
use anyhow::bail;
use serde::Deserialize;
use ureq::Agent;
use ureq::Body;
use ureq::config::RedirectAuthHeaders;
use ureq::http::Response;
use ureq::unversioned::transport::DefaultConnector;

use crate::error::Kind;
use crate::error::WithHint;
use crate::error::fail;
use crate::image::manifest;
use crate::image::manifest::MANIFEST_MAX;
use crate::image::registry::access::Access;
use crate::image::registry::auth;
use crate::image::registry::auth::Challenge;
use crate::image::registry::auth::Credentials;
use crate::image::registry::resolver::Resolver;
use crate::image::registry::tls;
use crate::oci::digest::Digest;
use crate::oci::reference::DOCKER_HUB;
use crate::oci::reference::Reference;

/// A registry's own error text is read up to here.
const ERROR_BODY_MAX: u64 = 16 << 10;
const TOKEN_MAX: u64 = 1 << 20;

pub struct Client {
    agent: Agent,
    /// `https://host:port`
    base: String,
    registry: String,
    repository: String,
    credentials: Option<Credentials>,
    /// The `Authorization` header, once the registry has asked for one.
    authorization: Mutex<Option<String>>,
    access: Access,
}

impl Client {
    /// Finds out how the registry is spoken to.
    pub fn connect(reference: &Reference, access: &Access) -> Result<Self> {
        let registry = reference.registry();
        let verify = access.tls_verify.unwrap_or(true);
        let host = match registry {
            DOCKER_HUB => "registry-1.docker.io",
            other => other,
        };
        let mut client = Self {
            agent: agent(registry, access, verify)?,
            base: format!("https://{host}"),
            registry: registry.to_owned(),
            repository: reference.repository().to_owned(),
            credentials: auth::find(registry, reference.repository(), access.creds.as_deref())?,
            authorization: Mutex::new(None),
            access: access.clone(),
        };
        let http_allowed = !verify || is_loopback(host);
        match client.ping() {
            Ok(()) => {}
            Err(err) if http_allowed && !is_certificate_error(&err) => {
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
            match self.agent.get(format!("{}/v2/", self.base)).call() {
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
        let mut bytes = Vec::new();
        response
            .into_body()
            .into_reader()
            .take(MANIFEST_MAX + 1)
            .read_to_end(&mut bytes)
            .context("cannot read the manifest")?;
        if bytes.len() as u64 > MANIFEST_MAX {
            bail!("the manifest is larger than {MANIFEST_MAX} bytes");
        }
        Ok((bytes, media_type))
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
            let response = match self.send(url, headers) {
                Ok(response) => response,
                Err(err) if attempt <= self.access.retries && is_transient(&err) => {
                    std::thread::sleep(self.access.wait(attempt));
                    continue;
                }
                Err(err) => return Err(self.unreachable(err)),
            };
            match response.status().as_u16() {
                200 | 206 => return Ok(response),
                401 if !authorized => {
                    authorized = true;
                    self.authorize(&response)?;
                }
                429 | 500..=599 if attempt <= self.access.retries => {
                    let told = wait_told(&response);
                    std::thread::sleep(self.access.wait_told(attempt, told));
                }
                _ => return Err(self.refusal(response, &what())),
            }
        }
    }

    fn send(&self, url: &str, headers: &[(&str, &str)]) -> Result<Response<Body>, ureq::Error> {
        let mut request = self.agent.get(url);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let authorization = self.authorization.lock();
        let authorization = authorization
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        if let Some(value) = authorization {
            request = request.header("Authorization", value);
        }
        request.call()
    }

    /// Does what a 401 asks for.
    fn authorize(&self, response: &Response<Body>) -> Result<()> {
        let challenges = response.headers().get_all("www-authenticate");
        let challenge = challenges
            .iter()
            .filter_map(|value| value.to_str().ok())
            .find_map(Challenge::parse);
        let header = match (challenge, &self.credentials) {
            (Some(Challenge::Basic), Some(credentials)) => credentials.basic(),
            (Some(Challenge::Bearer(bearer)), credentials) => {
                let url = bearer.url(&self.repository, self.base.starts_with("http:"))?;
                format!("Bearer {}", self.token(&url, credentials.as_ref())?)
            }
            (_, _) => return Err(self.login_wanted("")),
        };
        let mut authorization = self
            .authorization
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *authorization = Some(header);
        Ok(())
    }

    fn token(&self, url: &str, credentials: Option<&Credentials>) -> Result<String> {
        #[derive(Deserialize)]
        struct Token {
            token: Option<String>,
            access_token: Option<String>,
        }
        let mut request = self.agent.get(url);
        if let Some(credentials) = credentials {
            request = request.header("Authorization", credentials.basic());
        }
        let response = request
            .call()
            .map_err(|err| anyhow!(plain(err)))
            .context("cannot get a token from the registry's token server")?;
        match response.status().as_u16() {
            200 => {}
            401 | 403 => return Err(self.login_wanted("")),
            status => bail!("the token server answers with status {status}"),
        }
        let reader = response.into_body().into_reader().take(TOKEN_MAX);
        let token: Token =
            serde_json::from_reader(reader).context("cannot read the registry's token")?;
        let token = token.token.or(token.access_token).unwrap_or_default();
        let is_clean = token.bytes().all(|byte| byte.is_ascii_graphic());
        if token.is_empty() || !is_clean {
            bail!("the registry's token server gives no token");
        }
        Ok(token)
    }

    fn login_wanted(&self, said: &str) -> anyhow::Error {
        let err = anyhow!("registry {} refuses access{said}", self.registry);
        if self.credentials.is_some() {
            err.hint("the user name or the password is wrong, or the user may not read this image")
        } else {
            err.hint("give --creds USER:PASSWORD, or log in so that there is an auth file; the name may also be wrong")
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

fn agent(registry: &str, access: &Access, verify: bool) -> Result<Agent> {
    let config = Agent::config_builder()
        .http_status_as_error(false)
        .tls_config(tls::config(registry, access, verify)?)
        .user_agent(concat!("rbox/", env!("CARGO_PKG_VERSION")))
        .redirect_auth_headers(RedirectAuthHeaders::SameHost)
        .proxy(ureq::Proxy::try_from_env())
        .timeout_connect(Some(Duration::from_secs(15)))
        .timeout_recv_response(Some(Duration::from_mins(1)))
        .timeout_per_read(Some(Duration::from_mins(1)))
        .build();
    Ok(Agent::with_parts(
        config,
        DefaultConnector::default(),
        Resolver::default(),
    ))
}

/// As Docker: http is tried with a registry on this machine alone.
fn is_loopback(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or(rest),
        None => host.split(':').next().unwrap_or(host),
    };
    name == "localhost"
        || name
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback())
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
    let is = |err: &rustls::Error| matches!(err, rustls::Error::InvalidCertificate(_));
    match err {
        ureq::Error::Rustls(err) => is(err),
        ureq::Error::Io(err) => err
            .get_ref()
            .and_then(|inner| inner.downcast_ref::<rustls::Error>())
            .is_some_and(is),
        _ => false,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn http_is_for_this_machine_alone() {
        for host in [
            "localhost",
            "localhost:5000",
            "127.0.0.1",
            "127.1.2.3:5000",
            "[::1]:5000",
        ] {
            assert!(is_loopback(host), "{host}");
        }
        for host in [
            "localhost.example.org",
            "10.0.0.1:5000",
            "example.org",
            "[fe80::1]:5000",
        ] {
            assert!(!is_loopback(host), "{host}");
        }
    }

    #[test]
    fn a_registry_cannot_write_to_the_terminal() {
        let body = br#"{"errors":[{"code":"X","message":"no \u001b[31mred\nline"}]}"#;
        assert_eq!(message_of(body), " (no [31mredline)");
        assert_eq!(message_of(b"<html>"), "");
    }
}
