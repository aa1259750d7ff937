//! The verbs: create, start, stop, rm… across images, containers and the runtime. Takes typed
//! arguments, returns data, never prints.
//!
//! Lock order: the store's lock (shared, while references are made) before the run lock of a
//! container (held from start to end, and while it is removed). No verb holds two run locks.

pub mod connect;
pub mod create;
pub mod doctor;
pub mod exec;
pub mod images;
pub mod info;
pub mod remove;
pub mod start;
pub mod stop;

use crate::store::dirs::Dirs;

/// What every verb needs.
pub struct Engine {
    pub dirs: Dirs,
}

impl Engine {
    pub fn open() -> anyhow::Result<Engine> {
        Ok(Engine {
            dirs: Dirs::open()?,
        })
    }
}
