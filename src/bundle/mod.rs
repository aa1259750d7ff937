//! Containers made from bundles (`rbox oci`): a state directory each, no supervisor, nothing of the engine's store.
//!
//! ```text
//! ROOT = --root, else /run/rbox/oci (of an ordinary user: $XDG_RUNTIME_DIR/rbox/oci)
//!   <id>/              from "creating" to the end of delete; its name is what two callers of create compete for
//!     state.json       what is known of it; replaced whole
//!     config.json      its specification as it was created, which is what exec, start and delete go by
//!     start.sock       see runtime/gate.rs
//!   :<pid>-<start>     the same before it has a name; left behind by a creator that was killed, swept by list and delete
//! ```
//!
//! * What is in state.json at the moment of a crash is enough to remove everything: the control group is named before it
//!   is made, and an init whose creator has died before it noted it down ends by itself.
//! * The status is not written down. It follows from init, the creator, the mailbox and the control group.

pub mod agent;
pub mod console;
pub mod create;
pub mod end;
pub mod exec;

mod prepare;
pub mod root;
pub mod start;
pub mod state;
pub mod update;

pub use root::Root;
pub use state::Container;
pub use state::Status;
