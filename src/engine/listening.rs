//! Sockets that listen for published ports before rbox runs: those of a service manager (sd_listen_fds(3)), and such
//! as an option names by their number. So a user who may not have a port gets it from somebody who may.

use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;

use anyhow::Context;
use rustix::net::SocketType;
use rustix::net::sockopt;

use crate::container::record::Container;
use crate::container::status::Status;
use crate::engine::Engine;
use crate::engine::activation::Activation;
use crate::error;
use crate::error::Kind;
use crate::error::WithHint;
use crate::error::fail;
use crate::network::stack::Given;
use crate::runtime::Preserved;
use crate::sys::fd;
use crate::text::publish::Protocol;
use crate::text::publish::Publish;

/// What is listened on already, and what is left for the container.
pub struct Taken {
    pub given: Vec<Given>,
    pub preserved: Vec<Preserved>,
    pub activation: Activation,
}

/// Takes what fits; nothing where nothing does.
pub fn take(
    publish: &[Publish],
    preserved: &[Preserved],
    activation: &Activation,
) -> anyhow::Result<Option<Taken>> {
    let mut given = Vec::new();
    let mut numbers = Vec::new();
    for asked in publish {
        if let Some(number) = asked.descriptor {
            given.push(by_number(asked, number)?);
            numbers.push(number);
        }
    }
    let sockets = activation.numbers();
    for one in preserved.iter().filter(|one| sockets.contains(&one.number)) {
        let Some((protocol, address)) = listens(one.fd.as_fd()) else {
            continue;
        };
        let fits = |asked: &&Publish| asked.is_at(address, protocol);
        if let Some(asked) = publish
            .iter()
            .find(fits)
            .filter(|_| !numbers.contains(&one.number))
        {
            let socket = one.fd.try_clone().context("cannot take over a socket")?;
            given.push(Given {
                socket,
                asked: *asked,
            });
            numbers.push(one.number);
        }
    }
    if given.is_empty() {
        return Ok(None);
    }
    let kept: Vec<i32> = sockets
        .clone()
        .filter(|number| !numbers.contains(number))
        .collect();
    let mut left = Vec::new();
    for one in preserved
        .iter()
        .filter(|one| !numbers.contains(&one.number))
    {
        // sd_listen_fds(3): they are numbered from 3 on.
        let place = kept
            .iter()
            .zip(3..)
            .find(|(number, _)| **number == one.number);
        left.push(Preserved {
            number: place.map_or(one.number, |(_, place)| place),
            fd: one.fd.try_clone().context("cannot pass on a descriptor")?,
        });
    }
    Ok(Some(Taken {
        given,
        preserved: left,
        activation: activation.with_sockets(&kept),
    }))
}

fn by_number(asked: &Publish, number: i32) -> anyhow::Result<Given> {
    let cannot = |why: &str| {
        let text = format!("cannot publish port \"{asked}\": descriptor {number} {why}");
        fail(Kind::Usage, text)
    };
    let socket = fd::of_caller(number).ok_or_else(|| cannot("is not open"))?;
    match listens(socket.as_fd()) {
        Some((protocol, _)) if protocol == asked.protocol => Ok(Given {
            socket,
            asked: *asked,
        }),
        Some((protocol, _)) => Err(cannot(&format!("is a socket of {protocol}"))),
        None => Err(cannot("is no socket that listens on an address")),
    }
}

/// Where, if it is such a socket.
fn listens(socket: BorrowedFd<'_>) -> Option<(Protocol, SocketAddr)> {
    let protocol = match sockopt::socket_type(socket).ok()? {
        SocketType::STREAM if sockopt::socket_acceptconn(socket).ok()? => Protocol::Tcp,
        SocketType::DGRAM => Protocol::Udp,
        _ => return None,
    };
    let address = rustix::net::getsockname(socket).ok()?;
    Some((protocol, address.try_into().ok()?))
}

/// Where a port is in use: by which container, if it is one of this user.
pub fn name_holder(engine: &Engine, container: &Container, err: anyhow::Error) -> anyhow::Error {
    let publish = &container.config.process.publish;
    if publish.is_empty() || error::kind(&err) != Some(Kind::Conflict) {
        return err;
    }
    let holds = |other: &Container| match other.status() {
        Ok(Status::Running(state)) => {
            let network = state.network.as_ref();
            let theirs = network.map_or(&[][..], |network| &network.published);
            let mut ours = publish.iter();
            ours.any(|one| theirs.iter().any(|other| one.clashes(other)))
        }
        _ => false,
    };
    let others = Container::list(&engine.dirs, |_| {}).unwrap_or_default();
    let mut others = others
        .iter()
        .filter(|other| other.config.id != container.config.id);
    match others.find(|other| holds(other)) {
        Some(holder) => {
            let name = &holder.name;
            err.hint(format!(
                "container \"{name}\" publishes it; or choose another port"
            ))
        }
        None => err,
    }
}
