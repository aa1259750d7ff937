//! Digests: `sha256:<64 hex>` or `sha512:<128 hex>`, made only by parsing strictly or by hashing.
//! A value of this type is therefore safe as a file name.

use std::fmt;
use std::str::FromStr;

use anyhow::Result;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256, Sha512};

use crate::error::Kind;
use crate::error::fail;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Algorithm {
    Sha256,
    Sha512,
}

impl Algorithm {
    pub fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
        }
    }

    fn hex_len(self) -> usize {
        match self {
            Self::Sha256 => 64,
            Self::Sha512 => 128,
        }
    }
}

/// The digest of bytes: of a blob as it is stored, or of an uncompressed layer (diff-id).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest {
    algorithm: Algorithm,
    hex: String,
}

impl Digest {
    pub fn sha256_of(bytes: &[u8]) -> Self {
        let mut hasher = Hasher::new(Algorithm::Sha256);
        hasher.update(bytes);
        hasher.finish()
    }

    /// Hashes with this digest's own algorithm, to compare.
    pub fn matches(&self, bytes: &[u8]) -> bool {
        let mut hasher = Hasher::new(self.algorithm);
        hasher.update(bytes);
        hasher.finish() == *self
    }

    /// Of the hexadecimal digits alone, as names of files have them: their number tells the algorithm.
    pub fn of_hex(hex: &str) -> Option<Self> {
        let algorithms = ["sha256", "sha512"].into_iter();
        let mut digests = algorithms.filter_map(|name| format!("{name}:{hex}").parse().ok());
        digests.next()
    }

    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The part after the colon: lower-case hexadecimal digits, safe as a file name.
    pub fn hex(&self) -> &str {
        &self.hex
    }

    /// The first 12 digits, as shown to people.
    pub fn short(&self) -> &str {
        &self.hex[..12]
    }
}

impl FromStr for Digest {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let wanted = || {
            fail(
                Kind::Usage,
                format!(
                    "{text:?} is no digest: expected sha256: and 64, or sha512: and 128, lower-case hexadecimal digits"
                ),
            )
        };
        let (name, hex) = text.split_once(':').ok_or_else(wanted)?;
        let algorithm = match name {
            "sha256" => Algorithm::Sha256,
            "sha512" => Algorithm::Sha512,
            _ => return Err(wanted()),
        };
        let is_hex = hex
            .bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        if hex.len() != algorithm.hex_len() || !is_hex {
            return Err(wanted());
        }
        Ok(Self {
            algorithm,
            hex: hex.to_owned(),
        })
    }
}

impl TryFrom<String> for Digest {
    type Error = anyhow::Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.to_string()
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.algorithm.name(), self.hex)
    }
}

/// Hashes a stream piece by piece.
pub enum Hasher {
    Sha256(Sha256),
    Sha512(Sha512),
}

impl Hasher {
    pub fn new(algorithm: Algorithm) -> Self {
        match algorithm {
            Algorithm::Sha256 => Self::Sha256(Sha256::new()),
            Algorithm::Sha512 => Self::Sha512(Sha512::new()),
        }
    }

    pub fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha256(hasher) => hasher.update(bytes),
            Self::Sha512(hasher) => hasher.update(bytes),
        }
    }

    pub fn finish(self) -> Digest {
        match self {
            Self::Sha256(hasher) => Digest {
                algorithm: Algorithm::Sha256,
                hex: hex(&hasher.finalize()),
            },
            Self::Sha512(hasher) => Digest {
                algorithm: Algorithm::Sha512,
                hex: hex(&hasher.finalize()),
            },
        }
    }
}

/// Lower-case hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn hashes_and_parses() {
        let digest = Digest::sha256_of(b"");
        assert_eq!(digest.to_string(), EMPTY);
        assert_eq!(digest, EMPTY.parse().unwrap());
        assert_eq!(digest.short(), "e3b0c44298fc");
        assert!(digest.matches(b"") && !digest.matches(b"x"));
        let json = serde_json::to_string(&digest).unwrap();
        assert_eq!(serde_json::from_str::<Digest>(&json).unwrap(), digest);
    }

    #[test]
    fn refuses_what_could_be_a_path_or_another_spelling() {
        let long = "a".repeat(64);
        for text in [
            String::new(),
            "sha256:".to_owned(),
            "sha256:../../../etc/passwd".to_owned(),
            format!("sha256:{}", &long[1..]),
            format!("sha256:{long}a"),
            format!("sha256:{}", long.to_uppercase()),
            format!("SHA256:{long}"),
            format!("md5:{long}"),
            format!("sha512:{long}"),
            format!(" sha256:{long}"),
            format!("sha256:{}/.", &long[2..]),
        ] {
            assert!(text.parse::<Digest>().is_err(), "{text}");
            let json = serde_json::to_string(&text).unwrap();
            assert!(serde_json::from_str::<Digest>(&json).is_err(), "{text}");
        }
    }
}
