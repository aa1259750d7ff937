//! A table whose places are used again, under names that are not: what was said of one that is gone is never
//! taken for its successor. And the moments at which something is to happen to them.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Instant;

/// What an event is about: 8 bits of kind, 24 of generation, 32 of place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Token(pub u64);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Tap,
    Timer,
    TcpListener,
    UdpListener,
    Tcp,
    Udp,
    Ping,
    Dns,
    DnsClient,
    Router,
    /// The client's end of a connection that bypasses the frames, and the container's.
    Outer,
    Inner,
    Orders,
}

const KINDS: [Kind; 13] = [
    Kind::Tap,
    Kind::Timer,
    Kind::TcpListener,
    Kind::UdpListener,
    Kind::Tcp,
    Kind::Udp,
    Kind::Ping,
    Kind::Dns,
    Kind::DnsClient,
    Kind::Router,
    Kind::Outer,
    Kind::Inner,
    Kind::Orders,
];

const GENERATIONS: u32 = 1 << 24;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Id {
    pub index: u32,
    generation: u32,
}

impl Id {
    pub fn token(self, kind: Kind) -> Token {
        let generation = u64::from(self.generation) << 32;
        Token((kind as u64) << 56 | generation | u64::from(self.index))
    }
}

impl Token {
    pub const TAP: Token = Token((Kind::Tap as u64) << 56);
    pub const ORDERS: Token = Token((Kind::Orders as u64) << 56);
    pub const TIMER: Token = Token((Kind::Timer as u64) << 56);
    pub const ROUTER: Token = Token((Kind::Router as u64) << 56);

    pub fn parts(self) -> (Kind, Id) {
        let [kind, rest @ ..] = self.0.to_be_bytes();
        let (generation, index) = rest.split_at(3);
        let number = |bytes: &[u8]| {
            bytes
                .iter()
                .fold(0, |sum, byte| sum << 8 | u32::from(*byte))
        };
        let id = Id {
            index: number(index),
            generation: number(generation),
        };
        (KINDS[usize::from(kind)], id)
    }
}

pub struct Slab<T> {
    slots: Vec<(u32, Option<T>)>,
    free: Vec<u32>,
}

impl<T> Slab<T> {
    pub fn new() -> Slab<T> {
        Slab {
            slots: vec![],
            free: vec![],
        }
    }

    pub fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    pub fn insert(&mut self, value: T) -> Id {
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push((0, None));
            u32::try_from(self.slots.len() - 1).expect("the table is bounded")
        });
        let (generation, slot) = &mut self.slots[index as usize];
        *slot = Some(value);
        Id {
            index,
            generation: *generation,
        }
    }

    pub fn contains(&self, id: Id) -> bool {
        matches!(self.slots.get(id.index as usize), Some((generation, Some(_))) if *generation == id.generation)
    }

    pub fn get_mut(&mut self, id: Id) -> Option<&mut T> {
        match self.slots.get_mut(id.index as usize) {
            Some((generation, slot)) if *generation == id.generation => slot.as_mut(),
            _ => None,
        }
    }

    pub fn remove(&mut self, id: Id) -> Option<T> {
        self.get_mut(id)?;
        let (generation, slot) = &mut self.slots[id.index as usize];
        *generation = (*generation + 1) % GENERATIONS;
        self.free.push(id.index);
        let value = slot.take();
        if self.free.len() == self.slots.len() {
            // A burst is over; what it needed is given back.
            let next = self.slots.iter().map(|(generation, _)| *generation).max();
            if self.slots.len() > 256 {
                self.slots = vec![(next.unwrap_or(0), None)];
                self.free = vec![0];
            }
        }
        value
    }

    pub fn iter(&self) -> impl Iterator<Item = (Id, &T)> {
        self.slots
            .iter()
            .enumerate()
            .filter_map(|(index, (generation, slot))| {
                let id = Id {
                    index: u32::try_from(index).ok()?,
                    generation: *generation,
                };
                Some((id, slot.as_ref()?))
            })
    }
}

/// The earliest first.
#[derive(Default)]
pub struct Timers(BinaryHeap<Reverse<(Instant, Token)>>);

impl Timers {
    pub fn push(&mut self, when: Instant, token: Token) {
        self.0.push(Reverse((when, token)));
    }

    pub fn next(&self) -> Option<Instant> {
        self.0.peek().map(|Reverse((when, _))| *when)
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Forgets those of what is gone.
    pub fn keep(&mut self, is_there: impl Fn(Token) -> bool) {
        self.0.retain(|Reverse((_, token))| is_there(*token));
    }

    /// Takes one that is over.
    pub fn pop(&mut self, now: Instant) -> Option<Token> {
        if self.next()? > now {
            return None;
        }
        self.0.pop().map(|Reverse((_, token))| token)
    }
}

/// The next moment of something, for which one timer is set; one that is set for an earlier moment comes beside it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Alarm(Option<Instant>);

impl Alarm {
    /// It rings at `moment`, or before.
    pub fn set(&mut self, timers: &mut Timers, moment: Instant, token: Token) {
        if self.0.is_none_or(|set| set > moment) {
            self.0 = Some(moment);
            timers.push(moment, token);
        }
    }

    /// One of its timers rings. `false`: one that was set before, while there is another.
    pub fn rings(&mut self, now: Instant) -> bool {
        let is_set = self.0.is_some_and(|set| set > now);
        if !is_set {
            self.0 = None;
        }
        !is_set
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn timers_that_are_set_again_do_not_multiply() {
        let mut timers = Timers::default();
        let mut alarm = Alarm::default();
        let start = Instant::now();
        let token = Token::TAP;
        for second in 0..100 {
            let now = start + Duration::from_secs(second);
            // Soon after one that is far away, again and again.
            alarm.set(&mut timers, now + Duration::from_secs(2), token);
            alarm.set(&mut timers, now + Duration::from_millis(500), token);
            while timers.pop(now + Duration::from_millis(999)).is_some() {
                if alarm.rings(now + Duration::from_millis(999)) {
                    alarm.set(&mut timers, now + Duration::from_secs(3), token);
                }
            }
            assert!(timers.len() <= 4, "{second}: {}", timers.len());
        }
    }

    #[test]
    fn names_are_not_used_again() {
        let mut slab = Slab::new();
        let first = slab.insert('a');
        assert_eq!(first.token(Kind::Dns).parts(), (Kind::Dns, first));
        assert_eq!(slab.remove(first), Some('a'));
        let second = slab.insert('b');
        assert_eq!(second.index, first.index);
        assert_eq!(second.token(Kind::Tcp).parts(), (Kind::Tcp, second));
        assert!(slab.get_mut(first).is_none());
        assert!(slab.remove(first).is_none());
        assert_eq!(slab.get_mut(second), Some(&mut 'b'));
        assert_eq!(slab.len(), 1);
    }

    #[test]
    fn names_differ_after_a_burst_too() {
        let mut slab = Slab::new();
        let old: Vec<Id> = (0..1000).map(|n| slab.insert(n)).collect();
        for id in &old {
            slab.remove(*id);
        }
        assert_eq!(slab.len(), 0);
        let new: Vec<Id> = (0..2).map(|n| slab.insert(n)).collect();
        assert!(slab.get_mut(old[0]).is_none());
        assert_eq!(slab.get_mut(new[0]), Some(&mut 0));
    }
}
