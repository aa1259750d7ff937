//! Image references: `registry/repository:tag@digest`, with Docker's grammar and normalisation:
//! `busybox` means `docker.io/library/busybox:latest`.

use std::fmt;
use std::str::FromStr;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use crate::error::Kind;
use crate::error::fail;
use crate::oci::digest::Digest;

pub const DOCKER_HUB: &str = "docker.io";
const DEFAULT_TAG: &str = "latest";
/// Longest name (registry and repository) that registries take.
const NAME_MAX: usize = 255;
const TAG_MAX: usize = 128;

/// A complete reference. It has a tag, a digest, or both.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Reference {
    registry: String,
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

impl Reference {
    pub fn registry(&self) -> &str {
        &self.registry
    }

    pub fn repository(&self) -> &str {
        &self.repository
    }

    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// What a registry calls this manifest: the digest where there is one, else the tag.
    pub fn manifest_name(&self) -> String {
        match (&self.digest, &self.tag) {
            (Some(digest), _) => digest.to_string(),
            (None, Some(tag)) => tag.clone(),
            (None, None) => DEFAULT_TAG.to_owned(),
        }
    }

    /// `registry/repository`, without tag and digest.
    pub fn name(&self) -> String {
        format!("{}/{}", self.registry, self.repository)
    }

    /// The same repository and tag in another registry.
    #[must_use]
    pub fn in_registry(&self, registry: &str) -> Self {
        Self {
            registry: registry.to_owned(),
            ..self.clone()
        }
    }

    /// The same repository, by digest alone.
    #[must_use]
    pub fn by_digest(&self, digest: Digest) -> Self {
        Self {
            tag: None,
            digest: Some(digest),
            ..self.clone()
        }
    }

    /// As people write it: without `docker.io/` and `library/`.
    pub fn familiar(&self) -> String {
        let full = self.to_string();
        match full.strip_prefix("docker.io/") {
            Some(rest) => rest.strip_prefix("library/").unwrap_or(rest).to_owned(),
            None => full,
        }
    }

    /// Reads a reference that may leave out its registry; such a one is put into `registry`
    /// as it stands, without Docker's `library/`.
    pub fn parse_in(text: &str, registry: &str) -> Result<Self> {
        if is_qualified(text) {
            text.parse()
        } else {
            parse(text, &format!("{registry}/{text}"))
        }
    }
}

/// Whether the text names its registry, as Docker decides: the part before the first slash
/// holds a dot, a colon or a capital letter, or is `localhost`.
pub fn is_qualified(text: &str) -> bool {
    text.split_once('/').is_some_and(|(first, _)| {
        first == "localhost"
            || first.contains(['.', ':'])
            || first.bytes().any(|byte| byte.is_ascii_uppercase())
    })
}

impl FromStr for Reference {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        if is_qualified(text) {
            return parse(text, text);
        }
        parse(text, &format!("{DOCKER_HUB}/{text}"))
    }
}

/// `typed` is quoted in errors; `full` has a registry before its first slash.
fn parse(typed: &str, full: &str) -> Result<Reference> {
    let bad = |why: String| {
        fail(
            Kind::Usage,
            format!("{typed:?} is no image reference: {why}"),
        )
    };
    if typed.is_empty() {
        return Err(bad("it is empty".into()));
    }
    let (rest, digest) = match full.split_once('@') {
        Some((rest, digest)) => {
            let digest = digest
                .parse::<Digest>()
                .map_err(|err| bad(err.to_string()))?;
            (rest, Some(digest))
        }
        None => (full, None),
    };
    let (registry, path) = rest
        .split_once('/')
        .ok_or_else(|| bad("there is no repository".into()))?;
    let (path, tag) = match path.rsplit_once(':') {
        Some((path, tag)) => (path, Some(tag)),
        None => (path, None),
    };
    let registry = match registry {
        "index.docker.io" => DOCKER_HUB,
        other => other,
    };
    check_registry(registry).map_err(&bad)?;
    check_repository(path).map_err(&bad)?;
    if let Some(tag) = tag {
        check_tag(tag).map_err(&bad)?;
    }
    let repository = if registry == DOCKER_HUB && !path.contains('/') {
        format!("library/{path}")
    } else {
        path.to_owned()
    };
    if registry.len() + 1 + repository.len() > NAME_MAX {
        return Err(bad(format!("the name has more than {NAME_MAX} bytes")));
    }
    let tag = match (tag, &digest) {
        (Some(tag), _) => Some(tag.to_owned()),
        (None, Some(_)) => None,
        (None, None) => Some(DEFAULT_TAG.to_owned()),
    };
    Ok(Reference {
        registry: registry.to_owned(),
        repository,
        tag,
        digest,
    })
}

fn check_registry(registry: &str) -> Result<(), String> {
    let (host, port) = match registry.strip_prefix('[') {
        Some(rest) => {
            let (address, port) = rest
                .split_once(']')
                .ok_or_else(|| format!("registry {registry:?} has an unclosed bracket"))?;
            if address.is_empty()
                || !address
                    .bytes()
                    .all(|byte| byte.is_ascii_hexdigit() || byte == b':')
            {
                return Err(format!("registry {registry:?} holds no IPv6 address"));
            }
            (
                "",
                port.strip_prefix(':')
                    .or(Some(port).filter(|p| !p.is_empty())),
            )
        }
        None => match registry.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (registry, None),
        },
    };
    if let Some(port) = port
        && port.parse::<u16>().map_or(true, |number| number == 0)
    {
        return Err(format!(
            "registry {registry:?} has a port that is no number from 1 to 65535"
        ));
    }
    let label_ok = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    if !registry.starts_with('[') && !host.split('.').all(label_ok) {
        return Err(format!("registry {registry:?} is no host name"));
    }
    Ok(())
}

fn check_repository(path: &str) -> Result<(), String> {
    if path.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return Err("a repository must be in lower case".into());
    }
    if path.len() == 64 && path.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err("64 hexadecimal digits are an image ID".into());
    }
    match path.split('/').find(|part| !component_ok(part)) {
        None => Ok(()),
        Some("") => Err("a part of the repository is empty".into()),
        Some(part) => Err(format!(
            "{part:?} is no part of a repository (letters, digits, and between them one of . _ __ or dashes)"
        )),
    }
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`
fn component_ok(part: &str) -> bool {
    let is_word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = part.as_bytes();
    let ends_ok = |byte: Option<&u8>| byte.copied().is_some_and(is_word);
    if !ends_ok(bytes.first()) || !ends_ok(bytes.last()) {
        return false;
    }
    bytes
        .split(|byte| is_word(*byte))
        .filter(|separator| !separator.is_empty())
        .all(|separator| {
            matches!(separator, b"." | b"_" | b"__") || separator.iter().all(|byte| *byte == b'-')
        })
}

fn check_tag(tag: &str) -> Result<(), String> {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let ok = tag.len() <= TAG_MAX
        && tag.bytes().next().is_some_and(word)
        && tag
            .bytes()
            .all(|byte| word(byte) || matches!(byte, b'.' | b'-'));
    if ok {
        Ok(())
    } else {
        Err(format!(
            "tag {tag:?} is not 1 to {TAG_MAX} letters, digits, and _ . - (not first)"
        ))
    }
}

impl TryFrom<String> for Reference {
    type Error = anyhow::Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<Reference> for String {
    fn from(reference: Reference) -> Self {
        reference.to_string()
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn normalises_as_docker_does() {
        let hex = "a".repeat(64);
        let digest = format!("sha256:{hex}");
        for (typed, full, familiar) in [
            (
                "busybox",
                "docker.io/library/busybox:latest",
                "busybox:latest",
            ),
            (
                "busybox:1.36",
                "docker.io/library/busybox:1.36",
                "busybox:1.36",
            ),
            ("ann/app", "docker.io/ann/app:latest", "ann/app:latest"),
            (
                "docker.io/busybox",
                "docker.io/library/busybox:latest",
                "busybox:latest",
            ),
            (
                "index.docker.io/ann/app",
                "docker.io/ann/app:latest",
                "ann/app:latest",
            ),
            (
                "localhost:5000/x",
                "localhost:5000/x:latest",
                "localhost:5000/x:latest",
            ),
            ("localhost/x", "localhost/x:latest", "localhost/x:latest"),
            ("[::1]:5000/x:y", "[::1]:5000/x:y", "[::1]:5000/x:y"),
            ("quay.io/a/b/c:v1", "quay.io/a/b/c:v1", "quay.io/a/b/c:v1"),
            ("Ann/app", "Ann/app:latest", "Ann/app:latest"),
            (
                "a__b--c.d",
                "docker.io/library/a__b--c.d:latest",
                "a__b--c.d:latest",
            ),
        ] {
            let reference: Reference = typed.parse().unwrap();
            assert_eq!(reference.to_string(), full);
            assert_eq!(reference.familiar(), familiar);
            assert_eq!(full.parse::<Reference>().unwrap(), reference);
        }
        let both: Reference = format!("x:t@{digest}").parse().unwrap();
        assert_eq!(both.manifest_name(), digest);
        assert_eq!(both.tag(), Some("t"));
        let pinned: Reference = format!("x@{digest}").parse().unwrap();
        assert_eq!(pinned.to_string(), format!("docker.io/library/x@{digest}"));
    }

    #[test]
    fn refuses_and_quotes_the_input() {
        let hex = "a".repeat(64);
        for typed in [
            "",
            ":",
            "x:",
            "x@",
            "x@sha256:12",
            "Busybox",
            "a//b",
            "/a",
            "a/",
            "a b",
            "a..b",
            "a___b",
            "-a",
            "a-",
            "x:-t",
            "x:t/",
            "localhost:5000/",
            "localhost:0/x",
            "localhost:99999/x",
            "ex_ample.com/x",
            "[::1/x",
            "[::1]y/x",
            "../x",
            "a/../b",
            "x:\u{1b}[31m",
            &hex,
        ] {
            let text = typed.parse::<Reference>().unwrap_err().to_string();
            assert!(
                text.starts_with(&format!("{typed:?} is no image reference: ")),
                "{text}"
            );
        }
        assert!(
            format!("x:{}", "t".repeat(129))
                .parse::<Reference>()
                .is_err()
        );
        assert!("y".repeat(300).parse::<Reference>().is_err());
    }

    #[test]
    fn unqualified_names_can_be_put_elsewhere() {
        let put = |text: &str| Reference::parse_in(text, "localhost").unwrap().to_string();
        assert_eq!(put("app"), "localhost/app:latest");
        assert_eq!(put("ann/app:1"), "localhost/ann/app:1");
        assert_eq!(put("quay.io/app:1"), "quay.io/app:1");
    }
}
