//! Requests over HTTP. Redirects are followed here, so that an `Authorization` goes to the server
//! it was made for and to no other: the same scheme, host and port (CVE-2020-15157).

use ureq::Agent;
use ureq::Body;
use ureq::Error;
use ureq::http::Response;
use ureq::http::Uri;
use ureq::unversioned::transport::DefaultConnector;

use crate::image::registry::access::Access;
use crate::image::registry::proxy::Proxies;
use crate::image::registry::resolver::Resolver;
use crate::image::registry::tls;

const REDIRECTS_MAX: usize = 8;
/// Tokens of registries are a few KiB long, and are repeated in headers.
const HEADERS_MAX: usize = 64 << 10;

pub struct Http {
    agent: Agent,
    proxies: Proxies,
    verify: bool,
}

pub struct Answer {
    pub response: Response<Body>,
    /// The host that another one pointed to; `None` where the one that was asked answers itself.
    pub elsewhere: Option<String>,
}

impl Http {
    pub fn new(registry: &str, access: &Access, verify: bool) -> anyhow::Result<Self> {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .tls_config(tls::config(registry, access, verify)?)
            .user_agent(concat!("rbox/", env!("CARGO_PKG_VERSION")))
            .max_redirects(0)
            .max_response_header_size(HEADERS_MAX)
            .proxy(None)
            .timeout_connect(Some(access.patience / 4))
            .timeout_recv_response(Some(access.patience))
            .timeout_per_read(Some(access.patience))
            .build();
        Ok(Self {
            agent: Agent::with_parts(config, DefaultConnector::default(), Resolver::default()),
            proxies: Proxies::from_environment(),
            verify,
        })
    }

    pub fn agent(&self) -> &Agent {
        &self.agent
    }

    pub fn proxies(&self) -> &Proxies {
        &self.proxies
    }

    pub fn get(
        &self,
        url: &str,
        headers: &[(&str, &str)],
        authorization: Option<&str>,
    ) -> Result<Answer, Error> {
        let mut uri: Uri = url.parse().map_err(|_| Error::BadUri(url.to_owned()))?;
        let home = origin(&uri);
        for _ in 0..=REDIRECTS_MAX {
            let is_home = origin(&uri) == home;
            let mut request = self.agent.get(uri.clone());
            for (name, value) in headers {
                request = request.header(*name, *value);
            }
            if let Some(value) = authorization.filter(|_| is_home) {
                request = request.header("Authorization", value);
            }
            let proxy = self.proxies.of(&uri)?;
            let response = request.config().proxy(proxy).build().call()?;
            let Some(next) = self.next(&uri, &response)? else {
                let host = uri.host().unwrap_or_default().to_owned();
                return Ok(Answer {
                    response,
                    elsewhere: (!is_home).then_some(host),
                });
            };
            uri = next;
        }
        Err(Error::TooManyRedirects)
    }

    /// Sends a form, which may hold a secret: it is not sent on to where the server points.
    pub fn post_form(&self, url: &str, form: &[(&str, &str)]) -> Result<Response<Body>, Error> {
        let uri: Uri = url.parse().map_err(|_| Error::BadUri(url.to_owned()))?;
        let proxy = self.proxies.of(&uri)?;
        let request = self.agent.post(uri).config().proxy(proxy).build();
        request.send_form(form.iter().copied())
    }

    /// Where a redirection leads.
    fn next(&self, uri: &Uri, response: &Response<Body>) -> Result<Option<Uri>, Error> {
        if !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
            return Ok(None);
        }
        let location = response.headers().get("location");
        let Some(location) = location.and_then(|value| value.to_str().ok()) else {
            return Ok(None);
        };
        let bad = |why: &str| Error::BadUri(format!("it points to {location:?}, {why}"));
        let next = resolve(uri, location).ok_or_else(|| bad("which is no URL"))?;
        match next.scheme_str() {
            Some("https") => Ok(Some(next)),
            Some("http") if uri.scheme_str() == Some("http") || !self.verify => Ok(Some(next)),
            _ => Err(bad("which is not https")),
        }
    }
}

/// Scheme, host and port (RFC 6454).
pub fn origin(uri: &Uri) -> (String, String, u16) {
    let scheme = uri.scheme_str().unwrap_or_default().to_ascii_lowercase();
    let usual = if scheme == "http" { 80 } else { 443 };
    let host = uri.host().unwrap_or_default().to_ascii_lowercase();
    (scheme, host, uri.port_u16().unwrap_or(usual))
}

/// A reference of RFC 3986, section 4.2, in the forms that servers use.
pub fn resolve(base: &Uri, reference: &str) -> Option<Uri> {
    let reference = reference.split('#').next().unwrap_or_default();
    let (scheme, authority) = (base.scheme_str()?, base.authority()?);
    let text = if reference.contains("://") {
        reference.to_owned()
    } else if reference.starts_with("//") {
        format!("{scheme}:{reference}")
    } else if reference.starts_with('/') {
        format!("{scheme}://{authority}{reference}")
    } else {
        let path = base.path();
        let dir = &path[..=path.rfind('/').unwrap_or_default()];
        format!("{scheme}://{authority}{dir}{reference}")
    };
    let uri: Uri = text.parse().ok()?;
    uri.host().is_some().then_some(uri)
}

/// As Docker: http is tried with a registry on this machine alone.
pub fn is_loopback(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or(rest),
        None => host.split(':').next().unwrap_or(host),
    };
    name == "localhost"
        || name
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_resolved() {
        let base: Uri = "https://a.org:444/v2/x/blobs/d?y=1".parse().unwrap();
        for (reference, wanted) in [
            ("https://b.org/z?q=1#f", "https://b.org/z?q=1"),
            ("//b.org/z", "https://b.org/z"),
            ("/z", "https://a.org:444/z"),
            ("z", "https://a.org:444/v2/x/blobs/z"),
        ] {
            assert_eq!(resolve(&base, reference).unwrap().to_string(), wanted);
        }
        assert!(resolve(&base, "http://").is_none());
        assert!(resolve(&base, "file:///etc/passwd").is_none());
    }

    #[test]
    fn what_began_with_tls_does_not_go_on_without() {
        let next = |verify: bool, from: &str, to: &str| {
            let answer = Response::builder().status(307).header("location", to);
            let answer = answer.body(Body::builder().data("")).unwrap();
            let http = Http::new("a.org", &Access::default(), verify).unwrap();
            http.next(&from.parse().unwrap(), &answer).is_ok()
        };
        for (verify, from, to, good) in [
            (true, "https://a.org/", "https://b.org/", true),
            (true, "https://a.org/", "http://a.org/", false),
            (true, "https://a.org/", "http://127.0.0.1/", false),
            (true, "http://127.0.0.1/", "http://127.0.0.1:1/", true),
            (false, "https://a.org/", "http://a.org/", true),
            (false, "https://a.org/", "ftp://a.org/", false),
            (false, "https://a.org/", "file:///etc/passwd", false),
        ] {
            assert_eq!(next(verify, from, to), good, "{from} {to}");
        }
    }

    #[test]
    fn an_origin_has_a_port() {
        let of = |text: &str| origin(&text.parse().unwrap());
        assert_eq!(of("https://A.org/x"), of("https://a.org:443/y"));
        assert_ne!(of("http://a.org/"), of("https://a.org/"));
        assert_ne!(of("http://127.0.0.1:1/"), of("http://127.0.0.1:2/"));
    }

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
}
