use crate::error::Error;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::{Duration, SystemTime};

/// A request that failed, and whether asking again may help.
pub(super) struct Failure {
    pub(super) error: Error,
    pub(super) again: Again,
}

/// Whether asking again may help.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Again {
    Never,
    /// Nobody could be reached: a few times only, the address may be wrong.
    Seldom,
    Often,
    /// Not before this has passed.
    After(Duration),
}

impl Failure {
    pub(super) fn last(error: Error) -> Self {
        Self { error, again: Again::Never }
    }
}

/// The longest pause a registry may ask for.
const LONGEST_ASKED: Duration = Duration::from_secs(60);

/// The longest pause of our own.
const LONGEST: Duration = Duration::from_secs(10);

const FIRST: Duration = Duration::from_millis(200);

/// The most attempts after a host that cannot be reached.
const SELDOM: u32 = 3;

/// Counts repetitions and says how long to wait before each: doubling, with jitter so that many clients that were
/// turned away together do not come back together.
#[derive(Debug)]
pub(super) struct Backoff {
    limit: u32,
    used: u32,
}

impl Backoff {
    pub(super) fn new(limit: u32) -> Self {
        Self { limit, used: 0 }
    }

    /// Forgets failures: something has come.
    pub(super) fn reset(&mut self) {
        self.used = 0;
    }

    /// The pause before the next attempt; none when there is to be none.
    pub(super) fn pause(&mut self, again: Again) -> Option<Duration> {
        let limit = match again {
            Again::Never => 0,
            Again::Seldom => self.limit.min(SELDOM),
            Again::Often | Again::After(_) => self.limit,
        };
        if self.used >= limit {
            return None;
        }
        let own = FIRST.saturating_mul(1 << self.used.min(10)).min(LONGEST);
        self.used += 1;
        let random = RandomState::new().build_hasher().finish();
        let jittered = own.mul_f64(0.5 + (random % 1000) as f64 / 1000.0);
        Some(match again {
            Again::After(asked) => asked.min(LONGEST_ASKED) + jittered / 4,
            _ => jittered,
        })
    }
}

/// What `Retry-After` asks for: seconds or a date (RFC 9110, section 10.2.3).
pub(super) fn retry_after(value: &str, now: SystemTime) -> Option<Duration> {
    if let Ok(seconds) = value.trim().parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    let date = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(value.trim()).ok()?;
    let until = SystemTime::from(date).duration_since(now).unwrap_or_default();
    Some(until)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_vary_and_end() {
        let mut backoff = Backoff::new(4);
        let pauses: Vec<_> = std::iter::from_fn(|| backoff.pause(Again::Often)).collect();
        assert_eq!(pauses.len(), 4);
        for (n, pause) in pauses.iter().enumerate() {
            let middle = FIRST * (1 << n);
            assert!(*pause >= middle / 2 && *pause < middle * 3 / 2, "{n}: {pause:?}");
        }
        backoff.reset();
        assert!(backoff.pause(Again::Never).is_none());
        assert_eq!(std::iter::from_fn(|| backoff.pause(Again::Seldom)).count(), 3);
        assert!(Backoff::new(0).pause(Again::Often).is_none());
        let asked = Backoff::new(1).pause(Again::After(Duration::from_secs(7))).unwrap();
        assert!(asked >= Duration::from_secs(7) && asked < Duration::from_secs(8));
        assert!(Backoff::new(1).pause(Again::After(Duration::from_secs(9999))).unwrap() < LONGEST_ASKED * 2);
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        assert_eq!(retry_after("120", now), Some(Duration::from_secs(120)));
        assert_eq!(retry_after("Sun, 06 Nov 1994 08:50:07 GMT", now), Some(Duration::from_secs(30)));
        assert_eq!(retry_after("Sun, 06 Nov 1994 08:00:00 GMT", now), Some(Duration::ZERO));
        assert_eq!(retry_after("soon", now), None);
    }
}
