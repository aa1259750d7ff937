//! What a service manager gives to the process that starts a container, which the container or its
//! supervisor is to have: the socket of sd_notify(3), and those of sd_listen_fds(3).

use std::ops::Range;

use anyhow::Context;
use rustix::net::SocketAddrUnix;

use crate::container::config::sdnotify::SdNotify;
use crate::container::record::Container;
use crate::error::Kind;
use crate::error::WithHint;
use crate::error::fail;
use crate::runtime::Preserved;
use crate::runtime::trampoline;
use crate::supervisor::sdnotify::Order;
use crate::sys::fd;

/// Where a container sees the socket: in a file system that is of this start alone.
const INSIDE: &str = "/dev/notify";

/// Variables that are about the process that has them.
pub const VARIABLES: [&str; 7] = [
    "NOTIFY_SOCKET",
    "WATCHDOG_USEC",
    "WATCHDOG_PID",
    "LISTEN_FDS",
    "LISTEN_PID",
    "LISTEN_FDNAMES",
    "LISTEN_PIDFDID",
];

#[derive(Clone, Debug, Default)]
pub struct Activation {
    /// `NOTIFY_SOCKET`.
    notify: Option<String>,
    /// Within how many microseconds signs of life are expected of us.
    watchdog: Option<u64>,
    /// How many sockets, from descriptor 3 on, and what they are called.
    sockets: u32,
    names: Option<String>,
    /// Instead of what the container was created with.
    who: Option<SdNotify>,
}

impl Activation {
    /// Nothing.
    pub const NONE: Activation = Activation {
        notify: None,
        watchdog: None,
        sockets: 0,
        names: None,
        who: None,
    };

    /// What this process was given.
    pub fn of_caller() -> Activation {
        let text = |name| {
            std::env::var(name)
                .ok()
                .filter(|text: &String| !text.is_empty())
        };
        let number = |name| text(name)?.parse::<u64>().ok();
        let us = Some(u64::from(std::process::id()));
        let sockets = number("LISTEN_FDS")
            .filter(|_| number("LISTEN_PID") == us)
            .and_then(|count| u32::try_from(count).ok())
            .unwrap_or(0);
        Activation {
            notify: text("NOTIFY_SOCKET"),
            watchdog: number("WATCHDOG_USEC")
                .filter(|_| text("WATCHDOG_PID").is_none() || number("WATCHDOG_PID") == us),
            names: text("LISTEN_FDNAMES").filter(|_| sockets > 0),
            sockets,
            who: None,
        }
    }

    /// It is told by somebody else than the container was created with.
    pub fn told_by(mut self, who: Option<SdNotify>) -> Activation {
        self.who = who;
        self
    }

    /// The same for a run that does not get the sockets.
    pub fn without_sockets(&self) -> Activation {
        Activation {
            sockets: 0,
            names: None,
            ..self.clone()
        }
    }

    /// The numbers of the sockets.
    pub fn numbers(&self) -> Range<i32> {
        3..i32::try_from(self.sockets).unwrap_or(0).saturating_add(3)
    }

    /// The same for a container that gets only these of the sockets, by their numbers.
    pub fn with_sockets(&self, kept: &[i32]) -> Activation {
        let names = self.names.as_ref().map(|names| {
            let names = self.numbers().zip(names.split(':'));
            let names = names.filter(|(number, _)| kept.contains(number));
            names.map(|(_, name)| name).collect::<Vec<_>>().join(":")
        });
        Activation {
            sockets: u32::try_from(kept.len()).unwrap_or(0),
            names: names.filter(|_| !kept.is_empty()),
            ..self.clone()
        }
    }

    /// The sockets, after which come other descriptors of the caller.
    pub fn preserve(&self, mut others: Vec<Preserved>) -> anyhow::Result<Vec<Preserved>> {
        let mut all = Vec::new();
        for number in (3..).take(self.sockets as usize) {
            let fd = fd::of_caller(number).ok_or_else(|| {
                let text = format!(
                    "LISTEN_FDS=\"{}\": descriptor {number} is not open",
                    self.sockets
                );
                fail(Kind::Usage, text)
            })?;
            all.push(Preserved { number, fd });
        }
        others.retain(|other| all.iter().all(|known| known.number != other.number));
        all.append(&mut others);
        Ok(all)
    }

    fn who(&self, container: &Container) -> SdNotify {
        let asked = self.who.or(container.config.process.sdnotify);
        asked.unwrap_or(SdNotify::Container)
    }

    /// What the supervisor is to tell.
    pub fn order(&self, container: &Container, foreground: bool) -> anyhow::Result<Option<Order>> {
        let who = self.who(container);
        let Some(text) = self.notify.as_ref().filter(|_| who != SdNotify::Ignore) else {
            return Ok(None);
        };
        let address = address(text)
            .with_context(|| format!("NOTIFY_SOCKET=\"{text}\""))
            .hint("`--sdnotify ignore` does without it")?;
        Ok(Some(Order {
            address,
            who,
            main: !foreground,
        }))
    }

    /// Whether the container's programs tell, and where they see the socket.
    pub fn inside(&self, container: &Container) -> Option<&'static str> {
        let told = self.notify.is_some() && self.who(container) == SdNotify::Container;
        told.then_some(INSIDE)
    }

    /// Variables of the container's process.
    pub fn environment(&self, container: &Container) -> Vec<String> {
        let mut variables = Vec::new();
        if let Some(place) = self.inside(container) {
            variables.push(format!("NOTIFY_SOCKET={place}"));
            variables.extend(self.watchdog.map(|time| format!("WATCHDOG_USEC={time}")));
        }
        if self.sockets > 0 {
            variables.push(format!("LISTEN_FDS={}", self.sockets));
            variables.push(trampoline::OWN_LISTEN_PID.to_owned());
            let names = self.names.iter();
            variables.extend(names.map(|names| format!("LISTEN_FDNAMES={names}")));
        }
        variables
    }
}

/// As sd_notify(3) has it.
fn address(text: &str) -> anyhow::Result<SocketAddrUnix> {
    match text.strip_prefix('@') {
        Some(name) => Ok(SocketAddrUnix::new_abstract_name(name.as_bytes())?),
        None if text.starts_with('/') => Ok(SocketAddrUnix::new(text)?),
        None => Err(fail(Kind::Usage, "expected an absolute path or @NAME")),
    }
}
