//! rbox: a daemonless, rootless container engine in one static binary.
mod cli;
mod config;
mod container;
mod engine;
mod error;
mod image;
mod oci;
mod runtime;
mod store;
mod supervisor;
mod sys;
mod text;

fn main() {}
