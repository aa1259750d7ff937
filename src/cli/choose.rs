//! Which containers a command line means: by name or id, all of them, the latest, by id files, by
//! filters.

use std::path::PathBuf;

use anyhow::Context;

use crate::cli::filter::Filters;
use crate::cli::output;
use crate::container::record::Container;
use crate::container::status::Status;
use crate::engine::Engine;
use crate::engine::sweep;
use crate::error;
use crate::error::Kind;
use crate::error::fail;

/// The ways that a command knows.
#[derive(Clone, Copy, Default)]
pub struct Wanted<'a> {
    pub names: &'a [String],
    pub id_files: &'a [PathBuf],
    pub filters: &'a [String],
    pub all: bool,
    pub latest: bool,
    /// A file that is not there names nothing.
    pub ignore: bool,
    /// With `all`, those too whose record cannot be read.
    pub unreadable: bool,
}

impl Wanted<'_> {
    /// Turns those that were not named round.
    pub fn order(&self, chosen: &mut [Chosen]) {
        if self.names.is_empty() && self.id_files.is_empty() {
            chosen.reverse();
        }
    }
}

/// One of them.
#[derive(Debug)]
pub enum Chosen {
    /// As it was typed, or stood in a file: whether there is such a container shows later.
    Named(String),
    Found(Box<Container>),
}

impl Chosen {
    /// What a command prints when it has done its work.
    pub fn label(&self) -> &str {
        match self {
            Chosen::Named(name) => name,
            Chosen::Found(container) => &container.config.id,
        }
    }

    pub fn container(&self, engine: &Engine) -> anyhow::Result<Container> {
        match self {
            Chosen::Named(name) => Container::find(&engine.dirs, name),
            Chosen::Found(container) => Ok((**container).clone()),
        }
    }
}

/// The containers that are meant, the newest first where they are not named: what uses another was
/// made after it. With `all`, those whose status fits.
pub fn choose(
    engine: &Engine,
    wanted: Wanted<'_>,
    fits: impl Fn(&Status) -> bool,
) -> anyhow::Result<Vec<Chosen>> {
    let filters = Filters::parse(engine, wanted.filters)?;
    let mut named = wanted.names.to_vec();
    for path in wanted.id_files {
        match std::fs::read_to_string(path) {
            Ok(text) => named.push(text.trim().to_owned()),
            Err(err) if wanted.ignore && err.kind() == std::io::ErrorKind::NotFound => {}
            Err(err) => {
                return Err(err)
                    .with_context(|| format!("cannot read an id from {}", path.display()));
            }
        }
    }
    if !named.is_empty() && wanted.filters.is_empty() {
        return Ok(named.into_iter().map(Chosen::Named).collect());
    }
    let listed = wanted.all || wanted.latest || !wanted.filters.is_empty();
    let mut unreadable = Vec::new();
    let mut found = match listed {
        true if wanted.all && wanted.unreadable => {
            Container::list(&engine.dirs, |one| unreadable.push(one.container))?
        }
        true => list(engine)?,
        false => vec![],
    };
    found.reverse();
    if wanted.latest {
        found.truncate(1);
    }
    let mut chosen = Vec::new();
    for container in found {
        let status = container.status_to_show();
        if !wanted.unreadable && sweep::take_left_behind(engine, &container, &status) {
            continue;
        }
        let is_named = |name: &String| {
            *name == container.name || !name.is_empty() && container.config.id.starts_with(name)
        };
        if (!wanted.all || fits(&status))
            && (named.is_empty() || named.iter().any(is_named))
            && filters.fit(&container, &status)
        {
            chosen.push(Chosen::Found(Box::new(container)));
        }
    }
    let unreadable = unreadable.into_iter();
    chosen.extend(unreadable.map(|container| Chosen::Named(container.name)));
    Ok(chosen)
}

/// What a begun piece of work is about, and what is to be waited for.
pub type Begun<'a, T> = anyhow::Result<(&'a Chosen, Container, T)>;

/// Begins it for all of them before the first is waited for.
pub fn begin<'a, T>(
    engine: &Engine,
    chosen: &'a [Chosen],
    begin: impl Fn(&Container) -> anyhow::Result<T>,
) -> Vec<Begun<'a, T>> {
    let begun = chosen.iter().map(|one| {
        let container = one.container(engine)?;
        let begun = begin(&container)?;
        Ok((one, container, begun))
    });
    begun.collect()
}

/// The container that was created last.
pub fn latest(engine: &Engine) -> anyhow::Result<Container> {
    let latest = list(engine)?.pop();
    latest.ok_or_else(|| fail(Kind::NotFound, "there is no container"))
}

/// All containers, oldest first; of a record that cannot be read a warning tells.
pub fn list(engine: &Engine) -> anyhow::Result<Vec<Container>> {
    Container::list(&engine.dirs, |one| {
        output::print_warning(&format!("{}, passed over", error::message(&one.err)));
    })
}
