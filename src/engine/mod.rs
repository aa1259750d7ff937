//! The verbs: create, start, stop, rm… across images, containers and the runtime. Takes typed
//! arguments, returns data, never prints.
//!
//! Lock order: the store's lock (shared, while references are made) before the run lock of a
//! container (held from start to end, and while it is removed). No verb holds two run locks.

pub mod activation;
pub mod boot;
mod calls;
pub mod cdi;
pub mod changes;
pub mod check;
pub mod cleanup;
pub mod clone;
pub mod commit;
pub mod connect;
pub mod copy;
pub mod create;
pub mod devices;
pub mod dns;
pub mod doctor;
mod etc;
pub mod exec;
pub mod export;
pub mod groups;
pub mod health;
pub mod ids;
pub mod image_mounts;
pub mod images;
pub mod import;
pub mod info;
pub mod interfaces;
mod listening;
pub mod mounted;
mod namespaces;
pub mod networks;
pub mod pause;
pub mod places;
pub mod processes;
pub mod remove;
pub mod reset;
pub mod restart;
pub mod scp;
mod seccomp;
pub mod services;
pub mod sizes;
pub mod start;
pub mod stats;
pub mod stop;
pub mod sweep;
pub mod top;
pub mod update;
pub mod usage;
pub mod users;
pub mod variants;
mod visit;
pub mod volumes;

use std::cell::OnceCell;

use crate::config::ids::Ids;
use crate::store::dirs::Dirs;
use crate::store::dirs::Wish;

/// What every verb needs.
pub struct Engine {
    pub dirs: Dirs,
    /// Hears, in one line, of work that a person may have to wait for.
    pub note: fn(&str),
    /// Hears of what is done without, and what would help.
    pub warn: fn(&str, &str),
    ids: OnceCell<Ids>,
}

impl Engine {
    pub fn open(wish: &Wish) -> anyhow::Result<Engine> {
        Ok(Engine {
            dirs: Dirs::open(wish)?,
            note: |_| {},
            warn: |_, _| {},
            ids: OnceCell::new(),
        })
    }

    /// The ids that containers of this user get; looked up once, when first asked.
    pub fn ids(&self) -> anyhow::Result<&Ids> {
        if let Some(ids) = self.ids.get() {
            return Ok(ids);
        }
        let ids = Ids::detect()?;
        Ok(self.ids.get_or_init(|| ids))
    }
}
