//! Configurations of OCI hooks: one JSON file each in a directory, of version 1.0.0 of the form that
//! Podman and CRI-O read (oci-hooks(5)).

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::path::Path;
use std::path::PathBuf;

use anyhow::Context;
use anyhow::bail;
use oci_spec::runtime::Hook;
use oci_spec::runtime::Hooks;
use regex::Regex;
use serde::Deserialize;

/// What the conditions of a hook look at.
pub struct Subject<'a> {
    pub annotations: &'a HashMap<String, String>,
    /// The first word of the command line.
    pub command: &'a str,
    pub has_bind_mounts: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    version: String,
    hook: Hook,
    when: When,
    stages: Vec<Stage>,
}

/// All of them must hold, and there must be one at least.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct When {
    always: Option<bool>,
    /// For each pair of patterns there must be an annotation.
    annotations: Option<BTreeMap<String, String>>,
    /// One of these must match the command.
    commands: Option<Vec<String>>,
    #[serde(rename = "hasBindMounts")]
    has_bind_mounts: Option<bool>,
}

/// The points of a container's life at which hooks run (OCI runtime specification, "POSIX-platform Hooks").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Stage {
    Prestart,
    CreateRuntime,
    CreateContainer,
    StartContainer,
    Poststart,
    Poststop,
}

impl Stage {
    /// As the specification has it.
    pub fn name(self) -> &'static str {
        match self {
            Stage::Prestart => "prestart",
            Stage::CreateRuntime => "createRuntime",
            Stage::CreateContainer => "createContainer",
            Stage::StartContainer => "startContainer",
            Stage::Poststart => "poststart",
            Stage::Poststop => "poststop",
        }
    }

    pub fn of(self, hooks: &Hooks) -> &[Hook] {
        let list = match self {
            Stage::Prestart => hooks.prestart(),
            Stage::CreateRuntime => hooks.create_runtime(),
            Stage::CreateContainer => hooks.create_container(),
            Stage::StartContainer => hooks.start_container(),
            Stage::Poststart => hooks.poststart(),
            Stage::Poststop => hooks.poststop(),
        };
        list.as_deref().unwrap_or_default()
    }

    pub fn add(self, hooks: &mut Hooks, hook: Hook) {
        let list = match self {
            Stage::Prestart => hooks.prestart_mut(),
            Stage::CreateRuntime => hooks.create_runtime_mut(),
            Stage::CreateContainer => hooks.create_container_mut(),
            Stage::StartContainer => hooks.start_container_mut(),
            Stage::Poststart => hooks.poststart_mut(),
            Stage::Poststop => hooks.poststop_mut(),
        };
        list.get_or_insert_default().push(hook);
    }
}

/// The hooks of these directories that want to be run for a container, by the names of their files;
/// a file in a later directory takes the place of one of the same name.
pub fn select(directories: &[PathBuf], subject: &Subject<'_>) -> anyhow::Result<Option<Hooks>> {
    let mut files: BTreeMap<std::ffi::OsString, PathBuf> = BTreeMap::new();
    for directory in directories {
        let cannot = || format!("cannot read hooks directory {}", directory.display());
        for entry in std::fs::read_dir(directory).with_context(cannot)? {
            let path = entry.with_context(cannot)?.path();
            if path
                .extension()
                .is_some_and(|extension| extension == "json")
                && let Some(name) = path.file_name()
            {
                files.insert(name.to_owned(), path);
            }
        }
    }
    let mut hooks = Hooks::default();
    for path in files.values() {
        add(&mut hooks, path, subject)
            .with_context(|| format!("cannot use hook {}", path.display()))?;
    }
    Ok((hooks != Hooks::default()).then_some(hooks))
}

fn add(hooks: &mut Hooks, path: &Path, subject: &Subject<'_>) -> anyhow::Result<()> {
    let text = std::fs::read(path)?;
    let file: File = serde_json::from_slice(&text)?;
    if file.version != "1.0.0" {
        bail!("it has version \"{}\": expected \"1.0.0\"", file.version);
    }
    if !file.hook.path().is_absolute() {
        bail!("its path {} is not absolute", file.hook.path().display());
    }
    if !file.when.holds(subject)? {
        return Ok(());
    }
    for stage in file.stages {
        stage.add(hooks, file.hook.clone());
    }
    Ok(())
}

impl When {
    fn holds(&self, subject: &Subject<'_>) -> anyhow::Result<bool> {
        let mut conditions = Vec::new();
        conditions.extend(self.always);
        conditions.extend(
            self.has_bind_mounts
                .map(|wanted| wanted == subject.has_bind_mounts),
        );
        for (key, value) in self.annotations.iter().flatten() {
            let (key, value) = (Regex::new(key)?, Regex::new(value)?);
            let mut annotations = subject.annotations.iter();
            conditions.push(annotations.any(|(k, v)| key.is_match(k) && value.is_match(v)));
        }
        if let Some(commands) = &self.commands {
            let mut any = false;
            for command in commands {
                any |= Regex::new(command)?.is_match(subject.command);
            }
            conditions.push(any);
        }
        Ok(!conditions.is_empty() && conditions.into_iter().all(|holds| holds))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holds(when: &str) -> bool {
        let annotations = HashMap::from([("a.b".to_owned(), "on".to_owned())]);
        let subject = Subject {
            annotations: &annotations,
            command: "/bin/sh",
            has_bind_mounts: false,
        };
        let when: When = serde_json::from_str(when).unwrap();
        when.holds(&subject).unwrap()
    }

    #[test]
    fn all_conditions_must_hold_and_there_must_be_one() {
        for (when, expected) in [
            (r"{}", false),
            (r#"{"always":true}"#, true),
            (r#"{"always":false,"hasBindMounts":false}"#, false),
            (r#"{"hasBindMounts":true}"#, false),
            (r#"{"hasBindMounts":false}"#, true),
            (r#"{"annotations":{"^a\\.b$":"^on$"}}"#, true),
            (r#"{"annotations":{"^a\\.b$":"^off$"}}"#, false),
            (r#"{"annotations":{"a":"on","c":"."}}"#, false),
            (r#"{"commands":["^/usr","sh$"]}"#, true),
            (r#"{"commands":["bash"]}"#, false),
            (r#"{"commands":[],"always":true}"#, false),
        ] {
            assert_eq!(holds(when), expected, "{when}");
        }
    }
}
