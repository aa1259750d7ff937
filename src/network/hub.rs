//! The hub: a network namespace of the user's in which all his bridges are. It belongs to nobody's container and no
//! process lives in it; supervisors of containers on networks hold it open, and with the last of them it is gone.
//!
//! ```text
//! RUN/networks/hub/<container id>   which descriptors of which process it is
//! ```
//!
//! Linux: a virtual cable can be made by a process that has CAP_NET_ADMIN over both ends (rtnl_link_get_net_capable).
//! For a plain user that is one in a user namespace that owns the one end, and is the parent of the one that owns
//! the other. So the hub has a user namespace of its own, in which each id is what it is on the host, and user
//! namespaces of containers on networks are made in that. Root has the capability over all of them as it is.

use std::os::fd::AsFd;
use std::os::fd::AsRawFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::path::PathBuf;

use anyhow::Context;
use anyhow::bail;
use caps::CapSet;
use caps::Capability;
use serde::Deserialize;
use serde::Serialize;

use crate::error::Kind;
use crate::error::Told;
use crate::error::WithHint;
use crate::error::fail;
use crate::network::members;
use crate::network::setting;
use crate::store::atomic::Durability;
use crate::store::dirs::Dirs;
use crate::store::record;
use crate::store::record::Record;
use crate::store::temp;
use crate::sys::SyscallError;
use crate::sys::idmap::IdMaps;
use crate::sys::idmap::IdRange;
use crate::sys::idmap::Writer;
use crate::sys::namespace;
use crate::sys::process;
use crate::sys::process::Child;
use crate::sys::process::Side;
use crate::sys::socket;

/// The longest message of an error.
const LIMIT: usize = 16 * 1024;

/// A process that has the hub open.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Keeper {
    pub supervisor: i32,
    /// When that was started, in clock ticks since boot.
    pub start_ticks: u64,
    /// Numbers of descriptors; no user namespace where the hub belongs to that of the host.
    pub net: i32,
    pub user: Option<i32>,
    /// The device in the hub by which it serves its container.
    pub device: String,
}

impl Record for Keeper {
    const NOUN: &'static str = "network";
    const VERSION: u32 = 1;
}

impl Keeper {
    /// Must: be called with the members' lock held, or by who made the entry.
    pub fn save(&self, dirs: &Dirs, container: &str) -> anyhow::Result<()> {
        let dir = keepers(dirs);
        std::fs::create_dir_all(&dir)
            .with_context(|| format!("cannot create {}", dir.display()))?;
        record::save(&dir.join(container), self, Durability::Volatile)
    }

    pub fn of(dirs: &Dirs, container: &str) -> Option<Keeper> {
        record::load_if_present(&keepers(dirs).join(container)).ok()?
    }

    pub fn remove(dirs: &Dirs, container: &str) {
        std::fs::remove_file(keepers(dirs).join(container)).ok();
    }

    pub fn is_alive(&self) -> bool {
        process::runs(self.supervisor, self.start_ticks)
    }
}

/// Removes what processes have left that are gone.
///
/// Must: be called with the members' lock held.
pub fn sweep(dirs: &Dirs) {
    temp::sweep_alone(&keepers(dirs)).ok();
    for container in members::names_in(&keepers(dirs)) {
        if !Keeper::of(dirs, &container).is_some_and(|keeper| keeper.is_alive()) {
            Keeper::remove(dirs, &container);
        }
    }
}

fn keepers(dirs: &Dirs) -> PathBuf {
    dirs.run_networks().join("hub")
}

#[derive(Debug)]
pub struct Hub {
    net: OwnedFd,
    /// None where it belongs to the user namespace of this process.
    user: Option<OwnedFd>,
}

impl Hub {
    /// The one that there is, or a new one; `ids` are those that the user has.
    ///
    /// Must: be called by a single-threaded process with the members' lock held.
    pub fn find_or_make(dirs: &Dirs, ids: &IdMaps) -> anyhow::Result<Hub> {
        match Hub::find(dirs) {
            Some(hub) => Ok(hub),
            None => Hub::make(ids).context("cannot make the namespace of the networks"),
        }
    }

    pub fn find(dirs: &Dirs) -> Option<Hub> {
        members::names_in(&keepers(dirs))
            .iter()
            .filter_map(|container| Keeper::of(dirs, container))
            .find_map(|keeper| Hub::through(&keeper))
    }

    /// The one that a process has open.
    pub fn through(keeper: &Keeper) -> Option<Hub> {
        let open = |number: i32, kind: i32| {
            let path = format!("/proc/{}/fd/{number}", keeper.supervisor);
            let fd = namespace::open(Path::new(&path)).ok()?;
            namespace::kind(fd.as_fd())
                .is_ok_and(|found| found == kind)
                .then_some(fd)
        };
        let net = open(keeper.net, libc::CLONE_NEWNET)?;
        let user = match keeper.user {
            Some(number) => Some(open(number, libc::CLONE_NEWUSER)?),
            None => None,
        };
        // Looked at after they were opened: the pid was still its own then.
        keeper.is_alive().then_some(Hub { net, user })
    }

    fn make(ids: &IdMaps) -> anyhow::Result<Hub> {
        let has_user = !is_root(ids);
        let (ours, theirs) = socket::pair()?;
        let mut flags = libc::CLONE_NEWNET;
        if has_user {
            flags |= libc::CLONE_NEWUSER;
        }
        match process::clone(flags).map_err(explain)? {
            Side::Child => {
                drop(ours);
                // Where nothing can be set it has no address and no route all the same.
                let done = wait(&theirs).map(|()| still().ok().and(None));
                leave(&theirs, done)
            }
            Side::Parent(child) => {
                drop(theirs);
                let pid = child.pid.as_raw_pid();
                let made = open_both(pid, has_user).and_then(|hub| {
                    if has_user {
                        let same = same_ids(ids);
                        same.write(pid.cast_unsigned()).context("cannot map ids")?;
                    }
                    socket::send(ours.as_fd(), b"m", None)?;
                    answer(&ours)?;
                    Ok(hub)
                });
                drop(ours);
                process::wait(child.pidfd.as_fd())?;
                made
            }
        }
    }

    /// Does something in the hub, by a process of its own, and returns the descriptor that it has to give.
    ///
    /// Must: be called by a single-threaded process.
    pub fn inside(
        &self,
        act: impl FnOnce() -> anyhow::Result<Option<OwnedFd>>,
    ) -> anyhow::Result<Option<OwnedFd>> {
        self.start_inside(act)?.finish()
    }

    /// The same, beside what the caller does until [`Acting::finish`].
    ///
    /// Must: as `inside`.
    pub fn start_inside(
        &self,
        act: impl FnOnce() -> anyhow::Result<Option<OwnedFd>>,
    ) -> anyhow::Result<Acting> {
        let (ours, theirs) = socket::pair()?;
        match process::fork()? {
            Side::Child => {
                drop(ours);
                leave(&theirs, self.enter().and_then(|()| act()))
            }
            Side::Parent(child) => Ok(Acting {
                socket: ours,
                child,
            }),
        }
    }

    /// Makes this process one of the hub.
    pub fn enter(&self) -> anyhow::Result<()> {
        if let Some(user) = &self.user {
            process::setns(user.as_fd(), libc::CLONE_NEWUSER)
                .context("cannot join the user namespace of the networks")?;
        }
        process::setns(self.net.as_fd(), libc::CLONE_NEWNET)
            .context("cannot join the namespace of the networks")
    }

    /// The user namespace in which those of its containers are made.
    pub fn user(&self) -> Option<BorrowedFd<'_>> {
        self.user.as_ref().map(AsFd::as_fd)
    }

    /// What has to stay open.
    pub fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        std::iter::once(self.net.as_fd()).chain(self.user())
    }

    /// This process as one that has it open.
    pub fn keeper(&self, device: String) -> Keeper {
        let own = rustix::process::getpid();
        Keeper {
            supervisor: own.as_raw_pid(),
            start_ticks: process::start_ticks(own).unwrap_or(0),
            net: self.net.as_raw_fd(),
            user: self.user.as_ref().map(AsRawFd::as_raw_fd),
            device,
        }
    }
}

/// A process that does something in the hub.
pub struct Acting {
    socket: OwnedFd,
    child: Child,
}

impl Acting {
    pub fn finish(self) -> anyhow::Result<Option<OwnedFd>> {
        let answer = answer(&self.socket);
        process::wait(self.child.pidfd.as_fd())?;
        answer
    }
}

/// Whether this user has what it takes to make namespaces and lay cables where he is. Root of a container has not, nor
/// has a service whose capabilities are bounded.
fn is_root(ids: &IdMaps) -> bool {
    let has = |capability| caps::has_cap(None, CapSet::Effective, capability).unwrap_or(false);
    ids.writer == Writer::Privileged
        && has(Capability::CAP_SYS_ADMIN)
        && has(Capability::CAP_NET_ADMIN)
}

/// The ids of the user, each as itself.
fn same_ids(ids: &IdMaps) -> IdMaps {
    let same = |ranges: &[IdRange]| {
        let same = |range: &IdRange| IdRange {
            inside: range.outside,
            ..*range
        };
        ranges.iter().map(same).collect()
    };
    IdMaps {
        writer: ids.writer.clone(),
        uids: same(&ids.uids),
        gids: same(&ids.gids),
    }
}

fn open_both(pid: i32, has_user: bool) -> anyhow::Result<Hub> {
    let open = |name: &str| namespace::open(Path::new(&format!("/proc/{pid}/ns/{name}")));
    Ok(Hub {
        net: open("net")?,
        user: if has_user { Some(open("user")?) } else { None },
    })
}

/// Waits until the ids are mapped.
fn wait(socket: &OwnedFd) -> anyhow::Result<()> {
    let packet = socket::receive(socket.as_fd(), &mut [0; 1])?;
    if packet.length == 0 {
        bail!("its maker is gone");
    }
    Ok(())
}

/// The kernel of the hub speaks to nobody: no addresses of its own, and no way from one bridge to another.
fn still() -> anyhow::Result<()> {
    setting::set("ipv4/ip_forward", "0")?;
    setting::set("ipv6/conf/all/disable_ipv6", "1")?;
    setting::set("ipv6/conf/default/disable_ipv6", "1")
}

/// Ends the process, and says how it went.
fn leave(socket: &OwnedFd, done: anyhow::Result<Option<OwnedFd>>) -> ! {
    // Nobody is left to tell when the other end is gone.
    match done {
        Ok(fd) => socket::send(socket.as_fd(), b"{}", fd.as_ref().map(AsFd::as_fd)).ok(),
        Err(err) => {
            let told = serde_json::to_vec(&Told::of(&err)).unwrap_or_default();
            socket::send(socket.as_fd(), &told, None).ok()
        }
    };
    process::exit_now(0)
}

fn answer(socket: &OwnedFd) -> anyhow::Result<Option<OwnedFd>> {
    let mut buffer = vec![0; LIMIT];
    let packet = socket::receive(socket.as_fd(), &mut buffer)?;
    match &buffer[..packet.length] {
        b"" => bail!("the process that was to do it died"),
        b"{}" => Ok(packet.fd),
        told => Err(serde_json::from_slice::<Told>(told)?.into_error()),
    }
}

fn explain(err: SyscallError) -> anyhow::Error {
    fail(Kind::Unsupported, err.to_string()).hint(
        "`rbox doctor` tells what this system forbids; `--network private` needs no such namespace",
    )
}
