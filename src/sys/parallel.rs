//! Much work of one kind, on all processors. Threads are gone when it is done: who forks later is alone again.

use std::num::NonZero;
use std::thread;
use std::thread::ScopedJoinHandle;

/// Fewer items are done sooner than threads are made.
const FEW: usize = 32;

/// The results in the order of the items.
pub fn map<T: Sync, R: Send>(items: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let workers = thread::available_parallelism().map_or(1, NonZero::get);
    if items.len() < FEW || workers == 1 {
        return items.iter().map(work).collect();
    }
    let work = &work;
    thread::scope(|scope| {
        let parts = items.chunks(items.len().div_ceil(workers));
        let parts: Vec<_> = parts
            .map(|part| scope.spawn(move || part.iter().map(work).collect::<Vec<R>>()))
            .collect();
        let joined = parts.into_iter().map(ScopedJoinHandle::join);
        joined
            .flat_map(|part| part.expect("a panic ends the program"))
            .collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_in_order() {
        for count in [0, 1, FEW - 1, FEW, 1001] {
            let items: Vec<usize> = (0..count).collect();
            let doubled: Vec<usize> = items.iter().map(|item| item * 2).collect();
            assert_eq!(map(&items, |item| item * 2), doubled);
        }
    }
}
