//! When what failed is tried again, and how hard a receiver that fails is pressed.
//!
//! Invariant: pauses grow and are bounded; one event that always fails keeps no other waiting for longer than a second.

use jiff::SignedDuration;
use std::time::Duration;
use tokio::time::Instant;
use uuid::Uuid;

/// Deliveries to one hook that are under way at once.
pub(super) const CONCURRENCY: usize = 8;
/// The longest a receiver can ask us to wait.
pub(super) const LONGEST_ASKED: Duration = Duration::from_hours(1);

/// The pause after a delivery's first failure; each further one doubles it.
const FIRST_PAUSE: Duration = Duration::from_secs(5);
const LONGEST_PAUSE: Duration = Duration::from_hours(1);
/// The pauses of a receiver as a whole.
const FIRST_REST: Duration = Duration::from_secs(1);
const LONGEST_REST: Duration = Duration::from_secs(30);

/// The pause after the `attempts`th attempt failed: about 5 s, 10 s, 20 s, ... 1 h, each 80 to 120 %, told apart by the delivery.
pub(super) fn pause(attempts: i64, delivery: Uuid, asked: Option<Duration>) -> SignedDuration {
    let doublings = u32::try_from(attempts.clamp(1, 20)).unwrap_or(20) - 1;
    let plain = FIRST_PAUSE.saturating_mul(1 << doublings).min(LONGEST_PAUSE);
    let draw = u32::try_from((delivery.as_u128() ^ u128::from(attempts.unsigned_abs())) % 401).unwrap_or(0);
    let jittered = plain * (800 + draw) / 1000;
    let pause = jittered.max(asked.unwrap_or_default().min(LONGEST_ASKED));
    SignedDuration::try_from(pause).unwrap_or(SignedDuration::from_hours(1))
}

/// How a receiver bears it.
#[derive(Debug, Default)]
pub(super) struct Pace {
    failures: u32,
    rests_until: Option<Instant>,
}

impl Pace {
    /// How many more deliveries may begin: one that failed last is tried with one at a time.
    pub(super) fn room(&self, under_way: usize, now: Instant) -> usize {
        let most = match (self.rests_until, self.failures) {
            (Some(until), _) if until > now => 0,
            (_, 0) => CONCURRENCY,
            _ => 1,
        };
        most.saturating_sub(under_way)
    }

    /// It took one.
    pub(super) fn succeeded(&mut self) {
        *self = Self::default();
    }

    /// It refused one, or did not answer; `asked` is how long it wants to be left alone.
    pub(super) fn failed(&mut self, now: Instant, asked: Option<Duration>) {
        let asked = asked.map(|asked| now + asked.min(LONGEST_ASKED));
        let resting = self.rests_until.filter(|until| *until > now);
        // Of many that were under way together, one counts.
        let own = if resting.is_none() {
            let rest = FIRST_REST.saturating_mul(1 << self.failures.min(10)).min(LONGEST_REST);
            self.failures = self.failures.saturating_add(1);
            Some(now + rest)
        } else {
            resting
        };
        self.rests_until = own.max(asked);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_to_an_hour_and_are_spread() {
        let mut seen = std::collections::BTreeSet::new();
        for attempts in 1..=40 {
            let plain = 5_i64.saturating_mul(1 << (attempts - 1).min(20)).min(3600) * 1000;
            for id in 0..600 {
                let millis = i64::try_from(pause(attempts, Uuid::from_u128(id), None).as_millis()).unwrap();
                assert!((plain * 80 / 100..=plain * 120 / 100).contains(&millis), "{attempts}: {millis}");
                seen.insert(millis);
            }
        }
        assert!(seen.len() > 1000, "{}", seen.len());
        assert!(pause(i64::MAX, Uuid::nil(), None) <= SignedDuration::from_mins(72));
        let asked = |seconds| pause(1, Uuid::nil(), Some(Duration::from_secs(seconds)));
        assert_eq!(asked(120), SignedDuration::from_mins(2));
        assert_eq!(asked(u64::MAX), SignedDuration::from_hours(1));
        assert!(asked(1) >= SignedDuration::from_secs(4));
    }

    #[test]
    fn a_receiver_that_fails_is_tried_with_one_at_a_time_and_less_and_less_often() {
        let mut pace = Pace::default();
        let mut now = Instant::now();
        assert_eq!((pace.room(0, now), pace.room(3, now), pace.room(9, now)), (8, 5, 0));
        let mut rests = Vec::new();
        for _ in 0..8 {
            pace.failed(now, None);
            pace.failed(now, None);
            assert_eq!(pace.room(0, now), 0);
            let mut rest = 0;
            while pace.room(0, now) == 0 {
                now += Duration::from_secs(1);
                rest += 1;
            }
            assert_eq!((pace.room(0, now), pace.room(1, now)), (1, 0));
            rests.push(rest);
        }
        assert_eq!(rests, [1, 2, 4, 8, 16, 30, 30, 30]);
        pace.succeeded();
        assert_eq!(pace.room(0, now), 8);
        pace.failed(now, Some(Duration::from_mins(2)));
        assert_eq!(pace.room(0, now + Duration::from_secs(119)), 0);
        assert_eq!(pace.room(0, now + Duration::from_mins(2)), 1);
    }
}
