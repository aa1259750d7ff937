//! Writes to procfs that no tree of mounts can redirect: a container may have put a file system of
//! its own, or a link, where /proc is, and what was meant for the kernel would go there (CVE-2025-52881).

use std::io::Write;
use std::os::fd::AsFd;
use std::os::fd::OwnedFd;
use std::path::Path;

use anyhow::Context;
use anyhow::ensure;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::fs::ResolveFlags;

use crate::sys::mount::Attributes;
use crate::sys::mount::FileSystem;
use crate::sys::process;

/// A procfs, found before anything of a container is in reach.
pub struct Procfs(OwnedFd);

impl Procfs {
    /// Must: be called where /proc is still the host's.
    pub fn open() -> anyhow::Result<Procfs> {
        // Linux: a new procfs needs one that is fully visible (mount_too_revealing()), which in a
        // container with masked paths none is; the one that is there shows the same processes.
        let fresh = FileSystem::open("proc").and_then(|fs| fs.mount(Attributes::empty()));
        let root = match fresh {
            Ok(root) => root,
            Err(_) => rustix::fs::open(
                "/proc",
                OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
                Mode::empty(),
            )
            .context("cannot open /proc")?,
        };
        let kind = rustix::fs::fstatfs(&root).context("cannot look at /proc")?;
        ensure!(
            kind.f_type == rustix::fs::PROC_SUPER_MAGIC,
            "/proc is no procfs"
        );
        Ok(Procfs(root))
    }

    /// Writes to a file of it, such as `thread-self/attr/exec`, in one call.
    pub fn write(&self, path: &str, value: &str) -> anyhow::Result<()> {
        let cannot = || format!("cannot write \"{value}\" to /proc/{path}");
        // Linux: thread-self is an ordinary link inside procfs; what is mounted over a file is another
        // file system.
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_XDEV;
        let file = process::retry(|| {
            let flags = OFlags::WRONLY | OFlags::CLOEXEC;
            rustix::fs::openat2(
                self.0.as_fd(),
                Path::new(path),
                flags,
                Mode::empty(),
                resolve,
            )
        })
        .with_context(cannot)?;
        std::fs::File::from(file)
            .write_all(value.as_bytes())
            .with_context(cannot)
    }
}
