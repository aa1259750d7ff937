//! What a test may leave behind: an image store with nothing half-made in it. Everything
//! else is a leak.
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;
use std::time::Instant;

use super::processes;

/// Namespaces and supervisors may end a moment after the exit status was reported.
const TEAR_DOWN: Duration = Duration::from_secs(5);

/// What was left behind, as text; empty when nothing was.
pub fn find(dir: &Path, orphans_allowed: bool) -> String {
    let deadline = Instant::now() + TEAR_DOWN;
    loop {
        let found = once(dir, orphans_allowed);
        if found.is_empty() || Instant::now() > deadline {
            return found;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

pub fn once(dir: &Path, orphans_allowed: bool) -> String {
    let mut found = processes::describe(&processes::of(dir));
    for line in fs::read_to_string("/proc/self/mountinfo").unwrap().lines() {
        if line.contains(&format!("{}/", dir.display())) && !is_stage(line, dir) {
            writeln!(found, "  mount {line}").unwrap();
        }
    }
    for path in cgroups(Path::new("/sys/fs/cgroup"), &ids(dir)) {
        writeln!(found, "  cgroup {}", path.display()).unwrap();
    }
    for name in ["home", "tmp"] {
        for path in entries(&dir.join(name)) {
            writeln!(found, "  file {}", path.display()).unwrap();
        }
    }
    found.push_str(&run_dir(&dir.join("run")));
    found.push_str(&store(&dir.join("data/rbox"), orphans_allowed));
    found
}

/// Tests that mount their own store put it at `DIR/data`.
fn is_stage(line: &str, dir: &Path) -> bool {
    line.split(' ').nth(4) == dir.join("data").to_str()
}

fn entries(dir: &Path) -> Vec<PathBuf> {
    let Ok(listing) = fs::read_dir(dir) else {
        return Vec::new();
    };
    listing.flatten().map(|entry| entry.path()).collect()
}

fn name(path: &Path) -> &str {
    path.file_name()
        .and_then(|name| name.to_str())
        .unwrap_or("")
}

fn run_dir(run: &Path) -> String {
    let mut found = String::new();
    for path in entries(run) {
        if name(&path) != "rbox" {
            writeln!(found, "  file {}", path.display()).unwrap();
        }
    }
    for path in entries(&run.join("rbox/containers"))
        .iter()
        .chain(&entries(&run.join("rbox/oci")))
    {
        writeln!(found, "  file {}", path.display()).unwrap();
    }
    found
}

fn store(data: &Path, orphans_allowed: bool) -> String {
    const KNOWN: [&str; 14] = [
        "auto-ids.lock",
        "blobs",
        "cache",
        "containers",
        "events",
        "images",
        "layers",
        "lists.lock",
        "lock",
        "names",
        "networks",
        "tmp",
        "told-single-id",
        "volumes",
    ];
    let mut found = String::new();
    let mut report = |path: &Path, what: &str| {
        writeln!(found, "  {what} {}", path.display()).unwrap();
    };
    for path in entries(data) {
        if !KNOWN.contains(&name(&path)) {
            report(&path, "unknown file");
        }
    }
    for path in entries(&data.join("containers"))
        .iter()
        .chain(&entries(&data.join("names")))
    {
        report(path, "container");
    }
    for path in entries(&data.join("events")) {
        if !["journal", "journal.1"].contains(&name(&path)) {
            report(&path, "unknown file");
        }
    }
    for path in entries(&data.join("volumes")) {
        if name(&path) != ".lock" {
            report(&path, "volume");
        }
    }
    for path in entries(&data.join("networks")) {
        if name(&path) != ".lock" && path.extension().is_none_or(|kind| kind != "json") {
            report(&path, "unknown file");
        }
    }
    for path in entries(&data.join("cache")) {
        if !["packed", "seccomp"].contains(&name(&path)) {
            report(&path, "unknown file");
        }
    }
    for path in entries(&data.join("cache/seccomp")) {
        if name(&path).len() != 64 {
            report(&path, "temporary file");
        }
    }
    for path in entries(&data.join("tmp")) {
        report(&path, "temporary file");
    }
    if orphans_allowed {
        return found;
    }
    let (layers, blobs) = referenced(data);
    for path in entries(&data.join("layers")) {
        if !layers.contains(name(&path)) {
            report(&path, "layer of no image");
        }
    }
    let by_sha512 = entries(&data.join("blobs/sha512"));
    for path in entries(&data.join("blobs/sha256")).iter().chain(&by_sha512) {
        if !blobs.contains(name(path)) {
            report(path, "blob of no image");
        }
    }
    for path in entries(&data.join("images")) {
        if !["ids", "refs"].contains(&name(&path)) {
            report(&path, "unknown file");
        }
    }
    for path in entries(&data.join("images/ids"))
        .iter()
        .chain(&entries(&data.join("images/refs")))
    {
        if name(path).starts_with('.') {
            report(path, "temporary file");
        }
    }
    found
}

/// The digests that the records of images and references name, and their manifests and layers: of layers, and of
/// anything.
fn referenced(data: &Path) -> (BTreeSet<String>, BTreeSet<String>) {
    let mut layers = BTreeSet::new();
    let mut blobs = BTreeSet::new();
    for path in entries(&data.join("images/ids")) {
        let record = json(&path);
        collect(&record["layers"], &mut layers);
        collect(&record, &mut blobs);
        blobs.insert(name(&path).trim_end_matches(".json").to_owned());
    }
    for path in entries(&data.join("images/refs")) {
        let record = json(&path);
        collect(&record, &mut blobs);
    }
    for layer in &layers {
        let file = data.join("layers").join(layer).join("layer.json");
        collect(&json(&file)["packed"], &mut blobs);
    }
    for digest in blobs.clone() {
        // Not layers: they are no text, and large.
        let file = data.join("blobs").join(algorithm(&digest)).join(digest);
        if file.metadata().is_ok_and(|file| file.len() < 1 << 20) {
            let document = json(&file);
            collect(&document["layers"], &mut blobs);
            collect(&document["manifests"], &mut blobs);
        }
    }
    (layers, blobs)
}

/// By the length of a digest.
fn algorithm(hex: &str) -> &'static str {
    if hex.len() == 128 { "sha512" } else { "sha256" }
}

fn json(path: &Path) -> serde_json::Value {
    let text = fs::read_to_string(path).unwrap_or_default();
    serde_json::from_str(&text).unwrap_or_default()
}

fn collect(value: &serde_json::Value, digests: &mut BTreeSet<String>) {
    match value {
        serde_json::Value::String(text) => {
            // Joined to a directory: a path of an image's record would lead anywhere, to a pipe even.
            let digest = text.strip_prefix("sha512:").unwrap_or(text);
            let digest = digest.trim_start_matches("sha256:");
            if digest.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                digests.insert(digest.to_owned());
            }
        }
        serde_json::Value::Array(items) => items.iter().for_each(|item| collect(item, digests)),
        serde_json::Value::Object(fields) => {
            fields.values().for_each(|item| collect(item, digests));
        }
        _ => {}
    }
}

/// The ids that containers of this test had, as `Call` noted them.
fn ids(dir: &Path) -> Vec<String> {
    fs::read_to_string(dir.join("ids"))
        .unwrap_or_default()
        .lines()
        .map(str::to_owned)
        .collect()
}

fn cgroups(dir: &Path, ids: &[String]) -> Vec<PathBuf> {
    if ids.is_empty() {
        return Vec::new();
    }
    let mut found = Vec::new();
    for path in entries(dir) {
        if !path.is_dir() || path.is_symlink() {
            continue;
        }
        if ids.iter().any(|id| name(&path).contains(id.as_str())) {
            found.push(path);
        } else {
            found.extend(cgroups(&path, ids));
        }
    }
    found
}
