//! Root emulation: what containers of a user with one id are told where the kernel has to refuse.
//!
//! Package managers give files to other owners, make device nodes and become other users to be safe from what they
//! fetch. With one id the kernel has no other owner and no other user to offer (EINVAL, EPERM), so that all of it runs
//! as that one id, and the calls are answered as if they had worked:
//!
//! * set*id, setgroups: remembered for the process and its descendants, and told again by get*id and getgroups. The
//!   kernel knows nothing of it: such a process may do all that the container's root may.
//! * chown: nothing, where the container's root may do it; the owner on disk stays the one there is. To the owner that
//!   a file has in any case the kernel changes it itself, and finds its errors.
//! * mknod of a device: an empty regular file (`node`).
//!
//! A capability that was taken from the container is missing here too. Nothing is ever granted: each answer is a value
//! told to the process that asked. What a program learns in other ways shows the truth: stat(2), /proc/PID/status,
//! credentials of sockets. A set-user-ID program gets no other user.

mod ids;
mod node;
mod tree;

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::rc::Rc;

use rustix::io::Errno;

use crate::runtime::notify::Handler;
use crate::runtime::seccomp::emulation::Call;
use crate::runtime::seccomp::emulation::Meanings;
use crate::runtime::seccomp::emulation::Of;
use crate::supervisor::emulation::ids::Credentials;
use crate::supervisor::emulation::ids::Ids;
use crate::supervisor::emulation::ids::KEEP;
use crate::supervisor::emulation::node::Nodes;
use crate::supervisor::emulation::node::Request;
use crate::supervisor::emulation::tree::Tree;
use crate::sys::notify::Answer;
use crate::sys::notify::Listener;
use crate::sys::notify::Notification;

/// Supplementary groups that a process can be given.
const MOST_GROUPS: u32 = 256;

/// What an id that 16 bits cannot hold is told as (/proc/sys/kernel/overflowuid).
const OVERFLOW: u16 = 65534;

/// What the container's root may do.
#[derive(Clone, Copy, Debug)]
pub struct Abilities {
    pub chown: bool,
    pub set_user: bool,
    pub set_group: bool,
    pub make_node: bool,
}

pub struct Emulation {
    abilities: Abilities,
    meanings: Meanings,
    tree: Tree,
    nodes: Nodes,
}

/// One call, and what is needed to answer it.
struct Asked<'a> {
    notification: &'a Notification,
    listener: Listener<'a>,
    /// Ids have 16 bits.
    narrow: bool,
    credentials: Rc<Credentials>,
}

impl Asked<'_> {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "an id is the lower half of its register"
    )]
    fn id(&self, argument: usize) -> u32 {
        let value = self.notification.args[argument];
        match value as u16 {
            _ if !self.narrow => value as u32,
            u16::MAX => KEEP,
            narrow => narrow.into(),
        }
    }

    fn width(&self) -> usize {
        if self.narrow { 2 } else { 4 }
    }

    fn memory(&self) -> Result<File, Errno> {
        self.listener.memory(self.notification).ok_or(Errno::FAULT)
    }

    fn told(&self, id: u32) -> u32 {
        if self.narrow {
            u16::try_from(id).unwrap_or(OVERFLOW).into()
        } else {
            id
        }
    }

    /// Ids as they lie in the caller's memory.
    fn bytes(&self, ids: &[u32]) -> Vec<u8> {
        let bytes = ids
            .iter()
            .flat_map(|id| self.told(*id).to_le_bytes().into_iter().take(self.width()));
        bytes.collect()
    }
}

impl Handler for Emulation {
    fn answer(&mut self, call: &Notification, listener: Listener<'_>) -> Answer {
        let Some((meaning, narrow)) = self.meanings.of(call.arch, call.number) else {
            return Answer::Continue;
        };
        match meaning {
            Call::Exit => {
                self.tree.end(call.tid);
                return Answer::Continue;
            }
            Call::Confine => {
                self.abilities.make_node = false;
                return Answer::Continue;
            }
            _ => {}
        }
        let asked = Asked {
            notification: call,
            listener,
            narrow,
            credentials: self.tree.of(call.tid),
        };
        let answer = match meaning {
            Call::Chown(first) => self.chown(&asked, first),
            Call::MakeNode(mode) => self.make_node(&asked, mode),
            Call::GetReal(of) => Ok(get(&asked, ids_of(&asked.credentials, of).real)),
            Call::GetEffective(of) => Ok(get(&asked, ids_of(&asked.credentials, of).effective)),
            Call::GetRealEffectiveSaved(of) => get_all(&asked, of),
            Call::GetGroups => get_groups(&asked),
            Call::SetGroups => self.set_groups(&asked),
            Call::Set(_)
            | Call::SetRealEffective(_)
            | Call::SetRealEffectiveSaved(_)
            | Call::SetFileSystem(_) => self.set(&asked, meaning),
            // With another filter than its own there are other calls of these names too.
            Call::KeepCapabilities if asked.id(0) != libc::PR_SET_KEEPCAPS.cast_unsigned() => {
                Ok(Answer::Continue)
            }
            Call::KeepCapabilities => {
                let keep = call.args[1] == 1;
                let new = asked.credentials.keep_capabilities(keep);
                self.change(&asked, new).map(|()| Answer::Continue)
            }
            Call::Exit | Call::Confine => Ok(Answer::Continue),
        };
        answer.unwrap_or_else(Answer::Errno)
    }

    fn end(&mut self) -> anyhow::Result<()> {
        self.nodes.end();
        Ok(())
    }
}

impl Emulation {
    pub fn new(abilities: Abilities) -> Emulation {
        Emulation {
            abilities,
            meanings: Meanings::new(),
            tree: Tree::default(),
            nodes: Nodes::default(),
        }
    }

    fn set(&mut self, asked: &Asked<'_>, call: Call) -> Result<Answer, Errno> {
        let old = &asked.credentials;
        let may = |able| able && old.may_change_ids();
        let (Call::Set(of)
        | Call::SetRealEffective(of)
        | Call::SetRealEffectiveSaved(of)
        | Call::SetFileSystem(of)) = call
        else {
            return Ok(Answer::Continue);
        };
        let able = match of {
            Of::User => may(self.abilities.set_user),
            Of::Group => may(self.abilities.set_group),
        };
        let before = ids_of(old, of);
        let after = match call {
            Call::Set(_) => before.set(asked.id(0), able)?,
            Call::SetRealEffective(_) => {
                before.set_real_effective(asked.id(0), asked.id(1), able)?
            }
            Call::SetFileSystem(_) => before.set_file_system(asked.id(0), able),
            _ => before.set_all([asked.id(0), asked.id(1), asked.id(2)], able)?,
        };
        let new = match of {
            Of::User => old.become_user(after),
            Of::Group => old.become_group(after),
        };
        if old.is_default() && new.is_default() {
            // The kernel can do that.
            return Ok(Answer::Continue);
        }
        self.change(asked, new)?;
        Ok(match call {
            Call::SetFileSystem(_) => get(asked, before.file_system),
            _ => Answer::Return(0),
        })
    }

    fn change(&mut self, asked: &Asked<'_>, new: Credentials) -> Result<(), Errno> {
        let old = &asked.credentials;
        if **old == new || self.tree.change(asked.notification.tid, new) {
            return Ok(());
        }
        Err(Errno::AGAIN)
    }

    fn set_groups(&mut self, asked: &Asked<'_>) -> Result<Answer, Errno> {
        if !self.abilities.set_group || !asked.credentials.may_change_ids() {
            return Err(Errno::PERM);
        }
        #[expect(clippy::cast_possible_truncation, reason = "the kernel takes an int")]
        let count = asked.notification.args[0] as u32;
        if count > MOST_GROUPS {
            return Err(Errno::INVAL);
        }
        let mut bytes = vec![0; count as usize * asked.width()];
        if count > 0 {
            let at = asked.notification.args[1];
            let read = asked.memory()?.read_exact_at(&mut bytes, at);
            read.map_err(|_| Errno::FAULT)?;
        }
        let id = |bytes: &[u8]| {
            let mut wide = [0; 4];
            wide[..bytes.len()].copy_from_slice(bytes);
            u32::from_le_bytes(wide)
        };
        let groups = bytes.chunks_exact(asked.width()).map(id).collect();
        self.change(asked, asked.credentials.take_groups(groups))?;
        Ok(Answer::Return(0))
    }

    fn chown(&self, asked: &Asked<'_>, first: usize) -> Result<Answer, Errno> {
        let credentials = &asked.credentials;
        let (user, group) = (asked.id(first), asked.id(first + 1));
        let known = |id| id == 0 || id == KEEP;
        if credentials.user.file_system == 0 && known(user) && known(group) {
            return Ok(Answer::Continue);
        }
        if self.abilities.chown && credentials.may_change_files() {
            return Ok(Answer::Return(0));
        }
        if credentials.may_give(user, group) {
            return Ok(Answer::Return(0));
        }
        Err(Errno::PERM)
    }

    fn make_node(&mut self, asked: &Asked<'_>, mode_at: usize) -> Result<Answer, Errno> {
        let kind = asked.id(mode_at) & libc::S_IFMT;
        let device = asked.id(mode_at + 1);
        if ![libc::S_IFCHR, libc::S_IFBLK].contains(&kind) {
            return Ok(Answer::Continue);
        }
        let able = self.abilities.make_node && asked.credentials.may_change_files();
        if device == 0 || !able {
            // Linux: a whiteout, which needs no capability, or EPERM.
            return Ok(Answer::Continue);
        }
        let args = &asked.notification.args;
        #[expect(clippy::cast_possible_truncation, reason = "the kernel takes an int")]
        let directory = (mode_at == 2).then_some(args[0] as i32);
        self.nodes.make(&Request {
            call: asked.notification,
            listener: asked.listener,
            directory: directory.filter(|number| *number != libc::AT_FDCWD),
            path: args[mode_at - 1],
            mode: asked.id(mode_at),
        })
    }
}

fn ids_of(credentials: &Credentials, of: Of) -> Ids {
    match of {
        Of::User => credentials.user,
        Of::Group => credentials.group,
    }
}

/// An id as the result of a call.
fn get(asked: &Asked<'_>, id: u32) -> Answer {
    if asked.credentials.is_default() {
        return Answer::Continue;
    }
    Answer::Return(asked.told(id).into())
}

fn get_all(asked: &Asked<'_>, of: Of) -> Result<Answer, Errno> {
    if asked.credentials.is_default() {
        return Ok(Answer::Continue);
    }
    let ids = ids_of(&asked.credentials, of);
    let memory = asked.memory()?;
    for (id, at) in [ids.real, ids.effective, ids.saved]
        .into_iter()
        .zip(asked.notification.args)
    {
        let written = memory.write_all_at(&asked.bytes(&[id]), at);
        written.map_err(|_| Errno::FAULT)?;
    }
    Ok(Answer::Return(0))
}

fn get_groups(asked: &Asked<'_>) -> Result<Answer, Errno> {
    let Some(groups) = &asked.credentials.groups else {
        return Ok(Answer::Continue);
    };
    #[expect(clippy::cast_possible_truncation, reason = "the kernel takes an int")]
    let room = asked.notification.args[0] as i32;
    let count = i32::try_from(groups.len()).map_err(|_| Errno::INVAL)?;
    if room != 0 {
        if room < count {
            return Err(Errno::INVAL);
        }
        let written = asked
            .memory()?
            .write_all_at(&asked.bytes(groups), asked.notification.args[1]);
        written.map_err(|_| Errno::FAULT)?;
    }
    Ok(Answer::Return(count.into()))
}
