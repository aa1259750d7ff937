//! How fast frames may go, for each direction: a bucket of bytes that fills with time. Nothing is dropped for it:
//! what would go too fast is not read, so that whoever sends it has to wait.

use std::cell::Cell;
use std::time::Duration;
use std::time::Instant;

use crate::text::rate::Rate;
use crate::text::rate::Rates;

const SECOND: u128 = 1_000_000_000;

#[derive(Default)]
pub struct Meter {
    /// To the container.
    pub inward: Bucket,
    pub outward: Bucket,
}

impl Meter {
    pub fn set(&mut self, rates: Rates, now: Instant) {
        self.inward = Bucket::of(rates.inward, now);
        self.outward = Bucket::of(rates.outward, now);
    }

    pub fn fill(&mut self, now: Instant) {
        self.inward.fill(now);
        self.outward.fill(now);
    }

    /// When there is something in both again, where one of them is empty.
    pub fn ends(&self) -> Option<Instant> {
        let ends = [self.inward.ends(), self.outward.ends()];
        ends.into_iter().flatten().min()
    }
}

/// One that has no rate is never empty.
#[derive(Default)]
pub struct Bucket(Option<Filled>);

struct Filled {
    rate: Rate,
    /// Below zero by as much as the last frame was too large.
    level: Cell<i64>,
    since: Instant,
}

impl Bucket {
    fn of(rate: Option<Rate>, now: Instant) -> Bucket {
        Bucket(rate.map(|rate| Filled {
            rate,
            level: Cell::new(amount(rate.burst)),
            since: now,
        }))
    }

    fn fill(&mut self, now: Instant) {
        let Some(filled) = &mut self.0 else {
            return;
        };
        let passed = now.saturating_duration_since(filled.since).as_nanos();
        let bytes = passed * u128::from(filled.rate.bytes) / SECOND;
        if bytes == 0 {
            // The time is not lost: it counts with the next look.
            return;
        }
        // Nor is that of a part of a byte.
        let nanos = bytes * SECOND / u128::from(filled.rate.bytes);
        filled.since += Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        let level = filled.level.get().saturating_add(bytes);
        filled.level.set(level.min(amount(filled.rate.burst)));
    }

    pub fn take(&self, bytes: usize) {
        if let Some(filled) = &self.0 {
            let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
            filled.level.set(filled.level.get().saturating_sub(bytes));
        }
    }

    pub fn is_empty(&self) -> bool {
        self.0
            .as_ref()
            .is_some_and(|filled| filled.level.get() <= 0)
    }

    fn ends(&self) -> Option<Instant> {
        let filled = self.0.as_ref().filter(|_| self.is_empty())?;
        // Not a turn for each byte: for what comes in two milliseconds, or one small frame.
        let worthwhile = (filled.rate.bytes / 500).max(1500).min(filled.rate.burst);
        let missing = i64::try_from(worthwhile)
            .ok()?
            .saturating_sub(filled.level.get());
        let nanos = u128::try_from(missing).ok()? * SECOND / u128::from(filled.rate.bytes) + 1;
        Some(filled.since + Duration::from_nanos(u64::try_from(nanos).ok()?))
    }

    /// How much of `most` may go at once: what goes in a tenth of a second, or a frame.
    pub fn portion(&self, most: u32) -> u32 {
        const LEAST: u64 = 1400;
        let rate = self.0.as_ref().map(|filled| filled.rate.bytes);
        let share = rate.map(|bytes| u32::try_from((bytes / 10).max(LEAST)).unwrap_or(most));
        share.map_or(most, |share| share.min(most))
    }

    pub fn is_limited(&self) -> bool {
        self.0.is_some()
    }

    /// How much of `most` may be promised to one who sends: what goes in a quarter of a second, for what is
    /// promised stands in a queue meanwhile.
    pub fn window(&self, most: u32) -> u32 {
        const LEAST: u64 = 16 * 1024;
        let rate = self.0.as_ref().map(|filled| filled.rate.bytes);
        let share = rate.map(|bytes| u32::try_from((bytes / 4).max(LEAST)).unwrap_or(most));
        share.map_or(most, |share| share.min(most))
    }
}

fn amount(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_gives_its_burst_and_then_its_rate() {
        let start = Instant::now();
        let rate = Rate {
            bytes: 100_000,
            burst: 10_000,
        };
        let mut bucket = Bucket::of(Some(rate), start);
        let mut now = start;
        let mut taken = 0;
        while now < start + Duration::from_secs(10) {
            while !bucket.is_empty() {
                bucket.take(1400);
                taken += 1400;
            }
            now = bucket.ends().unwrap();
            bucket.fill(now);
            assert!(!bucket.is_empty());
        }
        let expected = 10_000 + 1_000_000;
        assert!((expected..expected + 5_000).contains(&taken), "{taken}");
        bucket.fill(now + Duration::from_hours(1));
        bucket.take(10_000);
        assert!(bucket.is_empty());
    }

    #[test]
    fn a_part_of_a_byte_is_not_lost() {
        let start = Instant::now();
        let rate = Rate {
            bytes: 1000,
            burst: 5000,
        };
        let mut bucket = Bucket::of(Some(rate), start);
        bucket.take(5000);
        for step in 1..=1000 {
            bucket.fill(start + Duration::from_micros(1900) * step);
        }
        bucket.take(1899);
        assert!(!bucket.is_empty());
        bucket.take(1);
        assert!(bucket.is_empty());
        assert_eq!(bucket.portion(60_000), 1400);
    }

    #[test]
    fn without_a_rate_there_is_no_end() {
        let bucket = Bucket::default();
        bucket.take(usize::MAX);
        assert!(!bucket.is_empty());
        assert_eq!((bucket.ends(), bucket.window(1 << 20)), (None, 1 << 20));
    }
}
