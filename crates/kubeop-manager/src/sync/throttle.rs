//! How many writes to one cluster go on at once, by how many of the last ones it turned away.
//!
//! Invariant: a cluster that turns everything away is asked by one write at a time, with pauses; one that answers is soon used in full.

use std::time::Duration;
use tokio::time::Instant;

/// Writes at once while all goes well.
const MOST: u16 = 16;
/// What one more answer counts against those before it.
const WEIGHT: f64 = 0.1;
/// Above this share of refusals there are pauses.
const TROUBLED: f64 = 0.9;
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// The throttle of one cluster.
#[derive(Debug)]
pub(super) struct Throttle {
    /// The share of refusals among the last answers.
    refused: f64,
    pause: Duration,
    rest_until: Option<Instant>,
}

impl Throttle {
    pub(super) fn new() -> Self {
        Self { refused: 0.0, pause: FIRST_PAUSE, rest_until: None }
    }

    /// The cluster took a write, or said what is wrong with the one object.
    pub(super) fn answered(&mut self) {
        self.refused *= 1.0 - WEIGHT;
        (self.pause, self.rest_until) = (FIRST_PAUSE, None);
    }

    /// It did not answer, or said that it is in trouble.
    pub(super) fn refused(&mut self, now: Instant) {
        self.refused = self.refused * (1.0 - WEIGHT) + WEIGHT;
        if self.refused > TROUBLED && self.rest_until.is_none_or(|until| until <= now) {
            self.rest_until = Some(now + self.pause);
            self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Writes that may go on now.
    pub(super) fn width(&self, now: Instant) -> usize {
        if self.rest_until.is_some_and(|until| now < until) {
            return 0;
        }
        let free = 1.0 - self.refused;
        (1..=MOST).take_while(|width| f64::from(*width) <= f64::from(MOST) * free + 0.5).count().max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_storm_narrows_and_answers_widen_again() {
        let now = Instant::now();
        let mut throttle = Throttle::new();
        assert_eq!(throttle.width(now), usize::from(MOST));
        for _ in 0..20 {
            throttle.refused(now);
            throttle.answered();
            throttle.answered();
        }
        assert!((8..=12).contains(&throttle.width(now)), "{throttle:?}");
        for _ in 0..100 {
            throttle.refused(now);
        }
        assert_eq!(throttle.width(now), 0);
        assert_eq!(throttle.width(now + FIRST_PAUSE), 1);
        for _ in 0..50 {
            throttle.answered();
        }
        assert_eq!(throttle.width(now), usize::from(MOST));
    }

    /// All that were under way when the trouble began fail together: they are one reason to pause, not many.
    #[test]
    fn pauses_grow_only_when_one_was_of_no_use() {
        let mut now = Instant::now();
        let mut throttle = Throttle::new();
        for _ in 0..200 {
            throttle.refused(now);
        }
        assert_eq!(throttle.width(now + FIRST_PAUSE), 1);
        for _ in 0..10 {
            now += LONGEST_PAUSE;
            throttle.refused(now);
        }
        assert_eq!((throttle.width(now + LONGEST_PAUSE / 2), throttle.width(now + LONGEST_PAUSE)), (0, 1));
    }
}
