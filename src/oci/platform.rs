//! Platforms as images name them, and which of several a machine should run.

use std::fmt;
use std::str::FromStr;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use crate::error::Kind;
use crate::error::fail;

/// `os/architecture[/variant]` in Go's words: `linux/amd64`, `linux/arm64/v8`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Platform {
    pub os: String,
    pub architecture: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

impl Platform {
    pub fn host() -> Self {
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "x86" => "386",
            "aarch64" => "arm64",
            "powerpc64" => "ppc64le",
            "loongarch64" => "loong64",
            other => other,
        };
        Self {
            os: "linux".to_owned(),
            architecture: architecture.to_owned(),
            variant: None,
        }
    }

    /// How well an offered platform fits this one: `None` not at all, else the lower the better.
    pub fn rank(&self, offered: &Self) -> Option<u8> {
        if self.os != offered.os || self.architecture != offered.architecture {
            return None;
        }
        let offered = variant(&self.architecture, offered.variant.as_deref());
        let wanted = variant(&self.architecture, self.variant.as_deref());
        if offered == wanted {
            return Some(0);
        }
        match (number(offered), number(wanted)) {
            // A variant is a superset of those below it; the nearest below is the best.
            (Some(offered), Some(wanted)) if offered < wanted => Some(wanted - offered),
            _ => None,
        }
    }
}

/// The variant that an absent one stands for.
fn variant<'a>(architecture: &str, variant: Option<&'a str>) -> &'a str {
    match (architecture, variant.filter(|text| !text.is_empty())) {
        (_, Some(variant)) => variant,
        ("amd64", None) => "v1",
        ("arm64", None) => "v8",
        ("arm", None) => "v7",
        (_, None) => "",
    }
}

fn number(variant: &str) -> Option<u8> {
    variant.strip_prefix('v')?.parse().ok()
}

impl FromStr for Platform {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let parts: Vec<&str> = text.split('/').collect();
        let word = |part: &&str| {
            !part.is_empty()
                && part
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        };
        match parts.as_slice() {
            [os, architecture, rest @ ..] if rest.len() <= 1 && parts.iter().all(word) => {
                Ok(Self {
                    os: (*os).to_owned(),
                    architecture: (*architecture).to_owned(),
                    variant: rest.first().map(|text| (*text).to_owned()),
                })
            }
            _ => Err(fail(
                Kind::Usage,
                format!(
                    "{text:?} is no platform: expected os/architecture or os/architecture/variant"
                ),
            )),
        }
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        match &self.variant {
            Some(variant) if !variant.is_empty() => write!(f, "/{variant}"),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn picks_the_nearest_variant_below() {
        let rank = |wanted: &str, offered: &str| {
            let wanted: Platform = wanted.parse().unwrap();
            wanted.rank(&offered.parse().unwrap())
        };
        assert_eq!(rank("linux/amd64", "linux/amd64"), Some(0));
        assert_eq!(rank("linux/amd64", "linux/amd64/v1"), Some(0));
        assert_eq!(rank("linux/amd64", "linux/amd64/v3"), None);
        assert_eq!(rank("linux/arm64", "linux/arm64/v8"), Some(0));
        assert_eq!(rank("linux/arm/v7", "linux/arm/v6"), Some(1));
        assert_eq!(rank("linux/arm/v7", "linux/arm/v5"), Some(2));
        assert_eq!(rank("linux/arm/v6", "linux/arm/v7"), None);
        assert_eq!(rank("linux/amd64", "windows/amd64"), None);
        assert_eq!(rank("linux/amd64", "linux/arm64"), None);
    }

    #[test]
    fn refuses_odd_texts() {
        for text in [
            "",
            "linux",
            "linux/",
            "linux/amd64/",
            "a/b/c/d",
            "linux/../x",
        ] {
            assert!(text.parse::<Platform>().is_err(), "{text}");
        }
    }
}
