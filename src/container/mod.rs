//! A container as it is on disk: what the user asked for, its name, its status, its log.
//!
//! ```text
//! DATA/containers/<id>/  config.json  what the user asked for, replaced by `update`
//!                        exit.json    how it ended last
//!                        wanted       it has a restart policy and is to run, also after a boot
//!                        started      empty: that it was started once
//!                        upper/ work/ merged/   its writable layer, made at the first start
//!                        ctr.log…     what it wrote (log/mod.rs)
//! DATA/names/<name>      -> ../containers/<id>: a container exists when its name points to it
//! RUN/containers/<id>/   lock         held by its supervisor for life: it runs iff this is locked
//!                        state.json   its processes
//!                        ctl          the supervisor's socket
//!                        health.json  what its health checks have found, if it has any
//!                        spec.json    the OCI runtime specification it was started with
//!                        hosts …      files shown in its /etc
//! ```

pub mod config;
pub mod events;
pub mod execs;
pub mod health;
pub mod log;
pub mod mounts;
pub mod name;
pub mod record;
pub mod spec;
pub mod status;
pub mod uses;
mod words;
