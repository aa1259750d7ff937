//! `top`: the processes of a running container, as the host and as the container see them.

use std::os::fd::AsFd;
use std::path::Path;

use serde::Deserialize;
use serde::Serialize;

use crate::container::record::Container;
use crate::container::status::State;
use crate::engine::Engine;
use crate::engine::processes;
use crate::engine::processes::Process;
use crate::engine::visit::Visit;
use crate::runtime::user;
use crate::sys::idmap;
use crate::sys::idmap::IdRange;
use crate::sys::path;

/// What is read of a file of users or groups, at most.
const NAMES_LIMIT: u64 = 4 * 1024 * 1024;

/// Ids and their names.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Names {
    users: Vec<(u32, String)>,
    groups: Vec<(u32, String)>,
}

impl Names {
    /// Those of the host's files: nothing else is asked, so that no program is executed.
    pub fn of_host() -> Names {
        let read = |file: &str| std::fs::read_to_string(file).unwrap_or_default();
        Names::parse(&read("/etc/passwd"), &read("/etc/group"))
    }

    fn parse(passwd: &str, group: &str) -> Names {
        let users = user::accounts(passwd);
        let groups = user::groups(group);
        Names {
            users: users.map(|one| (one.uid, one.name.to_owned())).collect(),
            groups: groups
                .map(|(name, gid, _)| (gid, name.to_owned()))
                .collect(),
        }
    }

    /// The id itself where it has no name.
    pub fn user(&self, uid: u32) -> String {
        name(&self.users, uid)
    }

    pub fn group(&self, gid: u32) -> String {
        name(&self.groups, gid)
    }
}

fn name(names: &[(u32, String)], id: u32) -> String {
    let found = names.iter().find(|(known, _)| *known == id);
    found.map_or_else(|| id.to_string(), |(_, name)| name.clone())
}

/// What a container calls its processes and users.
pub struct Inside {
    /// Of a process's pids, one a namespace, that of the container's namespace.
    depth: usize,
    uids: Vec<IdRange>,
    gids: Vec<IdRange>,
    names: Names,
    /// The pids of now, as the host counts them and as the container does.
    pids: Vec<(i32, u32)>,
}

/// Linux: the id that stands for those which a user namespace does not map (user_namespaces(7)).
const OVERFLOW: u32 = 65534;

impl Inside {
    /// How the container sees these processes of its own.
    ///
    /// Must: be called by a single-threaded process.
    pub fn of(engine: &Engine, container: &Container, state: &State, all: &[Process]) -> Inside {
        let map = |file: &str| {
            let text = std::fs::read_to_string(format!("/proc/{}/{file}", state.pid));
            idmap::parse(&text.unwrap_or_default())
        };
        let init = Process::of(state.pid);
        let pids = init.map_or(1, |init| init.numbers("NSpid:").len());
        let depth = pids.saturating_sub(1);
        let own = |process: &Process| process.numbers("NSpid:").get(depth).copied();
        Inside {
            depth,
            uids: map("uid_map"),
            gids: map("gid_map"),
            // Without them the ids are shown.
            names: names(engine, container).unwrap_or_default(),
            pids: all
                .iter()
                .filter_map(|process| Some((process.pid, own(process)?)))
                .collect(),
        }
    }

    /// A pid of the host in the container's numbers; 0 is a process outside of it.
    pub fn pid(&self, pid: i32) -> u32 {
        let found = self.pids.iter().find(|(host, _)| *host == pid);
        found.map_or(0, |(_, inside)| *inside)
    }

    /// The number in the container's namespace, of a line of `status` with one a namespace.
    pub fn number(&self, process: &Process, key: &str) -> u32 {
        process.numbers(key).get(self.depth).copied().unwrap_or(0)
    }

    pub fn user(&self, uid: u32) -> String {
        let inside = idmap::inside(&self.uids, uid);
        self.names.user(inside.unwrap_or(OVERFLOW))
    }

    pub fn group(&self, gid: u32) -> String {
        let inside = idmap::inside(&self.gids, gid);
        self.names.group(inside.unwrap_or(OVERFLOW))
    }
}

/// The names of the container's own files, read by a process of ours in it.
fn names(engine: &Engine, container: &Container) -> anyhow::Result<Names> {
    let visit = Visit::open(engine, container)?;
    let visitor = visit.send(|inside| {
        let read =
            |file: &str| path::read_in_root(inside.root.as_fd(), Path::new(file), NAMES_LIMIT);
        let passwd = read("/etc/passwd")?.unwrap_or_default();
        let group = read("/etc/group")?.unwrap_or_default();
        Ok(serde_json::to_vec(&Names::parse(&passwd, &group))?)
    })?;
    Ok(serde_json::from_slice(&visitor.finish()?)?)
}

/// Its processes, by their pids.
pub fn of(container: &Container, state: &State) -> Vec<Process> {
    let pids = processes::of(container, state);
    pids.into_iter().filter_map(Process::of).collect()
}
