//! Images that no honest tool makes: OCI layouts and docker archives put together from
//! any layers, any config and any digests.
use std::fmt::Write;
use std::path::PathBuf;

use serde_json::Value;
use serde_json::json;
use sha2::Digest;
use sha2::Sha256;

use super::archive::Tar;
use super::rbox::Rbox;

/// The parts of an image of one manifest; every one may be changed before `oci_archive`.
pub struct Image {
    /// Uncompressed tar archives.
    pub layers: Vec<Vec<u8>>,
    pub config: Value,
    /// Added to or put over the fields of the manifest.
    pub manifest: Value,
    /// Blobs whose bytes are replaced after their digests were taken: by index of the
    /// layer, or `CONFIG`, `MANIFEST`.
    pub replaced: Vec<(usize, Vec<u8>)>,
    /// What the config claims of the layers, if not the truth.
    pub diff_ids: Option<Vec<String>>,
    /// Members left out of the archive, by index as in `replaced`.
    pub missing: Vec<usize>,
}

const OCI: &str = "application/vnd.oci.image";

pub const CONFIG: usize = 1000;
pub const MANIFEST: usize = 1001;

pub fn hex(bytes: &[u8]) -> String {
    let mut text = String::new();
    for byte in Sha256::digest(bytes) {
        write!(text, "{byte:02x}").unwrap();
    }
    text
}

pub fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", hex(bytes))
}

impl Image {
    /// One layer with a static busybox and a few applets, on which oddities are put.
    pub fn busybox() -> Self {
        let mut tar = Tar::default();
        tar.dir("bin", 0o755)
            .file("bin/busybox", 0o755, &busybox())
            .file("etc/passwd", 0o644, b"root:x:0:0::/root:/bin/sh\n")
            .file("etc/group", 0o644, b"root:x:0:\n");
        for applet in [
            "sh", "cat", "echo", "ls", "pwd", "true", "id", "env", "sleep",
        ] {
            tar.symlink(&format!("bin/{applet}"), "busybox");
        }
        Self::of(vec![tar.finish()])
    }

    pub fn of(layers: Vec<Vec<u8>>) -> Self {
        Self {
            layers,
            config: json!({"Cmd": ["sh"], "Env": ["PATH=/bin"]}),
            manifest: json!({}),
            replaced: Vec::new(),
            diff_ids: None,
            missing: Vec::new(),
        }
    }

    /// Fields of the config's `config`, put over those there.
    pub fn with(mut self, fields: Value) -> Self {
        merge(&mut self.config, fields);
        self
    }

    pub fn layer(mut self, tar: &mut Tar) -> Self {
        self.layers.push(tar.finish());
        self
    }

    pub fn config_bytes(&self) -> Vec<u8> {
        let diff_ids = self
            .diff_ids
            .clone()
            .unwrap_or_else(|| self.layers.iter().map(|layer| digest(layer)).collect());
        json!({
            "architecture": "amd64",
            "os": "linux",
            "config": self.config,
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
            "history": [],
        })
        .to_string()
        .into_bytes()
    }

    fn replacement(&self, index: usize, honest: Vec<u8>) -> Vec<u8> {
        self.replaced
            .iter()
            .find(|(at, _)| *at == index)
            .map_or(honest, |(_, bytes)| bytes.clone())
    }

    pub fn manifest_bytes(&self) -> Vec<u8> {
        let config = self.config_bytes();
        let layers: Vec<Value> = self
            .layers
            .iter()
            .map(|layer| descriptor(&format!("{OCI}.layer.v1.tar"), layer))
            .collect();
        let mut manifest = json!({
            "schemaVersion": 2,
            "mediaType": format!("{OCI}.manifest.v1+json"),
            "config": descriptor(&format!("{OCI}.config.v1+json"), &config),
            "layers": layers,
        });
        merge(&mut manifest, self.manifest.clone());
        manifest.to_string().into_bytes()
    }

    pub fn oci_archive(&self) -> Vec<u8> {
        let (config, manifest) = (self.config_bytes(), self.manifest_bytes());
        let mut top = descriptor(&format!("{OCI}.manifest.v1+json"), &manifest);
        top["annotations"] = json!({"org.opencontainers.image.ref.name": "odd:latest"});
        let index = json!({"schemaVersion": 2, "manifests": [top]}).to_string();
        let mut tar = Tar::default();
        tar.file("oci-layout", 0o644, br#"{"imageLayoutVersion":"1.0.0"}"#)
            .file("index.json", 0o644, index.as_bytes());
        let mut blobs = vec![(CONFIG, config), (MANIFEST, manifest)];
        blobs.extend(self.layers.iter().cloned().enumerate());
        for (at, bytes) in blobs {
            if !self.missing.contains(&at) {
                let path = format!("blobs/sha256/{}", hex(&bytes));
                tar.file(&path, 0o644, &self.replacement(at, bytes));
            }
        }
        tar.finish()
    }

    pub fn docker_archive(&self) -> Vec<u8> {
        let config = self.config_bytes();
        let config_name = format!("{}.json", hex(&config));
        let names: Vec<String> = self
            .layers
            .iter()
            .map(|layer| format!("{}.tar", hex(layer)))
            .collect();
        let manifest =
            json!([{"Config": config_name, "RepoTags": ["odd:latest"], "Layers": names}]);
        let mut tar = Tar::default();
        for (at, (name, layer)) in names.iter().zip(&self.layers).enumerate() {
            if !self.missing.contains(&at) {
                tar.file(name, 0o644, &self.replacement(at, layer.clone()));
            }
        }
        if !self.missing.contains(&CONFIG) {
            tar.file(&config_name, 0o644, &self.replacement(CONFIG, config));
        }
        tar.file("manifest.json", 0o644, manifest.to_string().as_bytes());
        tar.finish()
    }

    /// Writes it as `odd.tar` (an OCI archive of the reference `odd:latest`).
    pub fn save(&self, rbox: &Rbox) -> PathBuf {
        rbox.write("odd.tar", self.oci_archive())
    }

    /// Loads it, as `odd`.
    pub fn load(&self, rbox: &Rbox) {
        let path = self.save(rbox);
        rbox.args(["load", "-q", "-i"]).arg(path).stdout_any().run();
    }
}

fn descriptor(media_type: &str, bytes: &[u8]) -> Value {
    json!({"mediaType": media_type, "digest": digest(bytes), "size": bytes.len()})
}

fn merge(into: &mut Value, fields: Value) {
    let Value::Object(fields) = fields else {
        panic!("an object is merged");
    };
    for (key, value) in fields {
        into[key] = value;
    }
}

pub fn busybox() -> Vec<u8> {
    std::fs::read("/bin/busybox").expect("busybox-static is installed")
}
