//! Debian's docker-registry on ports of the loopback, one with http and one with TLS by
//! a certificate authority of its own, both serving the fixture images read-only.
//! Started at most once for each test binary; the kernel ends them with it.
use std::io::BufRead;
use std::io::BufReader;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::process::Stdio;
use std::sync::OnceLock;
use std::sync::mpsc;
use std::time::Duration;

use super::images;
use super::place;

pub struct Registry {
    /// `127.0.0.1:PORT`
    pub host: String,
}

impl Registry {
    pub fn reference(&self, name: &str) -> String {
        format!("{}/{name}", self.host)
    }
}

pub fn http() -> &'static Registry {
    static HTTP: OnceLock<Registry> = OnceLock::new();
    HTTP.get_or_init(|| start(&images::registry_data(), true, ""))
}

pub fn https() -> &'static Registry {
    static HTTPS: OnceLock<Registry> = OnceLock::new();
    HTTPS.get_or_init(|| start(&images::registry_data(), true, &tls_lines()))
}

/// For the `http` of a registry's configuration.
pub fn tls_lines() -> String {
    let dir = certificates();
    let dir = dir.display();
    format!("  tls:\n    certificate: {dir}/server.crt\n    key: {dir}/server.key\n")
}

/// The certificate authority of `https`.
pub fn authority() -> PathBuf {
    certificates().join("ca.crt")
}

/// Starts one on a port that the kernel picks. A thread that never ends is its parent,
/// as the death signal comes when the thread that forked ends, not the process.
pub fn start(data: &Path, readonly: bool, more_http: &str) -> Registry {
    let config = format!(
        "version: 0.1\nlog:\n  level: info\n  accesslog:\n    disabled: true\n\
         storage:\n  filesystem:\n    rootdirectory: {}\n  maintenance:\n    readonly:\n      \
         enabled: {readonly}\n    uploadpurging:\n      enabled: false\n\
         http:\n  addr: 127.0.0.1:0\n{more_http}",
        data.display()
    );
    let (send, receive) = mpsc::channel();
    std::thread::spawn(move || {
        let mut child = Command::new("setpriv")
            .args([
                "--pdeathsig",
                "KILL",
                "docker-registry",
                "serve",
                "/dev/stdin",
            ])
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("OTEL_TRACES_EXPORTER", "none")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("docker-registry and setpriv are installed");
        let mut stdin = child.stdin.take().unwrap();
        std::io::Write::write_all(&mut stdin, config.as_bytes()).unwrap();
        drop(stdin);
        let mut seen = String::new();
        for line in BufReader::new(child.stderr.take().unwrap()).lines() {
            let Ok(line) = line else { break };
            if let Some(host) = port_of(&line) {
                // Nobody may be waiting any more.
                send.send(Ok(host)).ok();
            }
            if seen.len() < 10_000 {
                seen.push_str(&line);
                seen.push('\n');
            }
        }
        child.wait().ok();
        send.send(Err(seen)).ok();
    });
    let host = receive
        .recv_timeout(Duration::from_secs(30))
        .expect("the registry says where it listens")
        .unwrap_or_else(|seen| panic!("docker-registry ended:\n{seen}"));
    Registry { host }
}

/// `… msg="listening on 127.0.0.1:43211" …`, with `, tls` after the port for TLS.
fn port_of(line: &str) -> Option<String> {
    let (_, rest) = line.split_once("listening on ")?;
    let end = rest.find(|c: char| c != '.' && c != ':' && !c.is_ascii_digit())?;
    Some(rest[..end].to_owned())
}

fn certificates() -> PathBuf {
    place::made_once(
        "certificates",
        "openssl req -x509 -newkey rsa:2048 -nodes -days 3650 -subj '/CN=rbox test authority' \
            -keyout ca.key -out ca.crt
        openssl req -newkey rsa:2048 -nodes -subj '/CN=127.0.0.1' \
            -keyout server.key -out server.csr
        printf 'subjectAltName=IP:127.0.0.1,DNS:localhost' >san
        openssl x509 -req -in server.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 3650 \
            -extfile san -out server.crt
        chmod 644 ca.crt",
    )
}
