//! Random choices that a seed repeats.
use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::panic::catch_unwind;
use std::time::Duration;
use std::time::SystemTime;

/// Sebastiano Vigna's splitmix64.
pub struct Random {
    state: u64,
    seed: u64,
    told: Vec<String>,
}

/// How much of what was told a failure says.
const TOLD: usize = 40;

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().expect("a number"))
}

/// How often, unless a variable says otherwise.
pub fn count(variable: &str, usual: u32) -> u32 {
    number(variable).map_or(usual, |count| count.try_into().unwrap())
}

/// Shown with the failure of a test, and with --nocapture.
#[expect(
    clippy::print_stdout,
    reason = "the test runner's output is where seeds are read"
)]
pub fn tell(text: &str) {
    println!("{text}");
}

/// A test by random choices. Its failure says in its own message, which is what is shown everywhere, the seed and
/// the last of what was told.
pub fn repeatable(test: impl FnOnce(&mut Random)) {
    let mut random = Random::new();
    let Err(cause) = catch_unwind(AssertUnwindSafe(|| test(&mut random))) else {
        return;
    };
    let from = random.told.len().saturating_sub(TOLD);
    panic!(
        "{}\nRBOX_TEST_SEED={}, after:\n  {}",
        message(&*cause),
        random.seed,
        random.told[from..].join("\n  ")
    );
}

fn message(cause: &dyn Any) -> &str {
    let text = cause.downcast_ref::<String>().map(String::as_str);
    text.or(cause.downcast_ref::<&str>().copied())
        .unwrap_or("a panic without a text")
}

impl Random {
    /// By RBOX_TEST_SEED, or the time.
    fn new() -> Self {
        let seed = number("RBOX_TEST_SEED").unwrap_or_else(|| {
            let now = SystemTime::UNIX_EPOCH.elapsed().unwrap();
            now.as_secs() ^ u64::from(now.subsec_nanos())
        });
        tell(&format!("RBOX_TEST_SEED={seed}"));
        Self {
            state: seed,
            seed,
            told: vec![],
        }
    }

    /// What was done by a choice, for whoever has to find out why it failed.
    pub fn tell(&mut self, what: impl Into<String>) {
        self.told.push(what.into());
        tell(self.told.last().unwrap());
    }

    pub fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(limit).unwrap()).unwrap()
    }

    pub fn one_of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())]
    }

    /// Short times are as likely as long ones: much happens at the beginning.
    pub fn time(&mut self, longest: Duration) -> Duration {
        let most = u64::try_from(longest.as_micros()).unwrap();
        let limit = 1 + self.next() % most;
        Duration::from_micros(self.next() % limit)
    }

    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}
