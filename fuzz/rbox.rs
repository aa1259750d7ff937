// All of rbox, with the targets' bodies: this is the root of every target.
#[path = "../src/bundle/mod.rs"]
mod bundle;
#[path = "../src/cgroup/mod.rs"]
mod cgroup;
#[path = "../src/cli/mod.rs"]
mod cli;
#[path = "../src/config/mod.rs"]
mod config;
#[path = "../src/container/mod.rs"]
mod container;
#[path = "../src/engine/mod.rs"]
mod engine;
#[path = "../src/error.rs"]
mod error;
#[path = "../src/image/mod.rs"]
mod image;
#[path = "../src/network/mod.rs"]
mod network;
#[path = "../src/oci/mod.rs"]
mod oci;
#[path = "../src/runtime/mod.rs"]
mod runtime;
#[path = "../src/store/mod.rs"]
mod store;
#[path = "../src/supervisor/mod.rs"]
mod supervisor;
#[path = "../src/sys/mod.rs"]
mod sys;
#[path = "../src/text/mod.rs"]
mod text;
#[path = "../src/volume/mod.rs"]
mod volume;
#[path = "bodies.rs"]
mod bodies;
