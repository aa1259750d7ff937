//! What the command line tests stand on: users, environments, calls with every byte
//! asserted, images made by other tools, registries, a terminal, and the leak check.
pub mod account;
pub mod archive;
pub mod bundle;
pub mod call;
pub mod cutter;
pub mod filter;
pub mod guarded;
pub mod hostile;
pub mod images;
pub mod leaks;
pub mod liar;
pub mod net;
pub mod odd;
pub mod packages;
pub mod place;
pub mod processes;
pub mod random;
pub mod rbox;
pub mod registry;
pub mod remote;
pub mod skip;
pub mod tmux;

pub use rbox::Rbox;
