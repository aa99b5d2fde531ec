//! When to try again.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

const FIRST: Duration = Duration::from_millis(200);
const LONGEST: Duration = Duration::from_secs(10);
/// The longest that a server may ask to be left alone.
const LONGEST_ASKED: Duration = Duration::from_secs(60);
/// The most attempts at what may not be there at all.
const SELDOM: u32 = 2;

/// Whether trying again may help.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Again {
    Never,
    /// A little: nobody has answered so far, or somebody else is at it.
    Seldom,
    Often,
    /// Not before this.
    After(Duration),
}

/// Counts failures in a row.
#[derive(Debug)]
pub(super) struct Backoff {
    limit: u32,
    failures: u32,
}

impl Backoff {
    pub(super) fn new(limit: u32) -> Self {
        Self { limit, failures: 0 }
    }

    /// It went well for a while.
    pub(super) fn reset(&mut self) {
        self.failures = 0;
    }

    /// How long to wait before the next attempt, if there is to be one. The pause doubles, and half of it is left to chance,
    /// so that those who failed together do not come back together.
    pub(super) fn pause(&mut self, again: Again) -> Option<Duration> {
        let (limit, least) = match again {
            Again::Never => return None,
            Again::Seldom => (self.limit.min(SELDOM), Duration::ZERO),
            Again::Often => (self.limit, Duration::ZERO),
            Again::After(asked) => (self.limit, asked.min(LONGEST_ASKED)),
        };
        if self.failures >= limit {
            return None;
        }
        let doubled = FIRST.saturating_mul(1 << self.failures.min(8)).min(LONGEST);
        self.failures += 1;
        let chance = (RandomState::new().build_hasher().finish() % 1024) as f64 / 1024.0;
        Some(least + doubled.mul_f64(0.5 + chance / 2.0))
    }
}

#[cfg(test)]
mod tests {
    use super::{Again, Backoff, FIRST, LONGEST, LONGEST_ASKED};
    use std::iter::from_fn;
    use std::time::Duration;

    #[test]
    fn pauses_grow_and_end() {
        let mut backoff = Backoff::new(9);
        let pauses: Vec<_> = from_fn(|| backoff.pause(Again::Often)).collect();
        assert_eq!(pauses.len(), 9);
        for (count, pause) in pauses.iter().enumerate() {
            let most = (FIRST * (1 << count.min(8))).min(LONGEST);
            assert!(*pause >= most / 2 && *pause <= most, "{count}: {pause:?}");
        }
        backoff.reset();
        assert_eq!(from_fn(|| backoff.pause(Again::Seldom)).count(), 2);
        assert_eq!(Backoff::new(5).pause(Again::Never), None);
        assert_eq!(Backoff::new(0).pause(Again::Often), None);
    }

    #[test]
    fn who_asks_for_time_gets_it_within_reason() {
        let pause = |asked| Backoff::new(1).pause(Again::After(Duration::from_secs(asked))).unwrap();
        assert!(pause(7) >= Duration::from_secs(7));
        assert!(pause(100_000) <= LONGEST_ASKED + FIRST);
    }
}
