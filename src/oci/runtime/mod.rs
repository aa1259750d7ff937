//! `config.json` and its parts (OCI runtime specification 1.3): read, checked against the schemas (`schema`), made into
//! the types of `oci_spec` (`translate`), and checked for what the schemas cannot say (`check`). An error is one line
//! with the path of the mistake and what is expected there.
//!
//! `oci_spec` forgives what the specification requires, and knows some names wrongly; so it gets what has been checked.

mod check;
mod linux;
mod schema;
mod shape;
mod translate;

use std::io::Read;
use std::path::Path;

use anyhow::Context;
use anyhow::ensure;
use oci_spec::runtime::LinuxResources;
use oci_spec::runtime::Process;
use oci_spec::runtime::Spec;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::error::Kind;
use crate::error::fail;
use crate::oci::runtime::shape::Mistake;
use crate::oci::runtime::shape::Shape;

pub use linux::parameter_namespace;
pub use linux::parameter_path;
pub use schema::ACTIONS;
pub use schema::ARCHITECTURES;
pub use schema::FILTER_FLAGS;
pub use schema::MEMORY_FLAGS;
pub use schema::MEMORY_MODES;
pub use schema::NAMESPACES;
pub use schema::OPERATORS;

/// The versions of the specification that this is.
pub const VERSION_MIN: &str = "1.0.0";
pub const VERSION_MAX: &str = "1.3.0";

/// Bytes that a document may have: the largest that callers write, with a seccomp profile, have a few hundred thousand.
const LARGEST: u64 = 8 << 20;

/// Who is told of what is left out though the document asks for it.
pub type Warn<'a> = &'a mut dyn FnMut(String);

/// Reads the `config.json` at this path, for a container that is to be created, and returns its text too.
pub fn read(path: &Path, warn: Warn<'_>) -> anyhow::Result<(Spec, Vec<u8>)> {
    let text = load(path)?;
    let spec = parse(&text, warn).and_then(|spec| {
        check::complete(&spec)?;
        Ok(spec)
    });
    let spec = spec.map_err(|mistake| wrong(path, &mistake))?;
    Ok((spec, text))
}

/// Reads the process of an `exec --process`.
pub fn read_process(path: &Path, warn: Warn<'_>) -> anyhow::Result<Process> {
    let text = load(path)?;
    parse_process(&text, warn).map_err(|mistake| wrong(path, &mistake))
}

/// Reads the resources of an `update --resources`; `-` is the standard input.
pub fn read_resources(path: &Path) -> anyhow::Result<LinuxResources> {
    let text = load(path)?;
    let resources = parse_resources(&text);
    resources.map_err(|mistake| wrong(path, &mistake))
}

fn wrong(path: &Path, mistake: &Mistake) -> anyhow::Error {
    fail(Kind::Usage, format!("{}: {mistake}", name(path)))
}

/// What errors call the document.
fn name(path: &Path) -> String {
    match path.file_name() {
        _ if path == Path::new("-") => "standard input".into(),
        Some(name) => name.to_string_lossy().escape_debug().to_string(),
        None => path.display().to_string(),
    }
}

fn load(path: &Path) -> anyhow::Result<Vec<u8>> {
    let cannot = || format!("cannot read \"{}\"", path.display());
    let mut text = Vec::new();
    let input: Box<dyn Read> = if path == Path::new("-") {
        Box::new(std::io::stdin().lock())
    } else {
        Box::new(std::fs::File::open(path).with_context(cannot)?)
    };
    let mut input = input.take(LARGEST + 1);
    input.read_to_end(&mut text).with_context(cannot)?;
    ensure!(
        text.len() as u64 <= LARGEST,
        "cannot read \"{}\": it is larger than {} MiB",
        path.display(),
        LARGEST >> 20
    );
    Ok(text)
}

/// Reads a whole specification, which may lack what only a container that runs needs.
pub fn parse(text: &[u8], warn: Warn<'_>) -> Result<Spec, Mistake> {
    let mut value = checked(text, &schema::SPEC)?;
    translate::spec(&mut value, warn)?;
    let spec = typed(value)?;
    check::spec(&spec)?;
    Ok(spec)
}

pub fn parse_process(text: &[u8], warn: Warn<'_>) -> Result<Process, Mistake> {
    let mut value = checked(text, &schema::PROCESS)?;
    translate::process(&mut value, "", warn);
    let process = typed(value)?;
    check::process(&process)?;
    Ok(process)
}

pub fn parse_resources(text: &[u8]) -> Result<LinuxResources, Mistake> {
    let mut value = checked(text, &schema::RESOURCES)?;
    translate::resources(&mut value);
    let resources = typed(value)?;
    check::resources(&resources)?;
    Ok(resources)
}

fn checked(text: &[u8], shape: &Shape) -> Result<Value, Mistake> {
    let mut value = serde_json::from_slice(text).map_err(|err| {
        let place = format!("line {}, column {}", err.line(), err.column());
        let text = err.to_string();
        let text = text.split(" at line ").next().unwrap_or_default();
        Mistake::new("", format!("{place}: {text}"))
    })?;
    shape.check(&mut value)?;
    Ok(value)
}

fn typed<T: DeserializeOwned>(value: Value) -> Result<T, Mistake> {
    serde_path_to_error::deserialize(value).map_err(|err| {
        let path = err.path().to_string();
        Mistake::new(path, err.inner().to_string().replace('\n', " "))
    })
}

#[cfg(test)]
mod tests;
