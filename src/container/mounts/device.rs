//! The value of `--device`: `HOST-PATH[:CONTAINER-PATH[:rwm]]`, or the name of a device that a CDI file
//! describes, `VENDOR/CLASS=NAME`.

use std::path::PathBuf;

use serde::Deserialize;
use serde::Serialize;

use crate::container::mounts::destination;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked {
    Node(Device),
    Cdi(String),
}

/// A device node of the host, or a directory of such.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    pub host: PathBuf,
    pub container: PathBuf,
}

pub fn parse(text: &str) -> Result<Asked, String> {
    if is_cdi_name(text) {
        return Ok(Asked::Cdi(text.to_owned()));
    }
    let parts: Vec<&str> = text.split(':').collect();
    let (host, container, letters) = match parts.as_slice() {
        [host] => (*host, *host, "rwm"),
        [host, letters] if is_letters(letters) => (*host, *host, *letters),
        [host, container] => (*host, *container, "rwm"),
        [host, container, letters] => (*host, *container, *letters),
        _ => return Err(FORM.into()),
    };
    if !host.starts_with('/') {
        return Err(FORM.into());
    }
    if !is_letters(letters) {
        return Err(format!(
            "permissions \"{letters}\": expected letters of r, w and m"
        ));
    }
    if !(letters.contains('r') && letters.contains('w')) {
        return Err(format!(
            "permissions \"{letters}\" cannot be enforced: without root there is no device cgroup, and a device that is shown can be read and written as its mode allows; use rw"
        ));
    }
    Ok(Asked::Node(Device {
        host: host.into(),
        container: destination(container)?,
    }))
}

const FORM: &str =
    "expected HOST-PATH[:CONTAINER-PATH[:rwm]], or VENDOR/CLASS=NAME of a device in a CDI file";

fn is_letters(text: &str) -> bool {
    let letters = text.chars().all(|letter| "rwm".contains(letter));
    let once = |letter| text.matches(letter).count() <= 1;
    !text.is_empty() && letters && ['r', 'w', 'm'].into_iter().all(once)
}

/// Names as the CDI specification has them.
pub fn is_cdi_name(text: &str) -> bool {
    let word = |text: &str, marks: &str, first: fn(&char) -> bool| {
        text.chars().next().as_ref().is_some_and(first)
            && text.ends_with(|c: char| c.is_ascii_alphanumeric())
            && text
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || marks.contains(c))
    };
    let letter = |c: &char| c.is_ascii_alphabetic();
    let Some((kind, name)) = text.split_once('=') else {
        return false;
    };
    let Some((vendor, class)) = kind.split_once('/') else {
        return false;
    };
    word(vendor, "_-.", letter)
        && word(class, "_-.", letter)
        && word(name, "_-.:", char::is_ascii_alphanumeric)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_paths_or_names() {
        let node = |host: &str, container: &str| {
            Ok(Asked::Node(Device {
                host: host.into(),
                container: container.into(),
            }))
        };
        assert_eq!(parse("/dev/fuse"), node("/dev/fuse", "/dev/fuse"));
        assert_eq!(parse("/dev/fuse:/dev/x"), node("/dev/fuse", "/dev/x"));
        assert_eq!(parse("/dev/fuse:rw"), node("/dev/fuse", "/dev/fuse"));
        assert_eq!(parse("/dev/fuse:/dev/x:rwm"), node("/dev/fuse", "/dev/x"));
        assert_eq!(
            parse("nvidia.com/gpu=all"),
            Ok(Asked::Cdi("nvidia.com/gpu=all".into()))
        );
        for wrong in [
            "",
            "fuse",
            "/dev/fuse:x",
            "/dev/fuse:/dev/x:r",
            "/dev/fuse:/dev/x:z",
            "/dev/fuse:/dev/x:rr",
            "/dev/fuse:/dev/x:",
            "/a:/b:rw:x",
            "a/b=",
            "a/=c",
            "1/b=c",
        ] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
