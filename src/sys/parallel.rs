//! Much work of one kind, on all processors. Threads are gone when it is done: who forks later is alone again.

use std::num::NonZero;
use std::sync::mpsc;
use std::thread;
use std::thread::ScopedJoinHandle;

use crate::sys::process;

/// Fewer items are done sooner than threads are made.
const FEW: usize = 32;

/// The results in the order of the items.
pub fn map<T: Sync, R: Send>(items: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let workers = thread::available_parallelism().map_or(1, NonZero::get);
    if items.len() < FEW || workers == 1 {
        return items.iter().map(work).collect();
    }
    let work = &work;
    process::expect_much_memory();
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

/// Work on pieces that come one after the other: done on all processors, its results handed on in order.
/// Only a few pieces are in memory at a time. The first error of any of the three ends it.
pub fn in_order<T: Send, R: Send, E: Send>(
    mut next: impl FnMut() -> Result<Option<T>, E>,
    work: impl Fn(T) -> Result<R, E> + Sync,
    mut hand_on: impl FnMut(R) -> Result<(), E> + Send,
) -> Result<(), E> {
    let workers = thread::available_parallelism().map_or(1, NonZero::get);
    let work = &work;
    thread::scope(|scope| {
        let (mut senders, mut receivers) = (Vec::new(), Vec::new());
        for _ in 0..workers {
            let (send, pieces) = mpsc::sync_channel::<T>(1);
            let (send_result, results) = mpsc::sync_channel(1);
            scope.spawn(move || {
                for piece in pieces {
                    // Nobody listens any more after an error.
                    if send_result.send(work(piece)).is_err() {
                        break;
                    }
                }
            });
            senders.push(send);
            receivers.push(results);
        }
        // Piece n is with worker n modulo their number: taken round and round, results are in order.
        let writer = scope.spawn(move || {
            for results in receivers.iter().cycle() {
                match results.recv() {
                    Ok(result) => hand_on(result?)?,
                    Err(_) => break,
                }
            }
            Ok(())
        });
        let mut read = Ok(());
        for sender in senders.iter().cycle() {
            let sent = match next() {
                Ok(Some(piece)) => sender.send(piece).is_ok(),
                Ok(None) => false,
                Err(err) => {
                    read = Err(err);
                    false
                }
            };
            if !sent {
                break;
            }
        }
        drop(senders);
        let written = writer.join().expect("a panic ends the program");
        written.and(read)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_come_out_in_order_and_errors_end_it() {
        for count in [0_u32, 1, 2, 3, 100] {
            let (mut at, mut found) = (0, Vec::new());
            let next = || {
                at += 1;
                Ok((at <= count).then_some(at))
            };
            let hand_on = |piece| {
                found.push(piece);
                Ok::<(), String>(())
            };
            in_order(next, |piece| Ok(piece * 2), hand_on).unwrap();
            assert_eq!(
                found,
                (1..=count).map(|piece| piece * 2).collect::<Vec<_>>()
            );
        }
        let endless = || Ok(Some(1_u32));
        let bad = |_| Err("work".to_owned());
        assert_eq!(in_order(endless, bad, |()| Ok(())), Err("work".to_owned()));
        let full = |_| Err("write".to_owned());
        assert_eq!(in_order(endless, Ok, full), Err("write".to_owned()));
        let broken = || Err::<Option<u32>, String>("read".to_owned());
        assert_eq!(in_order(broken, Ok, |_| Ok(())), Err("read".to_owned()));
    }

    #[test]
    fn results_are_in_order() {
        for count in [0, 1, FEW - 1, FEW, 1001] {
            let items: Vec<usize> = (0..count).collect();
            let doubled: Vec<usize> = items.iter().map(|item| item * 2).collect();
            assert_eq!(map(&items, |item| item * 2), doubled);
        }
    }
}
