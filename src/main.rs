//! rbox: a daemonless, rootless container engine in one static binary.
//!
//! # Processes
//!
//! One binary; `main` picks the role before anything else happens.
//!
//! | process | lives | does |
//! |---|---|---|
//! | command (`rbox run …`) | one command | parses, reads and writes records, starts a supervisor, stays with its streams |
//! | supervisor (`rbox: NAME`) | as long as its container | makes the container; streams, log, control socket, exit; a fork of the command |
//! | network process (`rbox-net: NAME`) | a run of its container | carries frames of the container to sockets of the host, and back; a confined fork of the supervisor |
//! | init, joiner | milliseconds | a fork of the supervisor (`run`) or the command (`exec`) that becomes the container's process |
//! | init of `rbox oci create` | until `start` | a fork of the command, and from then on of whoever reaps; waits at its gate (runtime/gate.rs) |
//! | trampoline (`rbox-exec`) | microseconds | executes the container's command, from a read-only clone of this binary |
//! | helper (`rbox unpack …`) | one layer or one tree | unpacks and removes files of other ids, confined |
//!
//! Namespaces are made and joined by single-threaded processes only. Threads exist while layers are
//! fetched or many records are read, and have ended before anything forks that goes on with our code. The user's `newuidmap` and
//! `newgidmap` are executed, which rbox works without, and the programs that the user names: hooks,
//! credential helpers, and ssh for `image scp`.
//!
//! # Rows
//!
//! Imports point down only, and not sideways; `tests/tidy.rs` checks it.
//!
//! | row | modules | knows |
//! |---|---|---|
//! | 1 | `cli` | the command line, the terminal, what is printed |
//! | 2 | `engine` | the verbs across images, containers and the runtime |
//! | 3 | `supervisor` | the process beside one container |
//! |   | `bundle` | containers of the OCI runtime, which have no supervisor |
//! | 4 | `cgroup`, `container`, `image`, `network`, `volume`, `runtime` | their own state and kernel objects, not each other |
//! | 5 | `store` | records, locks, blobs, directories |
//! | 6 | `oci`, `config` | plain types; what this user and machine allow |
//! | 7 | `sys` | the kernel, and all `unsafe` |
//! | 8 | `error`, `text` | errors with hints; text in and out |
//!
//! An option has three forms: flag (`cli::flags`), `container::config::Config` on disk, OCI runtime
//! specification (`container::spec`).
//!
//! # Files
//!
//! ```text
//! DATA = $XDG_DATA_HOME/rbox   (root: /var/lib/rbox)
//!   containers/ names/                  see container/mod.rs
//!   images/ blobs/ layers/ tmp/         see image/mod.rs
//!   volumes/                            see volume/mod.rs; made with the first volume
//!   networks/                           see network/record.rs; made with the first network
//!   events/                             see store/journal.rs; made with the first event
//!   cache/seccomp/                      see engine/seccomp.rs; made with the first profile
//!   cache/packed/                       see image/registry/push/layer.rs; made with the first push that compresses
//!   shared                              in a store of images for all users; see store/additional.rs
//!   lock                                shared: references are being made; exclusive: collection
//! RUN = $XDG_RUNTIME_DIR/rbox  (root: /run/rbox)
//!   containers/<id>/                    gone after a reboot, which is the truth
//!   networks/                           who is on which: network/members.rs, network/hub.rs
//!   oci/<id>/                           of `rbox oci`, unless it is told another place; see bundle/mod.rs
//! ```
//!
//! A record is one JSON file: temp, fsync, rename, fsync of the directory. What must vanish with a
//! process is tied to it by the kernel: locks to open files, mounts to a mount namespace, the
//! container to its supervisor. What is left after a crash is files that nothing refers to.
//!
//! # Choices
//!
//! * Even for root a container has a user namespace of its own, with the ids as they are: its root has
//!   no capability over the host, unless `--userns=host` asks for that.
//! * There is no map between a container's ids and those of the host: layers are copied for maps other than the
//!   usual one (`image::shifted`). Only on networks with names a user namespace is between, in which each id is what it
//!   is on the host (`network::hub`).
//! * No process serves a network: bridges are the kernel's, the way to the world is each container's own, and who is
//!   where is in files (`network`).
//! * The supervisor and init are forks, not new programs: no start-up of a program (0.7 ms each), and
//!   their memory belongs to the host's user namespace, out of reach for a container.
//! * Position-dependent static code: nothing is relocated at start, and supervisors share all of it.

mod bundle;
mod cgroup;
mod cli;
mod config;
mod container;
mod engine;
mod error;
mod image;
mod network;
mod oci;
mod runtime;
mod store;
mod supervisor;
mod sys;
mod text;
mod volume;

/// The bodies of the fuzz targets, run for a short time by the tests.
#[cfg(test)]
#[path = "../fuzz/bodies.rs"]
mod fuzz;

use std::ffi::OsString;
use std::process::ExitCode;

use crate::cli::output;

fn main() -> ExitCode {
    #[cfg(panic = "unwind")]
    abort_on_panic();
    let args: Vec<OsString> = std::env::args_os().collect();
    if args
        .first()
        .is_some_and(|name| name == runtime::trampoline::NAME)
    {
        runtime::trampoline::main(args);
    }
    if args.get(1).is_some_and(|role| role == store::helper::ROLE) {
        return image::unpack::main(&args[2..]);
    }
    match cli::main(args) {
        Ok(status) => ExitCode::from(status),
        Err(err) => {
            output::print_error(&err);
            ExitCode::from(error::status(&err))
        }
    }
}

/// As the release build does it: a process that was forked must not unwind into what it has of its parent.
#[cfg(panic = "unwind")]
fn abort_on_panic() {
    let print = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        print(info);
        std::process::abort();
    }));
}
