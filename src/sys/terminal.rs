//! Pseudo-terminals and terminal modes.
#![expect(
    unsafe_code,
    reason = "TIOCSCTTY with its argument has no safe wrapper"
)]

use std::os::fd::AsRawFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::OFlags;
use rustix::pty::OpenptFlags;
use rustix::termios::OptionalActions;
use rustix::termios::Termios;
use rustix::termios::Winsize;

use crate::sys::Call;
use crate::sys::Result;
use crate::sys::path;
use crate::sys::process::check;

/// Both ends of a new pseudo-terminal.
pub struct Pty {
    pub master: OwnedFd,
    pub slave: OwnedFd,
}

/// A pseudo-terminal of the devpts instance that is mounted at `dev/pts` below `root`.
///
/// The slave is opened through the master (TIOCGPTPEER, Linux 4.13), never by its path, which
/// the container could have replaced.
pub fn open_pty(root: BorrowedFd<'_>) -> Result<Pty> {
    let master = path::open_in_root(
        root,
        Path::new("/dev/pts/ptmx"),
        OFlags::RDWR | OFlags::NOCTTY,
    )?;
    rustix::pty::unlockpt(&master).call(|| "ioctl(TIOCSPTLCK)".into())?;
    let slave = rustix::pty::ioctl_tiocgptpeer(
        &master,
        OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC,
    )
    .call(|| "ioctl(TIOCGPTPEER)".into())?;
    Ok(Pty { master, slave })
}

/// Makes the terminal the controlling one of this (session leading) process.
pub fn set_controlling(terminal: BorrowedFd<'_>) -> Result<()> {
    // SAFETY: TIOCSCTTY takes an integer; 0 steals no terminal from another session.
    let result = unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCSCTTY, 0) };
    check(result.into(), || "ioctl(TIOCSCTTY)".into())
}

/// The window size as rows and columns; `None` if this is no terminal.
pub fn size(fd: BorrowedFd<'_>) -> Option<(u16, u16)> {
    let size = rustix::termios::tcgetwinsize(fd).ok()?;
    Some((size.ws_row, size.ws_col))
}

pub fn set_size(fd: BorrowedFd<'_>, rows: u16, columns: u16) -> Result<()> {
    let size = Winsize {
        ws_row: rows,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    rustix::termios::tcsetwinsize(fd, size).call(|| "ioctl(TIOCSWINSZ)".into())
}

/// A terminal in raw mode; its former mode comes back on drop.
pub struct Raw<'a> {
    terminal: BorrowedFd<'a>,
    before: Termios,
}

impl<'a> Raw<'a> {
    pub fn enter(terminal: BorrowedFd<'a>) -> Result<Raw<'a>> {
        let before = rustix::termios::tcgetattr(terminal).call(|| "tcgetattr".into())?;
        let mut raw = before.clone();
        raw.make_raw();
        rustix::termios::tcsetattr(terminal, OptionalActions::Now, &raw)
            .call(|| "tcsetattr".into())?;
        Ok(Raw { terminal, before })
    }
}

impl Drop for Raw<'_> {
    fn drop(&mut self) {
        // The terminal may be gone by now; then there is nothing to restore.
        rustix::termios::tcsetattr(self.terminal, OptionalActions::Drain, &self.before).ok();
    }
}
