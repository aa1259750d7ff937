//! Which proxy a request goes through: `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and `NO_PROXY`, upper or
//! lower case, with the rules of Go, which Docker and Podman have.

use std::net::IpAddr;

use ureq::Error;
use ureq::Proxy;
use ureq::http::Uri;

use crate::image::registry::http::is_loopback;

#[derive(Debug, Default)]
pub struct Proxies {
    https: Option<String>,
    http: Option<String>,
    none: Vec<String>,
}

impl Proxies {
    pub fn from_environment() -> Self {
        Self::new(|name| {
            let upper = std::env::var(name).ok();
            let value = upper.or_else(|| std::env::var(name.to_ascii_lowercase()).ok());
            value.filter(|value| !value.is_empty())
        })
    }

    fn new(variable: impl Fn(&str) -> Option<String>) -> Self {
        let all = variable("ALL_PROXY");
        let none = variable("NO_PROXY").unwrap_or_default();
        Self {
            https: variable("HTTPS_PROXY").or_else(|| all.clone()),
            http: variable("HTTP_PROXY").or(all),
            none: none
                .split(',')
                .map(|entry| entry.trim().to_ascii_lowercase())
                .filter(|entry| !entry.is_empty())
                .collect(),
        }
    }

    /// The proxy for a request, if it goes through one. One that cannot be used is an error, and
    /// not passed by: it may be there to keep the request from the network.
    pub fn of(&self, uri: &Uri) -> Result<Option<Proxy>, Error> {
        let is_http = uri.scheme_str() == Some("http");
        let proxy = if is_http { &self.http } else { &self.https };
        let Some(proxy) = proxy else {
            return Ok(None);
        };
        let host = uri.host().unwrap_or_default().to_ascii_lowercase();
        let port = uri.port_u16().unwrap_or(if is_http { 80 } else { 443 });
        if self.passes_by(&host, port) {
            return Ok(None);
        }
        Proxy::new(proxy).map(Some)
    }

    fn passes_by(&self, host: &str, port: u16) -> bool {
        if is_loopback(host) {
            return true;
        }
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let address: Option<IpAddr> = host.parse().ok();
        self.none.iter().any(|entry| {
            entry == "*" || fits_address(entry, address) || fits_name(entry, host, port)
        })
    }
}

/// `10.0.0.1` or `10.0.0.0/8`.
fn fits_address(entry: &str, address: Option<IpAddr>) -> bool {
    let Some(address) = address else {
        return false;
    };
    let (network, bits) = entry.split_once('/').unwrap_or((entry, "128"));
    let (Ok(network), Ok(bits)) = (network.parse::<IpAddr>(), bits.parse::<u32>()) else {
        return false;
    };
    match (address, network) {
        (IpAddr::V4(address), IpAddr::V4(network)) => {
            let mask = u32::MAX.checked_shl(32 - bits.min(32)).unwrap_or(0);
            address.to_bits() & mask == network.to_bits() & mask
        }
        (IpAddr::V6(address), IpAddr::V6(network)) => {
            let mask = u128::MAX.checked_shl(128 - bits.min(128)).unwrap_or(0);
            address.to_bits() & mask == network.to_bits() & mask
        }
        _ => false,
    }
}

/// `example.org` is the host and those below it, `.example.org` and `*.example.org` those below it; each
/// may have a port.
fn fits_name(entry: &str, host: &str, port: u16) -> bool {
    let (name, wanted) = match entry.rsplit_once(':') {
        Some((name, digits)) if !name.contains(':') => (name, digits.parse().ok()),
        _ => (entry, None),
    };
    if wanted.is_some_and(|wanted: u16| wanted != port) {
        return false;
    }
    let name = name.strip_prefix('*').unwrap_or(name);
    match name.strip_prefix('.') {
        Some(_) => host.ends_with(name),
        None => host
            .strip_suffix(name)
            .is_some_and(|rest| rest.is_empty() || rest.ends_with('.')),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxies(pairs: &[(&str, &str)]) -> Proxies {
        Proxies::new(|name| {
            let pair = pairs.iter().find(|(key, _)| *key == name);
            pair.map(|(_, value)| (*value).to_owned())
        })
    }

    fn host(proxies: &Proxies, url: &str) -> Option<String> {
        let proxy = proxies.of(&url.parse().unwrap()).unwrap()?;
        Some(proxy.host().to_owned())
    }

    #[test]
    fn each_scheme_has_its_own() {
        let found = proxies(&[("HTTPS_PROXY", "http://s:1"), ("HTTP_PROXY", "http://h:2")]);
        assert_eq!(host(&found, "https://a.org/").as_deref(), Some("s"));
        assert_eq!(host(&found, "http://a.org/").as_deref(), Some("h"));
        assert_eq!(host(&found, "http://127.0.0.1:5000/"), None);
        let found = proxies(&[("ALL_PROXY", "a:3")]);
        assert_eq!(host(&found, "https://a.org/").as_deref(), Some("a"));
        assert_eq!(host(&proxies(&[]), "https://a.org/"), None);
        let odd = proxies(&[("HTTPS_PROXY", "://")]);
        assert!(odd.of(&"https://a.org/".parse().unwrap()).is_err());
    }

    #[test]
    fn some_hosts_are_reached_directly() {
        let none = "b.org, .c.org,*.d.org,10.0.0.0/8,192.168.1.1,e.org:444,fd00::/8";
        let found = proxies(&[("HTTPS_PROXY", "p:1"), ("NO_PROXY", none)]);
        for (url, direct) in [
            ("https://b.org/", true),
            ("https://x.b.org/", true),
            ("https://xb.org/", false),
            ("https://c.org/", false),
            ("https://x.c.org/", true),
            ("https://x.d.org/", true),
            ("https://10.1.2.3/", true),
            ("https://11.1.2.3/", false),
            ("https://192.168.1.1/", true),
            ("https://192.168.1.2/", false),
            ("https://e.org/", false),
            ("https://e.org:444/", true),
            ("https://[fd00::1]/", true),
            ("https://[fe00::1]/", false),
        ] {
            assert_eq!(host(&found, url).is_none(), direct, "{url}");
        }
        let found = proxies(&[("HTTPS_PROXY", "p:1"), ("NO_PROXY", "*")]);
        assert_eq!(host(&found, "https://a.org/"), None);
    }
}
