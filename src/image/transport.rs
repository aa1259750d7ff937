//! Where an image comes from or goes to, as containers-transports(5) writes it: `docker://NAME`,
//! `docker-archive:PATH[:NAME|@INDEX]`, `oci-archive:…`, `oci:…`, `dir:PATH`, `containers-storage:NAME`.

use std::fmt;
use std::path::PathBuf;

use anyhow::Result;

use crate::error::Kind;
use crate::error::WithHint;
use crate::error::fail;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transport {
    /// `docker://NAME`: a registry.
    Registry(String),
    /// `containers-storage:NAME`: rbox's own store.
    Store(String),
    Files(Files),
}

/// An image, or several, in files of this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Files {
    pub form: Form,
    pub path: PathBuf,
    /// Which of several.
    pub part: Option<Part>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// What `docker save` writes.
    DockerArchive,
    /// An OCI layout as a tar.
    OciArchive,
    /// An OCI layout.
    Oci,
    /// One image, its blobs as files beside its `manifest.json`.
    Dir,
}

/// One image of several in one place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    Name(String),
    /// From 0 on.
    Index(usize),
}

impl Form {
    pub fn word(self) -> &'static str {
        match self {
            Self::DockerArchive => "docker-archive",
            Self::OciArchive => "oci-archive",
            Self::Oci => "oci",
            Self::Dir => "dir",
        }
    }
}

impl fmt::Display for Files {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.form.word(), self.path.display())?;
        match &self.part {
            Some(Part::Name(name)) => write!(f, ":{name}"),
            Some(Part::Index(index)) => write!(f, ":@{index}"),
            None => Ok(()),
        }
    }
}

/// Reads a name that may say its transport; `None` where it does not.
pub fn parse(text: &str) -> Result<Option<Transport>> {
    let Some((word, rest)) = text.split_once(':') else {
        return Ok(None);
    };
    let bad = |expected: &str| fail(Kind::Usage, format!("{text:?}: expected {expected}"));
    let transport = match word {
        // Without slashes it is a tag of an image called `docker`.
        "docker" => match rest.strip_prefix("//") {
            Some("") => return Err(bad("docker://NAME")),
            Some(name) => Transport::Registry(name.to_owned()),
            None => return Ok(None),
        },
        "containers-storage" => {
            // `@ID` is an image ID there.
            let name = rest.strip_prefix('@').unwrap_or(rest);
            if name.starts_with('[') {
                return Err(bad("containers-storage:NAME, without another store"))
                    .hint("the store is the one below XDG_DATA_HOME");
            }
            if name.is_empty() {
                return Err(bad("containers-storage:NAME"));
            }
            Transport::Store(name.to_owned())
        }
        "docker-archive" => files(Form::DockerArchive, rest, &bad)?,
        "oci-archive" => files(Form::OciArchive, rest, &bad)?,
        "oci" => files(Form::Oci, rest, &bad)?,
        "dir" if rest.is_empty() => return Err(bad("dir:PATH")),
        "dir" => Transport::Files(Files {
            form: Form::Dir,
            path: rest.into(),
            part: None,
        }),
        "docker-daemon" => {
            let text = format!("{text:?}: rbox does not speak to Docker's daemon");
            return Err(fail(Kind::Unsupported, text))
                .hint("`docker save NAME | rbox load` copies an image from it");
        }
        _ => return Ok(None),
    };
    Ok(Some(transport))
}

/// The path ends at the first colon, as containers-transports(5) has it.
fn files(form: Form, rest: &str, bad: &dyn Fn(&str) -> anyhow::Error) -> Result<Transport> {
    let expected = || bad(&format!("{}:PATH, :PATH:NAME or :PATH:@INDEX", form.word()));
    let (path, part) = match rest.split_once(':') {
        None => (rest, None),
        // A colon with nothing after it names nothing.
        Some((path, "")) => (path, None),
        Some((path, part)) => match part.strip_prefix('@') {
            Some(index) => {
                let index = index.parse().map_err(|_| expected())?;
                (path, Some(Part::Index(index)))
            }
            None => (path, Some(Part::Name(part.to_owned()))),
        },
    };
    if path.is_empty() {
        return Err(expected());
    }
    Ok(Transport::Files(Files {
        form,
        path: path.into(),
        part,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(form: Form, path: &str, part: Option<Part>) -> Transport {
        Transport::Files(Files {
            form,
            path: path.into(),
            part,
        })
    }

    #[test]
    fn transports_are_read() {
        let name = |name: &str| Some(Part::Name(name.to_owned()));
        for (text, expected) in [
            ("busybox", None),
            ("busybox:latest", None),
            ("docker:latest", None),
            ("localhost:5000/x", None),
            ("docker://x/y:z", Some(Transport::Registry("x/y:z".into()))),
            ("containers-storage:x", Some(Transport::Store("x".into()))),
            (
                "containers-storage:@12",
                Some(Transport::Store("12".into())),
            ),
            ("dir:/a:b", Some(files(Form::Dir, "/a:b", None))),
            ("oci:/a", Some(files(Form::Oci, "/a", None))),
            ("oci:/a:", Some(files(Form::Oci, "/a", None))),
            ("oci:a/b:t", Some(files(Form::Oci, "a/b", name("t")))),
            (
                "docker-archive:a.tar:localhost:5000/x:y",
                Some(files(
                    Form::DockerArchive,
                    "a.tar",
                    name("localhost:5000/x:y"),
                )),
            ),
            (
                "oci-archive:a.tar:@2",
                Some(files(Form::OciArchive, "a.tar", Some(Part::Index(2)))),
            ),
        ] {
            let found = parse(text).unwrap();
            assert_eq!(found, expected, "{text}");
            if let Some(Transport::Files(files)) = found {
                assert_eq!(files.to_string(), text.trim_end_matches(':'));
            }
        }
    }

    #[test]
    fn wrong_ones_are_one_line_that_quotes_them() {
        for text in [
            "docker://",
            "containers-storage:",
            "containers-storage:[/x]y",
            "dir:",
            "oci:",
            "oci::tag",
            "oci-archive:a:@x",
            "docker-archive:a:@-1",
            "docker-daemon:x",
        ] {
            let text_of = crate::error::message(&parse(text).unwrap_err());
            assert!(text_of.starts_with(&format!("{text:?}: ")), "{text_of}");
            assert!(!text_of.contains('\n'));
        }
    }
}
