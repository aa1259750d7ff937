//! Control groups of version 2: making, filling, limiting, counting.
//!
//! ```text
//! hierarchy   which version this machine has, where the tree is, what of it is ours; the texts that help
//! group       a group: make, open, enter, enable controllers, remove
//! settings    resources of a config.json ──► (file, value), pure;  apply writes them
//! control     freeze, thaw, kill, list processes
//! stats       what the kernel counted
//! devices     rules for devices ──► eBPF program on a group
//! systemd     scopes: groups that systemd makes on request, over D-Bus
//! place       the group of a container of the OCI runtime
//! ```
//!
//! Nothing here knows a container, and nothing is written to disk. All work is done by descriptors
//! of directories of the cgroup2 file system, and all waiting is bounded.

mod apply;
mod control;
pub mod devices;
mod group;
mod hierarchy;
pub mod place;
mod settings;
mod stats;
pub mod systemd;
#[cfg(test)]
mod tests;

pub use group::Group;
pub use hierarchy::Hierarchy;
pub use hierarchy::UNIFY;
pub use hierarchy::Version;
pub use hierarchy::WANTED;
pub use hierarchy::delegation;
pub use hierarchy::is_unified;
pub use settings::Setting;
pub use settings::Settings;
pub use settings::settings;
pub use stats::Device;
pub use stats::Stall;
pub use stats::Stats;
