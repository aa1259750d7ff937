//! A registry on a thread that answers whatever a test wants, true or not, for
//! `HOST/odd:latest`. Its thread ends with the test binary.
use std::collections::BTreeMap;
use std::io::BufRead;
use std::io::BufReader;
use std::io::Write;
use std::net::TcpListener;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::Mutex;

use super::hostile;
use super::hostile::Image;

/// By path, such as `/v2/odd/manifests/latest`: the whole answer, header and all.
pub type Answers = BTreeMap<String, Vec<u8>>;

/// Before a path: the answer for who shows an `Authorization`.
pub const KNOWN: &str = "known ";

/// Request lines, each with the `Authorization` that came with it.
pub type Seen = Arc<Mutex<Vec<String>>>;

/// Listens; returns `127.0.0.1:PORT`.
pub fn start(answers: Answers) -> String {
    start_seen(answers).0
}

/// The same, and what it is asked.
pub fn start_seen(answers: Answers) -> (String, Seen) {
    let seen = Seen::default();
    let log = Arc::clone(&seen);
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let host = listener.local_addr().unwrap().to_string();
    let answers = Arc::new(answers);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let answers = Arc::clone(&answers);
            let log = Arc::clone(&log);
            std::thread::spawn(move || serve(&stream, &answers, &log));
        }
    });
    (host, seen)
}

/// One request a connection. Whoever goes away early needs no answer.
fn serve(mut stream: &TcpStream, answers: &Answers, log: &Mutex<Vec<String>>) -> Option<()> {
    let mut lines = BufReader::new(stream).lines();
    let request = lines.next()?.ok()?;
    let mut authorization = String::new();
    for line in lines {
        let line = line.ok()?;
        if line.is_empty() {
            break;
        }
        if line.to_ascii_lowercase().starts_with("authorization:") {
            authorization = format!(" {line}");
        }
    }
    log.lock()
        .unwrap()
        .push(format!("{request}{authorization}"));
    let mut words = request.split(' ');
    let method = words.next()?;
    let path = words.next()?;
    let missing = answer("404 Not Found", "text/plain", b"no such page");
    let known = (!authorization.is_empty())
        .then(|| answers.get(&format!("{KNOWN}{path}")))
        .flatten();
    let bytes = known.or_else(|| answers.get(path)).unwrap_or(&missing);
    let end = if method == "HEAD" {
        bytes.windows(4).position(|w| w == b"\r\n\r\n")? + 4
    } else {
        bytes.len()
    };
    stream.write_all(&bytes[..end]).ok()
}

pub fn answer(status: &str, content_type: &str, body: &[u8]) -> Vec<u8> {
    sized(status, content_type, body, body.len())
}

/// With a length in the header that may not be the body's.
pub fn sized(status: &str, content_type: &str, body: &[u8], length: usize) -> Vec<u8> {
    let mut bytes = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {length}\r\n\
         Connection: close\r\n\r\n"
    )
    .into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub const LATEST: &str = "/v2/odd/manifests/latest";

/// The true answers for an image, to be changed.
pub fn truth(image: &Image) -> Answers {
    let mut answers = Answers::new();
    let mut put = |path: String, kind: &str, bytes: &[u8]| {
        answers.insert(path, answer("200 OK", kind, bytes));
    };
    let (config, manifest) = (image.config_bytes(), image.manifest_bytes());
    put("/v2/".into(), "application/json", b"{}");
    put(LATEST.into(), MANIFEST, &manifest);
    put(
        format!("/v2/odd/manifests/{}", hostile::digest(&manifest)),
        MANIFEST,
        &manifest,
    );
    for bytes in image.layers.iter().chain([&config]) {
        put(blob(bytes), "application/octet-stream", bytes);
    }
    answers
}

/// The path of a blob.
pub fn blob(bytes: &[u8]) -> String {
    format!("/v2/odd/blobs/{}", hostile::digest(bytes))
}
