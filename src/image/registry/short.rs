//! What a name on the command line may stand for: a short one has aliases and registries to search, which
//! registries.conf names (containers-registries.conf(5)).

use anyhow::Context;
use anyhow::Result;

use crate::config::registries;
use crate::config::registries::Meaning;
use crate::config::registries::Registries;
use crate::config::registries::ShortNameMode;
use crate::oci::reference;
use crate::oci::reference::Reference;
use crate::store::atomic;
use crate::store::atomic::Durability;

#[derive(Debug, PartialEq, Eq)]
pub struct Candidates {
    /// At least one; of several, in the order in which they are tried.
    pub references: Vec<Reference>,
    pub mode: ShortNameMode,
    /// The short name without tag and digest.
    short: String,
}

/// What a name may stand for. One with a registry stands for itself.
pub fn candidates(text: &str, registries: &Registries) -> Result<Candidates> {
    let short = &text[..name_end(text)];
    let rest = &text[short.len()..];
    let (names, mode) = if reference::is_qualified(text) {
        (vec![short.to_owned()], ShortNameMode::Disabled)
    } else {
        // One that is no reference says so as it was typed.
        text.parse::<Reference>()?;
        match registries.meaning(short) {
            Meaning::Alias(name) => (vec![name], ShortNameMode::Disabled),
            Meaning::OneOf(names, mode) => (names, mode),
        }
    };
    let references = names.iter().map(|name| format!("{name}{rest}").parse());
    Ok(Candidates {
        references: references.collect::<Result<_>>()?,
        mode,
        short: short.to_owned(),
    })
}

/// Where tag and digest begin.
fn name_end(text: &str) -> usize {
    let text = text.split('@').next().unwrap_or(text);
    let last = text.rfind('/').map_or(0, |slash| slash + 1);
    text[last..].find(':').map_or(text.len(), |at| last + at)
}

impl Candidates {
    /// Remembers which one the user chose.
    pub fn record(&self, chosen: &Reference) -> Result<()> {
        let Some(path) = registries::aliases_path() else {
            return Ok(());
        };
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        let text = registries::with_alias(&text, &self.short, &chosen.name());
        let made = path.parent().map_or(Ok(()), std::fs::create_dir_all);
        made.with_context(|| format!("cannot write {}", path.display()))?;
        atomic::write(&path, text.as_bytes(), Durability::Volatile)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_cut_before_tag_and_digest() {
        for (text, name) in [
            ("a", "a"),
            ("a:1", "a"),
            ("x/a:1@sha256:0", "x/a"),
            ("h.org:5000/a", "h.org:5000/a"),
            ("h.org:5000/a@sha256:0", "h.org:5000/a"),
        ] {
            assert_eq!(&text[..name_end(text)], name);
        }
    }

    #[test]
    fn without_configuration_a_short_name_is_dockers() {
        let found = candidates("busybox:1", &Registries::default()).unwrap();
        assert_eq!(found.references, ["busybox:1".parse().unwrap()]);
        let found = candidates("127.0.0.1:5000/x", &Registries::default()).unwrap();
        assert_eq!(found.references[0].to_string(), "127.0.0.1:5000/x:latest");
        assert!(candidates("A/../b", &Registries::default()).is_err());
    }
}
