//! Names of tar entries, made safe: pure functions over bytes.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use anyhow::Result;
use anyhow::bail;

/// A name below the root: no empty part, no `.`, no `..`, no NUL; empty for the root itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Name(Vec<u8>);

impl Name {
    /// Makes a tar name relative to the root, as `path.Clean("/" + name)` does in other engines,
    /// except that one that climbs above the root is refused.
    pub fn parse(raw: &[u8]) -> Result<Self> {
        if raw.contains(&0) {
            bail!("the name {} holds a NUL byte", quoted(raw));
        }
        let mut parts: Vec<&[u8]> = Vec::new();
        for part in raw.split(|byte| *byte == b'/') {
            match part {
                b"" | b"." => {}
                b".." => {
                    if parts.pop().is_none() {
                        bail!("the name {} leads out of the layer", quoted(raw));
                    }
                }
                part => parts.push(part),
            }
        }
        Ok(Self(parts.join(&b'/')))
    }

    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The names on the way to it and itself, each with its last part.
    pub fn steps(&self) -> impl Iterator<Item = (&Path, &[u8])> {
        let ends = self.0.iter().enumerate().filter(|(_, byte)| **byte == b'/');
        let ends = ends.map(|(place, _)| place).chain([self.0.len()]);
        let mut start = 0;
        ends.filter(|end| *end > 0).map(move |end| {
            let last = &self.0[start..end];
            start = end + 1;
            (Path::new(OsStr::from_bytes(&self.0[..end])), last)
        })
    }

    /// As a path to be resolved below the root.
    pub fn path(&self) -> &Path {
        Path::new(OsStr::from_bytes(if self.0.is_empty() {
            b"."
        } else {
            &self.0
        }))
    }

    /// The directory and the last part; the root has neither.
    pub fn split(&self) -> Option<(Self, &[u8])> {
        if self.0.is_empty() {
            return None;
        }
        match self.0.iter().rposition(|byte| *byte == b'/') {
            Some(slash) => Some((Self(self.0[..slash].to_vec()), &self.0[slash + 1..])),
            None => Some((Self::default(), &self.0)),
        }
    }

    pub fn display(&self) -> String {
        quoted(&self.0)
    }
}

/// For messages: in quotes, control characters escaped, not endless.
pub fn quoted(bytes: &[u8]) -> String {
    const LONGEST: usize = 200;
    let text = String::from_utf8_lossy(bytes);
    if text.chars().count() <= LONGEST {
        return format!("{text:?}");
    }
    let start: String = text.chars().take(LONGEST).collect();
    format!("{start:?}…")
}

/// What the last part of a name means in a layer.
#[derive(Debug, PartialEq, Eq)]
pub enum Marker<'a> {
    /// An ordinary file.
    None,
    /// `.wh.NAME`: NAME of the layers below is hidden.
    Whiteout(&'a [u8]),
    /// `.wh..wh..opq`: everything of the layers below is hidden in this directory.
    Opaque,
    /// `.wh..wh.…`: aufs's own records.
    Ignored,
}

/// OCI image specification, "Layer": whiteouts.
pub fn marker(last: &[u8]) -> Result<Marker<'_>> {
    let Some(hidden) = last.strip_prefix(b".wh.") else {
        return Ok(Marker::None);
    };
    match hidden {
        b".wh..opq" => Ok(Marker::Opaque),
        hidden if hidden.starts_with(b".wh.") => Ok(Marker::Ignored),
        b"" | b"." | b".." => bail!("{} hides no file", quoted(last)),
        hidden => Ok(Marker::Whiteout(hidden)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_below_the_root() {
        for (raw, clean) in [
            ("", ""),
            ("./", ""),
            ("/", ""),
            ("a", "a"),
            ("./a//b/./c/", "a/b/c"),
            ("/etc/passwd", "etc/passwd"),
            ("a/../b", "b"),
            ("...", "..."),
            ("a\\..\\b", "a\\..\\b"),
        ] {
            assert_eq!(Name::parse(raw.as_bytes()).unwrap().0, clean.as_bytes());
        }
        for raw in ["..", "../a", "/../a", "a/../../b", "./..", "a\0b"] {
            let err = Name::parse(raw.as_bytes()).unwrap_err().to_string();
            assert!(err.contains("the name "), "{err}");
        }
    }

    #[test]
    fn names_split_into_directory_and_last_part() {
        let name = Name::parse(b"a/b/c").unwrap();
        let (dir, last) = name.split().unwrap();
        assert_eq!(
            (dir.0.as_slice(), last),
            (b"a/b".as_slice(), b"c".as_slice())
        );
        let (top, last) = Name::parse(b"c")
            .unwrap()
            .split()
            .map(|(d, l)| (d, l.to_vec()))
            .unwrap();
        assert!(top.is_root() && last == b"c");
        assert_eq!(Name::default().split(), None);
        let steps: Vec<_> = name.steps().collect();
        let step = |path, last: &'static [u8]| (Path::new(path), last);
        assert_eq!(
            steps,
            [step("a", b"a"), step("a/b", b"b"), step("a/b/c", b"c")]
        );
        assert_eq!(Name::default().steps().count(), 0);
    }

    #[test]
    fn markers_name_one_plain_file() {
        assert_eq!(marker(b"file").unwrap(), Marker::None);
        assert_eq!(marker(b".wh.file").unwrap(), Marker::Whiteout(b"file"));
        assert_eq!(marker(b".wh..file").unwrap(), Marker::Whiteout(b".file"));
        assert_eq!(marker(b".wh..wh..opq").unwrap(), Marker::Opaque);
        assert_eq!(marker(b".wh..wh.plnk").unwrap(), Marker::Ignored);
        for bad in [&b".wh."[..], b".wh..", b".wh..."] {
            assert!(marker(bad).is_err(), "{bad:?}");
        }
    }
}
