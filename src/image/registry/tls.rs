//! Which certificates are believed: the system's, and those of `certs.d/HOST:PORT/`.

use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use anyhow::Result;
use anyhow::anyhow;
use rustls::ClientConfig;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::PrivateKeyDer;
use ureq::tls::Certificate;
use ureq::tls::ClientCert;
use ureq::tls::PemItem;
use ureq::tls::PrivateKey;
use ureq::tls::RootCerts;
use ureq::tls::TlsConfig;
use ureq::tls::TlsProvider;

use crate::image::registry::access::Access;

pub fn config(registry: &str, access: &Access, verify: bool) -> Result<TlsConfig> {
    let mut roots: Vec<Certificate<'static>> = Vec::new();
    if verify {
        // A system without certificates can still use those of certs.d.
        let system = rustls_native_certs::load_native_certs().certs;
        roots.extend(
            system
                .iter()
                .map(|cert| Certificate::from_der(cert).to_owned()),
        );
    }
    let mut client = None;
    for dir in cert_dirs(registry, access) {
        let found = read_dir(&dir)
            .with_context(|| format!("cannot read certificates in {}", dir.display()))?;
        roots.extend(found.roots);
        client = client.or(found.client);
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    Ok(TlsConfig::builder()
        .provider(TlsProvider::Rustls)
        .unversioned_rustls_crypto_provider(provider)
        .root_certs(RootCerts::new_with_certs(&roots))
        .client_cert(client)
        .disable_verification(!verify)
        .build())
}

/// Those that are there, the user's own first (containers-certs.d(5)).
fn cert_dirs(registry: &str, access: &Access) -> Vec<PathBuf> {
    let mut dirs: Vec<PathBuf> = access.cert_dir.iter().cloned().collect();
    let config = std::env::var_os("XDG_CONFIG_HOME")
        .map(PathBuf::from)
        .filter(|path| path.is_absolute())
        .or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".config")));
    // Rootless Docker has its own in the user's directory too.
    let places = config
        .into_iter()
        .flat_map(|config| ["containers", "docker"].map(|name| config.join(name)))
        .chain(["/etc/containers", "/etc/docker"].map(PathBuf::from))
        .map(|place| place.join("certs.d"));
    dirs.extend(
        places
            .map(|place| place.join(registry))
            .filter(|dir| dir.is_dir()),
    );
    dirs
}

#[derive(Default)]
struct Found {
    roots: Vec<Certificate<'static>>,
    client: Option<ClientCert>,
}

/// `*.crt` are authorities; `NAME.cert` with `NAME.key` is what we show ourselves with.
fn read_dir(dir: &Path) -> Result<Found> {
    let mut found = Found::default();
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        paths.push(entry?.path());
    }
    paths.sort();
    for path in paths {
        let extension = path.extension().and_then(|text| text.to_str());
        match extension {
            Some("crt") => found.roots.extend(read_certificates(&path)?),
            Some("cert") => {
                let chain = read_certificates(&path)?;
                let key = read(&path.with_extension("key"))?;
                let key = PrivateKey::from_pem(&key)
                    .map_err(|err| anyhow!("{err}"))
                    .with_context(|| format!("cannot use the key of {}", path.display()))?;
                check(&chain, &key)
                    .with_context(|| format!("cannot use certificate {}", path.display()))?;
                found.client = Some(ClientCert::new_with_certs(&chain, key));
            }
            _ => {}
        }
    }
    Ok(found)
}

/// ureq panics where its TLS library takes no certificate, as one of version 1.
fn check(chain: &[Certificate<'_>], key: &PrivateKey<'_>) -> Result<()> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let chain = chain
        .iter()
        .map(|one| one.der().to_vec().into())
        .collect::<Vec<CertificateDer<'_>>>();
    let key = PrivateKeyDer::try_from(key.der().to_vec()).map_err(|err| anyhow!(err))?;
    ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(RootCertStore::empty())
        .with_client_auth_cert(chain, key)?;
    Ok(())
}

fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

fn read_certificates(path: &Path) -> Result<Vec<Certificate<'static>>> {
    let mut certificates = Vec::new();
    for item in ureq::tls::parse_pem(&read(path)?) {
        let item = item
            .map_err(|err| anyhow!("{err}"))
            .with_context(|| format!("cannot use {}", path.display()))?;
        if let PemItem::Certificate(certificate) = item {
            certificates.push(certificate);
        }
    }
    Ok(certificates)
}
