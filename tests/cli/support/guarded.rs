//! Registries that want to know who one is: Debian's docker-registry with passwords (htpasswd), and with tokens of
//! a small token server on a thread, whose tokens openssl signs.
use std::io::BufRead;
use std::io::BufReader;
use std::io::Read;
use std::io::Write;
use std::net::TcpListener;
use std::net::TcpStream;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::OnceLock;
use std::time::SystemTime;
use std::time::UNIX_EPOCH;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;

use super::images;
use super::place;
use super::registry;
use super::registry::Registry;

pub const USER: &str = "ann";
pub const PASSWORD: &str = "secret";
/// What the token server exchanges for tokens.
pub const IDENTITY: &str = "identity-of-ann";
/// bcrypt of `PASSWORD`, as `htpasswd -Bbn` prints it.
const HTPASSWD: &str = "ann:$2y$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a\n";

/// With passwords, over http.
pub fn htpasswd() -> &'static Registry {
    static REGISTRY: OnceLock<Registry> = OnceLock::new();
    REGISTRY.get_or_init(|| registry::start(&images::registry_data(), true, &passwords()))
}

/// With passwords, over https by the authority of `registry::authority`.
pub fn htpasswd_tls() -> &'static Registry {
    static REGISTRY: OnceLock<Registry> = OnceLock::new();
    REGISTRY.get_or_init(|| {
        let more = registry::tls_lines() + &passwords();
        registry::start(&images::registry_data(), true, &more)
    })
}

/// That lets in who shows a certificate of `registry::authority`.
pub fn client_tls() -> &'static Registry {
    static REGISTRY: OnceLock<Registry> = OnceLock::new();
    REGISTRY.get_or_init(|| {
        let authority = registry::authority();
        let more = format!("    clientcas:\n      - {}\n", authority.display());
        let more = registry::tls_lines() + &more;
        registry::start(&images::registry_data(), true, &more)
    })
}

/// Fills a directory as one of certs.d: the authority, and a certificate of it with its key. Without extensions it
/// is one of version 1.
pub fn client_certificate(dir: &Path, has_extensions: bool) {
    let authority = registry::authority();
    let script = "exec 2>/dev/null
        cp $0/ca.crt .
        openssl req -newkey rsa:2048 -nodes -subj '/CN=ann' -keyout client.key -out client.csr
        echo basicConstraints=CA:FALSE >client.ext
        openssl x509 -req -in client.csr -CA $0/ca.crt -CAkey $0/ca.key -days 30 $1 \
            -set_serial 0x7$(date +%N) -out client.cert
        chmod 644 client.key";
    let status = Command::new("sh")
        .args(["-ec", script])
        .arg(authority.parent().unwrap())
        .arg(if has_extensions {
            "-extfile client.ext"
        } else {
            ""
        })
        .current_dir(dir)
        .status()
        .unwrap();
    assert!(status.success());
}

fn passwords() -> String {
    let path = place::cache().join("htpasswd");
    std::fs::write(&path, HTPASSWD).unwrap();
    let path = path.display();
    format!("auth:\n  htpasswd:\n    realm: tests\n    path: {path}\n")
}

pub struct Guarded {
    pub registry: Registry,
    /// The request lines that the token server has seen, each with what it was told of the user.
    pub seen: Arc<Mutex<Vec<String>>>,
}

/// With tokens, over http.
pub fn tokens() -> &'static Guarded {
    static REGISTRY: OnceLock<Guarded> = OnceLock::new();
    REGISTRY.get_or_init(|| {
        let dir = signer();
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let realm = format!("http://{}/token", listener.local_addr().unwrap());
        let seen = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&seen);
        let signing = dir.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                serve(&stream, &signing, &log);
            }
        });
        let more = format!(
            "auth:\n  token:\n    realm: {realm}\n    service: tests\n    issuer: rbox\n    \
             rootcertbundle: {}/token.crt\n",
            dir.display()
        );
        Guarded {
            registry: registry::start(&images::registry_data(), true, &more),
            seen,
        }
    })
}

fn signer() -> PathBuf {
    place::made_once(
        "tokens",
        "openssl req -x509 -newkey rsa:2048 -nodes -days 3650 -subj '/CN=rbox tokens' \
            -keyout token.key -out token.crt
        chmod 644 token.key",
    )
}

/// One request a connection.
fn serve(mut stream: &TcpStream, signer: &Path, log: &Mutex<Vec<String>>) -> Option<()> {
    let mut reader = BufReader::new(stream);
    let mut request = String::new();
    reader.read_line(&mut request).ok()?;
    let (mut basic, mut length) = (None, 0);
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let line = line.trim_end();
        if line.is_empty() {
            break;
        }
        let (name, value) = line.split_once(": ")?;
        match &*name.to_ascii_lowercase() {
            "authorization" => basic = Some(value.to_owned()),
            "content-length" => length = value.parse().ok()?,
            _ => {}
        }
    }
    let mut form = vec![0; length];
    reader.read_exact(&mut form).ok()?;
    let form = String::from_utf8(form).ok()?;
    let query = request.split(' ').nth(1)?.split('?').nth(1).unwrap_or("");
    let right = format!("Basic {}", STANDARD.encode(format!("{USER}:{PASSWORD}")));
    let identity = form.contains("grant_type=refresh_token")
        && form.contains(&format!("refresh_token={IDENTITY}"));
    let (who, known) = match &basic {
        _ if identity => ("identity", true),
        Some(basic) if *basic == right => ("password", true),
        Some(_) => ("stranger", false),
        None => ("nobody", false),
    };
    let line = format!("{who} {}", request.trim_end());
    log.lock().unwrap().push(line);
    let (status, body) = if who == "stranger" || request.starts_with("POST") && !identity {
        ("401 Unauthorized", json!({"details": "wrong"}).to_string())
    } else {
        let from = if identity { &form } else { query };
        let token = token(signer, &scope(from), known);
        let name = if identity { "access_token" } else { "token" };
        let mut answer = json!({name: token});
        if query.contains("offline_token=true") && who == "password" {
            answer["refresh_token"] = json!(IDENTITY);
        }
        ("200 OK", answer.to_string())
    };
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(head.as_bytes()).ok()
}

/// `repository:busybox:pull` of a query or a form; nothing for a login.
fn scope(query: &str) -> String {
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    let scope = pairs.into_iter().find(|(name, _)| *name == "scope");
    let scope = scope.map(|(_, value)| value).unwrap_or_default();
    scope
        .replace("%3A", ":")
        .replace("%2F", "/")
        .replace("%2C", ",")
}

/// A JSON web token (RFC 7515) that docker-registry believes by its certificate.
fn token(signer: &Path, scope: &str, known: bool) -> String {
    let pem = std::fs::read_to_string(signer.join("token.crt")).unwrap();
    let lines = pem.lines().filter(|line| !line.starts_with('-'));
    let certificate: String = lines.collect();
    let header = json!({"typ": "JWT", "alg": "RS256", "x5c": [certificate]});
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs();
    let parts: Vec<&str> = scope.split(':').collect();
    let access = match parts.as_slice() {
        [kind, name, actions] if known => json!([
            {"type": kind, "name": name, "actions": actions.split(',').collect::<Vec<_>>()}
        ]),
        _ => json!([]),
    };
    let claims = json!({
        "iss": "rbox", "sub": USER, "aud": "tests", "jti": "1",
        "iat": now, "nbf": now - 60, "exp": now + 300, "access": access,
    });
    let part = |value: String| URL_SAFE_NO_PAD.encode(value);
    let text = format!("{}.{}", part(header.to_string()), part(claims.to_string()));
    let mut child = Command::new("openssl")
        .args(["dgst", "-sha256", "-sign"])
        .arg(signer.join("token.key"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(text.as_bytes())
        .unwrap();
    let signature = child.wait_with_output().unwrap().stdout;
    format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature))
}
