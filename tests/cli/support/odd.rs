//! A registry on threads that takes pushes in ways that docker-registry does not: in small parts alone, with
//! connections that break, at another place than asked. It remembers each request.
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::BufRead;
use std::io::BufReader;
use std::io::Read;
use std::io::Write;
use std::net::TcpListener;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::Mutex;

use super::hostile;

/// How it differs from others.
#[derive(Clone, Debug, Default)]
pub struct Ways {
    /// The largest body of a blob that it takes at once.
    pub part_max: Option<usize>,
    /// Connections break after so many bytes of a body, so often.
    pub breaks: Option<(usize, u32)>,
    /// Where uploads go, as `http://HOST`.
    pub elsewhere: Option<String>,
    /// What `Authorization` must say.
    pub authorization: Option<String>,
    /// It says of every part that it has ten bytes now.
    pub stuck: bool,
    /// It takes Docker's manifests alone.
    pub docker_only: bool,
}

#[derive(Clone)]
pub struct Odd {
    pub host: String,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    ways: Ways,
    host: String,
    uploads: Vec<Vec<u8>>,
    /// By path.
    kept: BTreeMap<String, Vec<u8>>,
    requests: Vec<String>,
}

struct Request {
    method: String,
    path: String,
    query: String,
    content_type: String,
    range: String,
    authorization: String,
    body: Vec<u8>,
    whole: bool,
}

pub fn start(ways: Ways) -> Odd {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let host = listener.local_addr().unwrap().to_string();
    let state = Arc::new(Mutex::new(State {
        ways,
        host: host.clone(),
        ..State::default()
    }));
    let odd = Odd {
        host,
        state: Arc::clone(&state),
    };
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let state = Arc::clone(&state);
            std::thread::spawn(move || serve(&stream, &state));
        }
    });
    odd
}

impl Odd {
    /// `METHOD path` of each request, and its `Authorization` where it had one.
    pub fn requests(&self) -> Vec<String> {
        self.state.lock().unwrap().requests.clone()
    }

    /// As if so many uploads had been begun here.
    pub fn open_uploads(&self, count: usize) {
        let mut state = self.state.lock().unwrap();
        state.uploads.resize(count, Vec::new());
    }

    /// What was pushed, by its path.
    pub fn kept(&self, path: &str) -> Option<Vec<u8>> {
        self.state.lock().unwrap().kept.get(path).cloned()
    }
}

/// One request a connection.
fn serve(mut stream: &TcpStream, state: &Mutex<State>) -> Option<()> {
    let breaks = state.lock().unwrap().ways.breaks;
    let request = read(stream, breaks.map(|(bytes, _)| bytes))?;
    let answer = {
        let mut state = state.lock().unwrap();
        let mut line = format!("{} {}", request.method, request.path);
        if !request.authorization.is_empty() {
            write!(line, " {}", request.authorization).unwrap();
        }
        state.requests.push(line);
        state.answer(request)
    };
    stream.write_all(answer?.as_bytes()).ok()
}

/// With `stop`, a body is not read further than that.
fn read(stream: &TcpStream, stop: Option<usize>) -> Option<Request> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let mut words = line.split(' ');
    let method = words.next()?.to_owned();
    let target = words.next()?.to_owned();
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let mut request = Request {
        method,
        path: path.to_owned(),
        query: query.to_owned(),
        content_type: String::new(),
        range: String::new(),
        authorization: String::new(),
        body: Vec::new(),
        whole: true,
    };
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(": ") else {
            break;
        };
        let value = value.to_owned();
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.parse().ok()?,
            "content-type" => request.content_type = value,
            "content-range" => request.range = value,
            "authorization" => request.authorization = value,
            _ => {}
        }
    }
    let is_blob = request.path.contains("/uploads/");
    let read = match stop {
        Some(stop) if is_blob && length > stop => stop,
        _ => length,
    };
    request.whole = read == length;
    request.body.resize(read, 0);
    reader.read_exact(&mut request.body).ok()?;
    if !request.whole {
        // The rest is read before the end is cut off, or what was read could be lost with a reset.
        let rest = (length - read) as u64;
        std::io::copy(&mut reader.take(rest), &mut std::io::sink()).ok()?;
    }
    Some(request)
}

#[expect(clippy::unnecessary_wraps, reason = "it is what the callers return")]
fn answer(status: &str, headers: &str) -> Option<String> {
    Some(format!(
        "HTTP/1.1 {status}\r\n{headers}Content-Length: 0\r\nConnection: close\r\n\r\n"
    ))
}

impl State {
    /// `None`: the connection is closed without an answer.
    fn answer(&mut self, request: Request) -> Option<String> {
        if let Some(wanted) = &self.ways.authorization
            && request.authorization != *wanted
        {
            return answer(
                "401 Unauthorized",
                "WWW-Authenticate: Basic realm=\"odd\"\r\n",
            );
        }
        let Request { method, path, .. } = &request;
        match (method.as_str(), path.as_str()) {
            (_, "/v2/") => answer("200 OK", ""),
            ("HEAD" | "GET", path) if self.kept.contains_key(path) => answer("200 OK", ""),
            (_, path) if path.contains("/uploads/") => self.upload(request),
            ("PUT", path) if path.contains("/manifests/") => {
                if self.ways.docker_only && !request.content_type.contains("docker") {
                    return answer("415 Unsupported Media Type", "");
                }
                self.kept.insert(request.path, request.body);
                answer("201 Created", "")
            }
            _ => answer("404 Not Found", ""),
        }
    }

    fn upload(&mut self, request: Request) -> Option<String> {
        let (repository, number) = request.path.split_once("/uploads/")?;
        if request.method == "POST" {
            let mount = request.query.strip_prefix("mount=");
            if let Some((digest, from)) = mount.and_then(|query| query.split_once("&from="))
                && let Some(bytes) = self.kept.get(&format!("/v2/{from}/blobs/{digest}"))
            {
                let bytes = bytes.clone();
                self.kept.insert(format!("{repository}/{digest}"), bytes);
                return answer("201 Created", "");
            }
            self.uploads.push(Vec::new());
            return self.at(repository, self.uploads.len() - 1, "202 Accepted");
        }
        let number: usize = number.parse().ok()?;
        let breaks = self.ways.breaks;
        let part_max = self.ways.part_max.unwrap_or(usize::MAX);
        let upload = self.uploads.get_mut(number)?;
        if request.body.len() > part_max {
            return answer("413 Content Too Large", "");
        }
        if self.ways.stuck && request.method == "PATCH" {
            let location = format!("Location: {}\r\nRange: 0-9\r\n", request.path);
            return answer("202 Accepted", &location);
        }
        let start = request.range.split('-').next().unwrap_or_default();
        if !start.is_empty() && start != upload.len().to_string() {
            return answer("416 Range Not Satisfiable", "");
        }
        upload.extend(&request.body);
        if !request.whole {
            if let Some((bytes, times)) = breaks {
                self.ways.breaks = (times > 1).then_some((bytes, times - 1));
            }
            return None;
        }
        match request.method.as_str() {
            "GET" => self.at(repository, number, "204 No Content"),
            "PATCH" => self.at(repository, number, "202 Accepted"),
            _ => {
                let digest = request.query.strip_prefix("digest=")?.to_owned();
                if hostile::digest(upload) != digest {
                    return answer("400 Bad Request", "");
                }
                let bytes = std::mem::take(upload);
                self.kept.insert(format!("{repository}/{digest}"), bytes);
                answer("201 Created", "")
            }
        }
    }

    fn at(&self, repository: &str, number: usize, status: &str) -> Option<String> {
        let base = self.ways.elsewhere.clone();
        let base = base.unwrap_or_else(|| format!("http://{}", self.host));
        let last = self.uploads[number].len().saturating_sub(1);
        let headers =
            format!("Location: {base}{repository}/uploads/{number}\r\nRange: 0-{last}\r\n");
        answer(status, &headers)
    }
}
