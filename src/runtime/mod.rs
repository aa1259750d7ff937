//! Bundle to process: namespaces, mounts, credentials, seccomp. Knows nothing of images or networks.
pub mod seccomp;
