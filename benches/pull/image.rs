//! The image: four layers of what the machine has below /usr, always the same on the same machine.

use std::fs;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::path::PathBuf;

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use serde_json::Value;
use serde_json::json;
use sha2::Digest;
use sha2::Sha256;

use crate::archive::add;
use crate::archive::hex;
use crate::measure::run;
use crate::measure::words;

/// What fills each layer, and how many bytes: a base of large files, and smaller ones upon it, of which the
/// second has the most files.
const LAYERS: [(&str, u64); 4] = [
    ("/usr/lib/x86_64-linux-gnu", 260 << 20),
    ("/usr/share", 200 << 20),
    ("/usr/bin", 125 << 20),
    ("/usr/lib", 80 << 20),
];
const OCI: &str = "application/vnd.oci.image";

/// Makes the image, pushes it as `HOST/bench:gzip` and `HOST/bench:zstd`, and leaves the blobs of its layers in
/// `BASE/gzip/` and `BASE/zstd/`. Returns the bytes of its tars.
pub fn push(base: &Path, host: &str) -> Result<u64> {
    let mut tars = Vec::new();
    let mut size = 0;
    for (index, (source, most)) in LAYERS.into_iter().enumerate() {
        let mut files = Vec::new();
        list(Path::new(source), &mut files)?;
        let path = base.join(format!("{index}.tar"));
        tar(&path, &files, most)?;
        size += path.metadata()?.len();
        tars.push(path);
    }
    for form in ["gzip", "zstd"] {
        layout(base, form, &tars)?;
        let layout = base.join(form);
        run(&words(&format!(
            "skopeo --insecure-policy copy -q --dest-tls-verify=false oci:{}:bench docker://{host}/bench:{form}",
            layout.display()
        )))?;
    }
    for path in tars {
        fs::remove_file(path)?;
    }
    Ok(size)
}

/// Regular files and symlinks below a directory, sorted, not through links.
fn list(dir: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    // A directory that this user may not read has nothing for the image.
    let Ok(entries) = fs::read_dir(dir) else {
        return Ok(());
    };
    let mut entries: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    entries.sort();
    for path in entries {
        if path.symlink_metadata()?.is_dir() {
            list(&path, files)?;
        } else {
            files.push(path);
        }
    }
    Ok(())
}

fn tar(path: &Path, files: &[PathBuf], most: u64) -> Result<()> {
    let mut builder = tar::Builder::new(File::create(path)?);
    let mut bytes = 0;
    for source in files {
        let metadata = source.symlink_metadata()?;
        let mut header = tar::Header::new_gnu();
        header.set_mode(metadata.permissions().mode() & 0o777);
        header.set_mtime(1_700_000_000);
        let name = source.strip_prefix("/")?;
        if metadata.is_symlink() {
            header.set_entry_type(tar::EntryType::Symlink);
            header.set_size(0);
            builder.append_link(&mut header, name, fs::read_link(source)?)?;
        } else if metadata.is_file()
            && bytes + metadata.len() <= most
            && let Ok(file) = File::open(source)
        {
            header.set_size(metadata.len());
            builder.append_data(&mut header, name, file)?;
            bytes += metadata.len();
        }
    }
    if bytes < most * 9 / 10 {
        bail!("{} would have too few files", path.display());
    }
    builder.finish()?;
    Ok(())
}

/// An OCI layout beside which the blobs of the layers lie once more, in their order.
fn layout(base: &Path, form: &str, tars: &[PathBuf]) -> Result<()> {
    let dir = base.join(form);
    fs::create_dir_all(dir.join("blobs/sha256"))?;
    fs::write(dir.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#)?;
    let mut layers = Vec::new();
    let mut diff_ids = Vec::new();
    for (index, path) in tars.iter().enumerate() {
        let packed = dir.join(format!("{index}.layer"));
        let program = if form == "gzip" {
            "gzip -6 -n"
        } else {
            "zstd -3 -q -T2"
        };
        let script = format!("{program} -c <{} >{}", path.display(), packed.display());
        run(&["sh".into(), "-c".into(), script])?;
        diff_ids.push(format!("sha256:{}", sha256(path)?));
        let hex = sha256(&packed)?;
        fs::hard_link(&packed, dir.join("blobs/sha256").join(&hex))?;
        layers.push(json!({"mediaType": format!("{OCI}.layer.v1.tar+{form}"),
            "digest": format!("sha256:{hex}"), "size": packed.metadata()?.len()}));
    }
    let config = put(&dir, &config(&diff_ids, 0))?;
    let config = described(config, "config.v1+json");
    let manifest = put(
        &dir,
        &json!({"schemaVersion": 2, "mediaType": format!("{OCI}.manifest.v1+json"),
            "config": config, "layers": layers}),
    )?;
    let mut manifest = described(manifest, "manifest.v1+json");
    manifest["annotations"] = json!({"org.opencontainers.image.ref.name": "bench"});
    let index = json!({"schemaVersion": 2, "manifests": [manifest]});
    fs::write(dir.join("index.json"), serde_json::to_vec(&index)?)?;
    Ok(())
}

fn config(diff_ids: &[String], number: usize) -> Value {
    json!({
        "architecture": "amd64",
        "os": "linux",
        "created": "2026-01-01T00:00:00Z",
        "config": {"Env": ["PATH=/bin"], "Labels": {"number": number.to_string()}},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    })
}

fn put(layout: &Path, value: &Value) -> Result<(String, usize)> {
    let bytes = serde_json::to_vec(value)?;
    let digest = hex(&Sha256::digest(&bytes));
    fs::write(layout.join("blobs/sha256").join(&digest), &bytes)?;
    Ok((digest, bytes.len()))
}

fn described((hex, size): (String, usize), kind: &str) -> Value {
    json!({"mediaType": format!("{OCI}.{kind}"), "digest": format!("sha256:{hex}"), "size": size})
}

/// A docker-archive of many images, which share their only layer.
pub fn many(path: &Path, count: usize) -> Result<()> {
    let mut layer = tar::Builder::new(Vec::new());
    add(&mut layer, "file", b"of all images")?;
    let layer = layer.into_inner()?;
    let diff_id = format!("sha256:{}", hex(&Sha256::digest(&layer)));
    let mut archive = tar::Builder::new(File::create(path)?);
    add(&mut archive, "layer.tar", &layer)?;
    let mut images = Vec::new();
    for number in 0..count {
        let bytes = serde_json::to_vec(&config(std::slice::from_ref(&diff_id), number))?;
        let name = format!("{}.json", hex(&Sha256::digest(&bytes)));
        add(&mut archive, &name, &bytes)?;
        images.push(
            json!({"Config": name, "RepoTags": [format!("docker.io/library/many:{number}")],
            "Layers": ["layer.tar"]}),
        );
    }
    add(&mut archive, "manifest.json", &serde_json::to_vec(&images)?)?;
    archive.finish()?;
    Ok(())
}

fn sha256(path: &Path) -> Result<String> {
    let mut file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        let count = file.read(&mut buffer)?;
        if count == 0 {
            return Ok(hex(&hasher.finalize()));
        }
        hasher.update(&buffer[..count]);
    }
}
