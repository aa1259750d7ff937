//! What an image says about how it wants to be run. Hostile data: read leniently, because Docker
//! writes `null` for whatever is empty, and kept in [`FromImage`], so that every use shows.

use std::collections::BTreeMap;
use std::collections::HashMap;

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use serde::Deserialize;
use serde::Deserializer;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::image::manifest::Manifest;
use crate::oci::digest::Digest;
use crate::oci::platform::Platform;

/// A value that an image's author chose. It may fill what an image is allowed to say about its own
/// container; it must never name a path of the host, widen privileges or switch a feature on.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct FromImage<T>(T);

impl<T> FromImage<T> {
    pub fn new(value: T) -> Self {
        Self(value)
    }

    /// The value, by a name that shows where it comes from.
    pub fn untrusted(&self) -> &T {
        &self.0
    }
}

/// `config` of an image config.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ImageConfig {
    /// `NAME=value`; others are dropped.
    #[serde(deserialize_with = "environment")]
    pub env: Vec<String>,
    #[serde(deserialize_with = "words")]
    pub entrypoint: Vec<String>,
    #[serde(deserialize_with = "words")]
    pub cmd: Vec<String>,
    #[serde(deserialize_with = "nullable")]
    pub working_dir: String,
    /// As in `--user`; empty for root.
    #[serde(deserialize_with = "nullable")]
    pub user: String,
    /// `80/tcp`
    #[serde(deserialize_with = "keys")]
    pub exposed_ports: Vec<String>,
    /// Paths inside the container.
    #[serde(deserialize_with = "keys")]
    pub volumes: Vec<String>,
    #[serde(deserialize_with = "nullable")]
    pub labels: BTreeMap<String, String>,
    #[serde(deserialize_with = "nullable")]
    pub stop_signal: String,
    #[serde(deserialize_with = "words")]
    pub shell: Vec<String>,
    /// As it stands in the config: `{"Test": ["CMD", …], "Interval": …}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<serde_json::Value>,
}

/// An image config: the parts that rbox acts upon.
#[derive(Clone, Debug)]
pub struct Parsed {
    pub config: ImageConfig,
    pub diff_ids: Vec<Digest>,
    pub platform: Platform,
    /// RFC 3339, as the image says.
    pub created: Option<String>,
}

/// More values than this are no config that anybody made: each takes many times its own size in memory.
const VALUES_MAX: usize = 50_000;

impl Parsed {
    /// There is a diff-id for each layer of the manifest.
    pub fn check_layers(&self, manifest: &Manifest) -> Result<()> {
        let (layers, diff_ids) = (manifest.layers.len(), self.diff_ids.len());
        if layers != diff_ids {
            bail!("the manifest has {layers} layers, and the image config {diff_ids}");
        }
        // Its one partial blob would be waited for by who unpacks the other.
        let mut known: HashMap<&Digest, &Digest> = HashMap::new();
        for (layer, diff_id) in manifest.layers.iter().zip(&self.diff_ids) {
            if known
                .insert(&layer.digest, diff_id)
                .is_some_and(|other| other != diff_id)
            {
                bail!("blob {} cannot be two different layers", layer.digest);
            }
        }
        Ok(())
    }
}

/// Reads an image config.
pub fn parse(bytes: &[u8]) -> Result<Parsed> {
    #[derive(Deserialize)]
    struct Raw {
        #[serde(default, deserialize_with = "nullable")]
        config: ImageConfig,
        rootfs: Option<RootFs>,
        #[serde(default, deserialize_with = "nullable")]
        architecture: String,
        #[serde(default, deserialize_with = "nullable")]
        os: String,
        variant: Option<String>,
        created: Option<String>,
    }
    #[derive(Deserialize)]
    struct RootFs {
        #[serde(default, deserialize_with = "nullable")]
        diff_ids: Vec<Digest>,
    }
    if values(bytes) > VALUES_MAX {
        bail!("cannot read the image config: it has more than {VALUES_MAX} values");
    }
    let raw: Raw = serde_json::from_slice(bytes).context("cannot read the image config")?;
    let Some(rootfs) = raw.rootfs else {
        bail!("cannot read the image config: it names no layers (rootfs.diff_ids)");
    };
    Ok(Parsed {
        config: raw.config,
        diff_ids: rootfs.diff_ids,
        platform: Platform {
            os: raw.os,
            architecture: raw.architecture,
            variant: raw.variant,
        },
        created: raw.created,
    })
}

/// About as many as a JSON document has: what follows a comma or begins an array or object, outside of texts.
fn values(json: &[u8]) -> usize {
    let (mut count, mut in_text, mut escaped) = (0, false, false);
    for byte in json {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_text => escaped = true,
            b'"' => in_text = !in_text,
            b',' | b'[' | b'{' if !in_text => count += 1,
            _ => {}
        }
    }
    count
}

fn nullable<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: DeserializeOwned + Default,
{
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}

/// A list of words, or one word, as Docker reads them. None may hold a NUL byte.
fn words<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Words {
        Many(Vec<String>),
        One(String),
    }
    let words = match Option::<Words>::deserialize(deserializer)? {
        Some(Words::Many(words)) => words,
        Some(Words::One(word)) => vec![word],
        None => Vec::new(),
    };
    match words.iter().find(|word| word.contains('\0')) {
        Some(word) => Err(serde::de::Error::custom(format!(
            "{word:?} holds a NUL byte"
        ))),
        None => Ok(words),
    }
}

/// An entry without `=` would mean "the caller's value" elsewhere (CVE-2026-57231): it is dropped,
/// as is one without a name.
fn environment<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    let mut entries: Vec<String> = nullable(deserializer)?;
    entries.retain(|entry| {
        let has_name = entry
            .split_once('=')
            .is_some_and(|(name, _)| !name.is_empty());
        has_name && !entry.contains('\0')
    });
    Ok(entries)
}

/// The keys of Docker's sets: `{"80/tcp": {}}`. Our own records keep them as a list.
fn keys<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Set {
        Map(BTreeMap<String, serde_json::Value>),
        List(Vec<String>),
    }
    Ok(match Option::<Set>::deserialize(deserializer)? {
        Some(Set::Map(map)) => map.into_keys().collect(),
        Some(Set::List(list)) => list,
        None => Vec::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::manifest;
    use crate::image::manifest::Document;

    #[test]
    fn one_blob_is_one_layer() {
        let [a, b] = ["a", "b"].map(|digit| format!("sha256:{}", digit.repeat(64)));
        let layer = format!(
            r#"{{"mediaType":"{}","digest":"{a}","size":1}}"#,
            manifest::OCI_LAYER
        );
        let text = format!(r#"{{"schemaVersion":2,"config":{layer},"layers":[{layer},{layer}]}}"#);
        let Document::Manifest(manifest) =
            manifest::parse(text.as_bytes(), Some(manifest::OCI_MANIFEST)).unwrap()
        else {
            panic!("it is a manifest");
        };
        let check = |second: &str| {
            let text = format!(r#"{{"rootfs":{{"diff_ids":["{b}","{second}"]}}}}"#);
            parse(text.as_bytes()).unwrap().check_layers(&manifest)
        };
        check(&b).unwrap();
        let err = check(&a).unwrap_err().to_string();
        assert_eq!(err, format!("blob {a} cannot be two different layers"));
    }

    #[test]
    fn docker_nulls_and_odd_values_are_read() {
        let hex = "a".repeat(64);
        let text = format!(
            r#"{{"architecture":"amd64","os":"linux","created":null,"variant":null,
            "config":{{"Hostname":"","Env":["PATH=/bin","SECRET","S*","=x","A=b=c"],"Cmd":null,
            "Entrypoint":"/init","ExposedPorts":{{"80/tcp":{{}}}},"Volumes":null,"Labels":null,
            "OnBuild":null,"WorkingDir":null,"User":"www","StopSignal":"SIGQUIT","Healthcheck":{{"Test":["NONE"]}}}},
            "rootfs":{{"type":"layers","diff_ids":["sha256:{hex}"]}},"history":[{{"x":1}}]}}"#
        );
        let parsed = parse(text.as_bytes()).unwrap();
        assert_eq!(parsed.config.env, ["PATH=/bin", "A=b=c"]);
        assert_eq!(parsed.config.entrypoint, ["/init"]);
        assert!(parsed.config.cmd.is_empty() && parsed.config.working_dir.is_empty());
        assert_eq!(parsed.config.exposed_ports, ["80/tcp"]);
        assert_eq!(parsed.config.user, "www");
        assert_eq!(parsed.diff_ids.len(), 1);
        let json = serde_json::to_string(&parsed.config).unwrap();
        assert_eq!(
            serde_json::from_str::<ImageConfig>(&json).unwrap(),
            parsed.config
        );
        let none = parse(br#"{"config":null,"rootfs":{"diff_ids":null}}"#).unwrap();
        assert_eq!(none.config, ImageConfig::default());
    }

    #[test]
    fn a_config_of_endless_values_is_refused() {
        let with = |config: &str| {
            let text = format!(r#"{{"rootfs":{{"diff_ids":[]}},"config":{config}}}"#);
            parse(text.as_bytes()).map(drop)
        };
        let many = format!(r#"{{"Healthcheck":[{}0]}}"#, "0,".repeat(VALUES_MAX));
        let deep = format!(
            r#"{{"Healthcheck":[{}[]]}}"#,
            "[[[]]],".repeat(VALUES_MAX / 3)
        );
        for config in [many, deep] {
            let said = with(&config).unwrap_err().to_string();
            assert!(said.ends_with("it has more than 50000 values"), "{said}");
        }
        // Labels that hold documents of their own.
        let text = r#"{\"a\":[1,2]},"#.repeat(VALUES_MAX);
        with(&format!(r#"{{"Labels":{{"a":"{text}\\"}}}}"#)).unwrap();
    }

    #[test]
    fn what_is_no_image_config_is_refused() {
        for text in [
            "",
            "{}",
            "[]",
            r#"{"rootfs":{"diff_ids":["sha256:../../x"]}}"#,
            r#"{"rootfs":{"diff_ids":[]},"config":{"Cmd":["a\u0000b"]}}"#,
        ] {
            assert!(parse(text.as_bytes()).is_err(), "{text}");
        }
    }
}
