//! Id maps of a user namespace: what is written to /proc/PID/uid_map and gid_map, directly
//! or by the set-uid helpers `newuidmap` and `newgidmap`.

use std::fmt::Write as _;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;

use anyhow::Context;
use anyhow::bail;
use serde::Deserialize;
use serde::Serialize;

/// `count` ids from `inside` (in the namespace) on are `outside`… (in its parent).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdRange {
    pub inside: u32,
    pub outside: u32,
    pub count: u32,
}

/// How a map gets written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Writer {
    /// By ourselves: we have CAP_SETUID and CAP_SETGID in the parent namespace.
    Privileged,
    /// By ourselves, one id each: all that the kernel lets an ordinary user do.
    Single,
    /// By the helpers, which check /etc/subuid and /etc/subgid.
    Helpers {
        newuidmap: PathBuf,
        newgidmap: PathBuf,
    },
}

/// An identity inside a user namespace, of which the process has all capabilities.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Root {
    pub uid: u32,
    pub gid: u32,
    /// Supplementary groups stay as they are.
    pub keeps_groups: bool,
}

/// What `id` of the namespace is in its parent.
pub fn outside(ranges: &[IdRange], id: u32) -> Option<u32> {
    ranges.iter().find_map(|range| {
        let offset = id.checked_sub(range.inside)?;
        (offset < range.count).then(|| range.outside + offset)
    })
}

/// What `id` of the parent is in the namespace.
pub fn inside(ranges: &[IdRange], id: u32) -> Option<u32> {
    ranges.iter().find_map(|range| {
        let offset = id.checked_sub(range.outside)?;
        (offset < range.count).then(|| range.inside + offset)
    })
}

/// The lines of a map as procfs shows them.
pub fn parse(text: &str) -> Vec<IdRange> {
    let line = |line: &str| {
        let mut fields = line.split_whitespace().map(str::parse);
        Some(IdRange {
            inside: fields.next()?.ok()?,
            outside: fields.next()?.ok()?,
            count: fields.next()?.ok()?,
        })
    };
    text.lines().filter_map(line).collect()
}

/// The ids of a container: both maps, and how they get written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdMaps {
    pub writer: Writer,
    pub uids: Vec<IdRange>,
    pub gids: Vec<IdRange>,
}

impl IdMaps {
    /// Names the ids that files on disk have under this map: layers unpacked under one tag
    /// cannot be used under another.
    pub fn tag(&self) -> String {
        let describe = |ranges: &[IdRange]| {
            let parts: Vec<String> = ranges
                .iter()
                .map(|range| format!("{}:{}:{}", range.inside, range.outside, range.count))
                .collect();
            parts.join(",")
        };
        let same = |ranges: &[IdRange]| ranges.iter().all(|range| range.inside == range.outside);
        match self.writer {
            Writer::Privileged if same(&self.uids) && same(&self.gids) => "identity".into(),
            Writer::Single => "single".into(),
            _ => format!("mapped:{}/{}", describe(&self.uids), describe(&self.gids)),
        }
    }

    /// Who sets things up in a namespace with these ids: 0, or the lowest id where 0 is not mapped.
    pub fn root(&self) -> Root {
        let lowest = |ranges: &[IdRange]| ranges.iter().map(|range| range.inside).min();
        Root {
            uid: lowest(&self.uids).unwrap_or(0),
            gid: lowest(&self.gids).unwrap_or(0),
            keeps_groups: self.is_single(),
        }
    }

    /// Whether only one id is mapped, so that owners cannot be kept on disk.
    pub fn is_single(&self) -> bool {
        self.writer == Writer::Single
    }

    /// Writes both maps for the user namespace of process `pid`, which our own user created.
    pub fn write(&self, pid: u32) -> anyhow::Result<()> {
        self.start_writing(pid)?.finish()
    }

    /// Starts writing; the helpers run side by side, and beside whatever the caller does until
    /// [`Writing::finish`].
    pub fn start_writing(&self, pid: u32) -> anyhow::Result<Writing> {
        match &self.writer {
            Writer::Helpers {
                newuidmap,
                newgidmap,
            } => Ok(Writing {
                helpers: vec![
                    start_helper(newuidmap, pid, &self.uids)?,
                    start_helper(newgidmap, pid, &self.gids)?,
                ],
            }),
            Writer::Privileged | Writer::Single => {
                if self.writer == Writer::Single {
                    // Linux: an unprivileged process may write gid_map only after setgroups is
                    // "deny" (user_namespaces(7), since 3.19), so the order matters.
                    write_proc(pid, "setgroups", "deny")?;
                }
                write_proc(pid, "uid_map", &lines(&self.uids))?;
                write_proc(pid, "gid_map", &lines(&self.gids))?;
                Ok(Writing { helpers: vec![] })
            }
        }
    }
}

/// Helpers at work.
pub struct Writing {
    helpers: Vec<(PathBuf, Child)>,
}

impl Writing {
    pub fn finish(self) -> anyhow::Result<()> {
        for (path, helper) in self.helpers {
            let name = path.display().to_string();
            let output = helper
                .wait_with_output()
                .with_context(|| format!("cannot wait for {name}"))?;
            if !output.status.success() {
                let said = String::from_utf8_lossy(&output.stderr);
                bail!("{name} refused the id map: {}", said.trim());
            }
        }
        Ok(())
    }
}

fn start_helper(path: &Path, pid: u32, ranges: &[IdRange]) -> anyhow::Result<(PathBuf, Child)> {
    let mut command = Command::new(path);
    command.arg(pid.to_string());
    for range in ranges {
        command.args([range.inside, range.outside, range.count].map(|id| id.to_string()));
    }
    let child = command
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot execute {}", path.display()))?;
    Ok((path.to_owned(), child))
}

fn write_proc(pid: u32, file: &str, text: &str) -> anyhow::Result<()> {
    let path = format!("/proc/{pid}/{file}");
    std::fs::write(&path, text).with_context(|| format!("cannot write {path}"))
}

fn lines(ranges: &[IdRange]) -> String {
    let mut text = String::new();
    for range in ranges {
        writeln!(text, "{} {} {}", range.inside, range.outside, range.count)
            .expect("a String takes all that is written");
    }
    text
}
