//! A registry on a thread that serves one image of an OCI layout truly, but breaks off in the middle of blobs, or falls
//! silent there, and remembers what it was asked for. Its thread ends with the test binary.
use std::io::BufRead;
use std::io::BufReader;
use std::io::Read;
use std::io::Write;
use std::net::TcpListener;
use std::net::TcpStream;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Condvar;
use std::sync::Mutex;
use std::time::Duration;

use serde_json::Value;

use super::liar;

/// What becomes of an answer that is longer than `limit`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Then {
    /// The connection ends.
    Cut,
    /// Nothing more comes until another limit is set.
    Silence,
}

pub struct Cutter {
    /// `127.0.0.1:PORT`
    pub host: String,
    state: Arc<State>,
}

struct State {
    layout: PathBuf,
    limit: Mutex<(usize, Then)>,
    changed: Condvar,
    /// Blobs asked for: digest and first byte.
    asked: Mutex<Vec<(String, usize)>>,
}

impl Cutter {
    /// Serves the tag `latest` of a layout, under any name.
    pub fn start(layout: PathBuf) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let state = Arc::new(State {
            layout,
            limit: Mutex::new((usize::MAX, Then::Cut)),
            changed: Condvar::new(),
            asked: Mutex::new(Vec::new()),
        });
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let state = Arc::clone(&shared);
                std::thread::spawn(move || state.serve(&stream));
            }
        });
        Self { host, state }
    }

    /// So many bytes of a blob come with one answer.
    pub fn limit(&self, bytes: usize, then: Then) {
        *self.state.limit.lock().unwrap() = (bytes, then);
        self.state.changed.notify_all();
    }

    pub fn no_limit(&self) {
        self.limit(usize::MAX, Then::Cut);
    }

    /// What was asked for since the last call.
    pub fn asked(&self) -> Vec<(String, usize)> {
        std::mem::take(&mut self.state.asked.lock().unwrap())
    }
}

impl State {
    /// One request a connection. Whoever goes away early needs no answer.
    fn serve(&self, mut stream: &TcpStream) -> Option<()> {
        let mut lines = BufReader::new(stream).lines();
        let request = lines.next()?.ok()?;
        let mut from = 0;
        for line in lines {
            let line = line.ok()?.to_ascii_lowercase();
            if let Some(range) = line.strip_prefix("range: bytes=") {
                from = range.trim_end_matches('-').parse().ok()?;
            }
            if line.is_empty() {
                break;
            }
        }
        let path = request.split(' ').nth(1)?;
        if let Some((_, digest)) = path.split_once("/blobs/") {
            let bytes = self.blob(digest);
            self.asked.lock().unwrap().push((digest.to_owned(), from));
            return self.send(stream, &bytes, from);
        }
        let answer = match path.split_once("/manifests/") {
            Some((_, name)) => {
                let digest = match name {
                    "latest" => self.manifest(),
                    digest => digest.to_owned(),
                };
                let kind = "application/vnd.oci.image.manifest.v1+json";
                liar::answer("200 OK", kind, &self.blob(&digest))
            }
            None => liar::answer("200 OK", "application/json", b"{}"),
        };
        stream.write_all(&answer).ok()
    }

    fn manifest(&self) -> String {
        let index = std::fs::read(self.layout.join("index.json")).unwrap();
        let index: Value = serde_json::from_slice(&index).unwrap();
        let manifests = index["manifests"].as_array().unwrap();
        let name = "org.opencontainers.image.ref.name";
        let latest = manifests
            .iter()
            .find(|one| one["annotations"][name] == "latest");
        latest.unwrap()["digest"].as_str().unwrap().to_owned()
    }

    fn blob(&self, digest: &str) -> Vec<u8> {
        std::fs::read(blob(&self.layout, digest)).unwrap()
    }

    fn send(&self, mut stream: &TcpStream, bytes: &[u8], from: usize) -> Option<()> {
        let rest = &bytes[from..];
        let status = match from {
            0 => "200 OK".to_owned(),
            _ => format!(
                "206 Partial Content\r\nContent-Range: bytes {from}-{}/{}",
                bytes.len() - 1,
                bytes.len()
            ),
        };
        let head = liar::sized(&status, "application/octet-stream", b"", rest.len());
        stream.write_all(&head).ok()?;
        let mut done = 0;
        loop {
            let (limit, then) = *self.limit.lock().unwrap();
            let most = rest.len().min(limit);
            if done < most {
                stream.write_all(&rest[done..most]).ok()?;
                done = most;
            }
            if done == rest.len() || then == Then::Cut {
                return Some(());
            }
            let guard = self.limit.lock().unwrap();
            let wait = Duration::from_millis(100);
            drop(self.changed.wait_timeout(guard, wait).unwrap());
            // A client that has gone must not be held for ever.
            stream.set_nonblocking(true).ok()?;
            let gone = matches!(stream.read(&mut [0]), Ok(0));
            stream.set_nonblocking(false).ok()?;
            if gone {
                return None;
            }
        }
    }
}

pub fn blob(layout: &Path, digest: &str) -> PathBuf {
    layout.join("blobs").join(digest.replace(':', "/"))
}

/// The digests of the layers of the tag `latest`, the lowest first.
pub fn layers(layout: &Path) -> Vec<String> {
    let state = State {
        layout: layout.to_owned(),
        limit: Mutex::new((0, Then::Cut)),
        changed: Condvar::new(),
        asked: Mutex::new(Vec::new()),
    };
    let manifest: Value = serde_json::from_slice(&state.blob(&state.manifest())).unwrap();
    let layers = manifest["layers"].as_array().unwrap();
    let digest = |layer: &Value| layer["digest"].as_str().unwrap().to_owned();
    layers.iter().map(digest).collect()
}
