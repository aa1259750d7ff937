//! The command line, driven as its users drive it: one test binary, one file for each
//! subject. `support` is what the tests stand on; nothing here knows rbox from inside.
mod support;

mod attacks;
mod callers;
mod choosing;
mod complete;
mod crash;
mod devices;
mod emulation;
mod errors;
mod events;
mod exec;
mod fulldisk;
mod harness;
mod ids;
mod image;
mod isolation;
mod joining;
mod lifecycle;
mod limits;
mod logs;
mod machine;
mod metadata;
mod mount_attacks;
mod mounts;
mod namespaces;
mod nested;
mod network;
mod oci;
mod oci_attacks;
mod oci_crash;
mod oci_exec;
mod oci_hooks;
mod oci_spec;
mod process;
mod ps;
mod registry;
mod root;
mod run;
mod seccomp;
mod security;
mod terminal;
mod userns;
mod volumes;

