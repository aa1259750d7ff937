//! The orders of `ps --sort`.

use crate::cli::ps::row::Row;
use crate::container::status::Status;

/// As podman has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Key {
    Command,
    Created,
    Id,
    Image,
    Names,
    Runningfor,
    Size,
    Status,
}

pub fn sort(rows: &mut [Row], key: Key) {
    // Stable: the newest first, where the key says nothing.
    match key {
        Key::Command => rows.sort_by_cached_key(|row| row.container.config.process.args()),
        Key::Created => rows.sort_by_key(|row| row.container.config.created),
        Key::Id => rows.sort_by(|a, b| a.container.config.id.cmp(&b.container.config.id)),
        Key::Image => rows.sort_by(|a, b| a.container.config.image.cmp(&b.container.config.image)),
        Key::Names => rows.sort_by(|a, b| a.container.name.cmp(&b.container.name)),
        Key::Runningfor => rows.sort_by_key(|row| match &row.status {
            Status::Created | Status::Unreadable(_) => None,
            Status::Running(state) => Some(state.started),
            Status::Restarting(exit) | Status::Exited(exit) => Some(exit.started),
        }),
        Key::Size => rows.sort_by_key(|row| row.size.map(|size| size.written)),
        Key::Status => rows.sort_by_key(|row| row.status.name()),
    }
}
