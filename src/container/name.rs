//! Names and ids of containers: the rule for names, random ones, and prefixes of ids.

use anyhow::Result;

use crate::container::words::ADJECTIVES;
use crate::container::words::SURNAMES;
use crate::error::Kind;
use crate::error::fail;

/// Hex digits of an id as printed.
pub const SHORT_ID: usize = 12;

/// Hex digits of an id as stored.
const ID: usize = 64;

const HEX: &[u8; 16] = b"0123456789abcdef";

/// A name is a file name in the store; Linux allows 255 bytes (NAME_MAX).
const LONGEST: usize = 255;

/// Refuses what is no name. Names are the same as in docker and podman.
pub fn check(name: &str) -> Result<()> {
    let mut bytes = name.bytes();
    let first = bytes
        .next()
        .is_some_and(|byte| byte.is_ascii_alphanumeric());
    let rest = bytes.all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte));
    if !first || !rest {
        return Err(fail(
            Kind::Usage,
            format!("container name {name:?}: names must match [a-zA-Z0-9][a-zA-Z0-9_.-]*"),
        ));
    }
    if name.len() > LONGEST {
        return Err(fail(
            Kind::Usage,
            format!(
                "container name of {} characters: at most {LONGEST} are allowed",
                name.len()
            ),
        ));
    }
    Ok(())
}

/// A name for a container that was given none, as `keen_noether`. It may be taken.
pub fn random() -> Result<String> {
    let [a, b, c, d] = random_bytes()?;
    // 2^16 is much more than either list has words, so the first are hardly favoured.
    let adjective = ADJECTIVES[usize::from(u16::from_ne_bytes([a, b])) % ADJECTIVES.len()];
    let surname = SURNAMES[usize::from(u16::from_ne_bytes([c, d])) % SURNAMES.len()];
    Ok(format!("{adjective}_{surname}"))
}

/// A new id: 64 hex digits, not all of the first twelve of them decimal, since such a
/// short id would be read as a number by shells and YAML.
pub fn random_id() -> Result<String> {
    loop {
        let mut id = String::with_capacity(ID);
        for byte in random_bytes::<{ ID / 2 }>()? {
            id.extend([byte >> 4, byte & 15].map(|half| char::from(HEX[usize::from(half)])));
        }
        if !short(&id).bytes().all(|byte| byte.is_ascii_digit()) {
            return Ok(id);
        }
    }
}

/// The part of an id that is printed.
pub fn short(id: &str) -> &str {
    id.get(..SHORT_ID).unwrap_or(id)
}

/// Whether this can be the beginning of an id, or a whole one.
pub fn is_id_prefix(text: &str) -> bool {
    (1..=ID).contains(&text.len())
        && text
            .bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// Whether this is a whole id.
pub fn is_id(text: &str) -> bool {
    text.len() == ID && is_id_prefix(text)
}

fn random_bytes<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    // Linux: up to 256 bytes come whole once the pool is initialised (getrandom(2)).
    let length = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())
        .map_err(|errno| anyhow::anyhow!("cannot get random bytes: {errno}"))?;
    anyhow::ensure!(length == N, "cannot get random bytes: got {length} of {N}");
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn names_are_those_of_docker_and_podman() {
        for name in [
            "a",
            "web",
            "Web-1",
            "0",
            "a.b_c-d",
            "3f2a91c0d7be",
            &"a".repeat(255),
        ] {
            check(name).unwrap();
        }
        for name in [
            "",
            "-a",
            ".a",
            "_a",
            "a/b",
            "..",
            "a b",
            "a\n",
            "ä",
            "a:b",
            "a\0",
            "/a",
            &"a".repeat(256),
        ] {
            assert!(check(name).is_err(), "{name:?}");
        }
        assert_eq!(
            check("a b").unwrap_err().to_string(),
            "container name \"a b\": names must match [a-zA-Z0-9][a-zA-Z0-9_.-]*"
        );
    }

    #[test]
    fn random_names_are_names_and_differ() {
        let names: HashSet<String> = (0..200).map(|_| random().unwrap()).collect();
        assert!(names.len() > 180, "{names:?}");
        for name in &names {
            check(name).unwrap();
            let (adjective, surname) = name.split_once('_').unwrap();
            assert!(ADJECTIVES.contains(&adjective) && SURNAMES.contains(&surname));
        }
    }

    #[test]
    fn no_word_is_listed_twice() {
        for words in [ADJECTIVES.as_slice(), SURNAMES.as_slice()] {
            assert!(words.is_sorted_by(|a, b| a < b));
        }
    }

    #[test]
    fn ids_and_their_prefixes_are_hex() {
        let id = random_id().unwrap();
        assert!(is_id(&id));
        assert_ne!(id, random_id().unwrap());
        assert_eq!(short(&id), &id[..12]);
        assert_eq!(short("abc"), "abc");
        for text in ["a", "3f2a91c0d7be", &id] {
            assert!(is_id_prefix(text), "{text}");
        }
        for text in ["", "A", "xyz", "3f2a-", &format!("{id}0")] {
            assert!(!is_id_prefix(text), "{text}");
        }
    }
}
