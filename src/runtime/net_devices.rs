//! Network interfaces of the host that a container gets (`linux.netDevices`): moved into its network namespace with their
//! addresses, and up.

use std::os::fd::AsFd;
use std::os::fd::AsRawFd;
use std::os::fd::OwnedFd;
use std::path::Path;

use anyhow::Context;
use oci_spec::runtime::Spec;
use rustix::io::Errno;
use rustix::process::Pid;

use crate::error::Kind;
use crate::error::fail;
use crate::sys::SyscallError;
use crate::sys::namespace;
use crate::sys::netlink;
use crate::sys::netlink::Batch;
use crate::sys::netlink::Body;
use crate::sys::process;

/// Linux: linux/if_addr.h.
const IFA_F_PERMANENT: u8 = 0x80;

/// Bytes of `struct ifaddrmsg`.
const IFADDRMSG: usize = 8;

/// An interface of the host: the name it has, the one it gets, and what of its addresses goes with it.
struct Moved<'a> {
    name: &'a str,
    target: &'a str,
    index: u32,
    addresses: Vec<Body>,
}

/// Moves them to the network namespace of a process, and makes them work there.
///
/// Must: be called by a single-threaded process.
pub fn hand_over(spec: &Spec, init: Pid) -> anyhow::Result<()> {
    let linux = spec.linux().as_ref();
    let wanted = linux.and_then(|linux| linux.net_devices().as_ref());
    let mut wanted: Vec<(&str, &str)> = wanted
        .into_iter()
        .flatten()
        .map(|(name, device)| (&**name, device.name().as_deref().unwrap_or(name)))
        .collect();
    if wanted.is_empty() {
        return Ok(());
    }
    wanted.sort_unstable();
    let path = format!("/proc/{}/ns/net", init.as_raw_pid());
    let there = namespace::open(Path::new(&path))?;
    for (name, target) in wanted {
        let moved = look_at(name, target)?;
        moved.go(&there).map_err(|err| explain(name, err))?;
        inside(&there, || moved.arrive())
            .with_context(|| format!("cannot set up network interface \"{target}\""))?;
    }
    Ok(())
}

fn look_at<'a>(name: &'a str, target: &'a str) -> anyhow::Result<Moved<'a>> {
    let cannot = || format!("cannot move network interface \"{name}\"");
    let index = netlink::interface(name).map_err(|err| match err.errno {
        Errno::NODEV => fail(Kind::NotFound, "the host has no such interface").context(cannot()),
        _ => anyhow::Error::new(err).context(cannot()),
    })?;
    let all = netlink::dump(libc::RTM_GETADDR, &Body::new(&[0; IFADDRMSG])).with_context(cannot)?;
    let addresses = all.iter().filter_map(|message| kept(message, index));
    Ok(Moved {
        name,
        target,
        index,
        addresses: addresses.collect(),
    })
}

/// The request for an address that is to be kept: those that somebody gave it for ever, and that hold everywhere.
fn kept(message: &[u8], index: u32) -> Option<Body> {
    let [family, prefix, flags, scope] = *message.first_chunk::<4>()?;
    let of: [u8; 4] = message.get(4..IFADDRMSG)?.try_into().ok()?;
    if u32::from_ne_bytes(of) != index
        || flags & IFA_F_PERMANENT == 0
        || scope != libc::RT_SCOPE_UNIVERSE
    {
        return None;
    }
    // The index is not known before it is there.
    let mut body = Body::new(&[family, prefix, flags, scope, 0, 0, 0, 0]);
    for (kind, value) in netlink::attributes(&message[IFADDRMSG..]) {
        if matches!(
            kind,
            libc::IFA_LOCAL | libc::IFA_ADDRESS | libc::IFA_BROADCAST
        ) {
            body = body.with(kind, value);
        }
    }
    Some(body)
}

impl Moved<'_> {
    fn go(&self, there: &OwnedFd) -> Result<(), SyscallError> {
        let mut name = self.target.as_bytes().to_vec();
        name.push(0);
        let body = Body::new(&link(self.index, 0))
            .with(libc::IFLA_NET_NS_FD, &there.as_raw_fd().to_ne_bytes())
            .with(libc::IFLA_IFNAME, &name);
        let mut batch = Batch::default();
        let what = format!("RTM_NEWLINK, {} to {}", self.name, self.target);
        batch.push(libc::RTM_NEWLINK, 0, &body, what);
        batch.run()
    }

    /// In the network namespace of the container.
    fn arrive(&self) -> anyhow::Result<()> {
        let index = netlink::interface(self.target)?;
        let mut batch = Batch::default();
        for address in &self.addresses {
            let flags = libc::NLM_F_CREATE | libc::NLM_F_REPLACE;
            let body = address.clone().with_head(4, &index.to_ne_bytes());
            batch.push(libc::RTM_NEWADDR, flags, &body, "RTM_NEWADDR".into());
        }
        let up = u32::try_from(libc::IFF_UP).expect("a flag");
        let body = Body::new(&link(index, up));
        batch.push(libc::RTM_NEWLINK, 0, &body, "RTM_NEWLINK, up".into());
        Ok(batch.run()?)
    }
}

/// `struct ifinfomsg`: family, type, index, flags, and which flags change.
fn link(index: u32, flags: u32) -> Vec<u8> {
    let mut head = vec![0; 4];
    for field in [index, flags, flags] {
        head.extend(field.to_ne_bytes());
    }
    head
}

fn explain(name: &str, err: SyscallError) -> anyhow::Error {
    let why = match err.errno {
        Errno::PERM => "only root of the host may move it",
        Errno::EXIST => "the name is taken in the container",
        Errno::INVAL => "it belongs to its network namespace and cannot be moved",
        _ => "the kernel refuses it",
    };
    let text = format!("cannot move network interface \"{name}\": {why}: {err}");
    fail(Kind::Unsupported, text)
}

/// Does something in another network namespace.
fn inside<T>(there: &OwnedFd, action: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<T> {
    let own = namespace::own("net")?;
    process::setns(there.as_fd(), libc::CLONE_NEWNET)?;
    let done = action();
    process::setns(own.as_fd(), libc::CLONE_NEWNET)?;
    done
}
