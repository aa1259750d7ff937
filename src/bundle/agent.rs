//! The seccomp agent: who answers the calls of a container that its profile leaves to somebody. It gets the listener
//! over the socket of `listenerPath` (OCI runtime specification, "containerProcessState").

use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::path::PathBuf;

use anyhow::Context;
use oci_spec::runtime::LinuxSeccomp;
use serde::Deserialize;
use serde::Serialize;

use crate::bundle::state::State;
use crate::bundle::state::Status;
use crate::sys::socket;

/// Where it is, and what it is told beside the state.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Agent {
    path: PathBuf,
    metadata: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ContainerProcessState<'a> {
    oci_version: &'a str,
    fds: [&'a str; 1],
    pid: i32,
    #[serde(skip_serializing_if = "str::is_empty")]
    metadata: &'a str,
    state: ContainerState<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ContainerState<'a> {
    oci_version: &'a str,
    id: &'a str,
    status: &'a str,
    pid: i32,
    bundle: &'a Path,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: &'a BTreeMap<String, String>,
}

impl Agent {
    pub fn of(profile: &LinuxSeccomp) -> Option<Agent> {
        Some(Agent {
            path: profile.listener_path().clone()?,
            metadata: profile.listener_metadata().clone().unwrap_or_default(),
        })
    }

    /// Sends the listener of the filter of `process`, in a container whose init is `init`.
    pub fn send(
        &self,
        listener: &OwnedFd,
        state: &State,
        status: Status,
        (init, process): (i32, i32),
    ) -> anyhow::Result<()> {
        let message = ContainerProcessState {
            oci_version: &state.oci_version,
            fds: ["seccompFd"],
            pid: process,
            metadata: &self.metadata,
            state: ContainerState {
                oci_version: &state.oci_version,
                id: &state.id,
                status: status.name(),
                pid: init,
                bundle: &state.bundle,
                annotations: &state.annotations,
            },
        };
        let bytes = serde_json::to_vec(&message)?;
        socket::connect_stream(&self.path)
            .and_then(|socket| socket::send(socket.as_fd(), &bytes, Some(listener.as_fd())))
            .with_context(|| format!("cannot reach the seccomp agent at {}", self.path.display()))
    }
}
