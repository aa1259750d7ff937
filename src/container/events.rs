//! What happens to containers, for the journal.

use std::collections::BTreeMap;

use crate::container::record::Container;
use crate::container::status::Exit;
use crate::store::dirs::Dirs;
use crate::store::journal;
use crate::store::journal::Event;

/// An event of a container, with its labels, as Docker and Podman have it.
pub fn of(container: &Container, action: &str) -> Event {
    let config = &container.config;
    Event {
        image: config.image.clone(),
        attributes: config.labels.clone(),
        ..Event::new("container", action, &config.id, &container.name)
    }
}

pub fn add(dirs: &Dirs, container: &Container, action: &str) {
    journal::add(dirs, &of(container, action));
}

/// The same, with more to say.
pub fn add_with(dirs: &Dirs, container: &Container, action: &str, more: &[(&str, String)]) {
    let mut event = of(container, action);
    extend(&mut event.attributes, more);
    journal::add(dirs, &event);
}

fn extend(attributes: &mut BTreeMap<String, String>, more: &[(&str, String)]) {
    for (key, value) in more {
        attributes.insert((*key).to_owned(), value.clone());
    }
}

/// The end of a run, and how often it met its limits if it did.
pub fn died(container: &Container, exit: &Exit) -> Event {
    let mut event = of(container, "died");
    event.exit_code = Some(exit.status);
    let limited = exit.limited;
    let counts = [
        ("oomKills", limited.oom_kills),
        ("pidsRefused", limited.pids_refused),
        ("throttledPeriods", limited.throttled_periods),
        ("throttledMicroseconds", limited.throttled_microseconds),
    ];
    let counts = counts.into_iter().filter(|(_, count)| *count > 0);
    let counts: Vec<_> = counts
        .map(|(key, count)| (key, count.to_string()))
        .collect();
    extend(&mut event.attributes, &counts);
    if let Some(signal) = exit.signal {
        extend(&mut event.attributes, &[("signal", signal.to_string())]);
    }
    event
}
