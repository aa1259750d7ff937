//! Commands that have joined a container: for each a file in its runtime directory, locked by the process
//! that waits for the command. What a process that was killed leaves behind is not locked.

use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;

use crate::container::record::Container;
use crate::store::atomic;
use crate::store::lock::Lock;

/// A command that runs, until this is dropped.
pub struct Entry(Option<Lock>);

/// Enters a command. A container that is going away has no place for it, and nobody who asks.
pub fn enter(container: &Container, id: &str) -> Entry {
    let dir = container.run.join("exec");
    atomic::make_dir(&dir).ok();
    Entry(Lock::exclusive(&dir.join(id)).ok())
}

impl Entry {
    /// What must stay open.
    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.0.as_ref().map(AsFd::as_fd)
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        if let Some(lock) = self.0.take() {
            lock.remove();
        }
    }
}

/// The ids of those that run.
pub fn running(container: &Container) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(container.run.join("exec")) else {
        return vec![];
    };
    let mut ids = Vec::new();
    for entry in entries.flatten() {
        match Lock::try_exclusive(&entry.path()) {
            Ok(Some(left)) => left.remove(),
            Ok(None) => ids.extend(entry.file_name().into_string()),
            Err(_) => {}
        }
    }
    ids.sort_unstable();
    ids
}
