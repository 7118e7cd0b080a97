//! Why a step did not get on, and how long to wait before trying again.
//!
//! Invariant: pauses grow with each failure in a row of the same object, up to five minutes, and never fall together for many objects.

use kubeop_core::Error;
use kubeop_plan::Refusal;
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Mutex;
use std::time::Duration;

/// A step that did not get on.
#[derive(Debug)]
pub(crate) enum Blocked {
    /// By a rule, or by something that is not there yet: it becomes a condition, and is no failure of ours.
    Refused(Refusal),
    /// The API server failed or refused: it is tried again, with growing pauses.
    Failed(Error),
}

impl From<Refusal> for Blocked {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<Error> for Blocked {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

/// Failures in a row, by object.
#[derive(Debug, Default)]
pub(crate) struct Failures {
    counts: Mutex<HashMap<String, u32>>,
    hasher: RandomState,
}

/// First and longest pause.
const FIRST: Duration = Duration::from_millis(200);
const LONGEST: Duration = Duration::from_mins(5);

impl Failures {
    /// Counts a failure of `key`; the pause before the next try.
    pub(crate) fn failed(&self, key: &str) -> Duration {
        let mut counts = self.counts.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let count = counts.entry(key.to_owned()).or_insert(0);
        *count = count.saturating_add(1);
        let grown = FIRST.saturating_mul(1_u32.checked_shl(*count - 1).unwrap_or(u32::MAX)).min(LONGEST);
        self.spread(&(key, *count), grown)
    }

    /// Forgets the failures of `key`.
    pub(crate) fn succeeded(&self, key: &str) {
        self.counts.lock().unwrap_or_else(std::sync::PoisonError::into_inner).remove(key);
    }

    /// `pause` shortened by up to a third, differently for each `of`.
    pub(crate) fn spread<T: std::hash::Hash>(&self, of: &T, pause: Duration) -> Duration {
        let third = pause / 3;
        let part = u32::try_from(self.hasher.hash_one(of) % 1000).unwrap_or(0);
        pause.saturating_sub(third * part / 1000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_are_bounded_and_start_over_after_success() {
        let failures = Failures::default();
        let pauses: Vec<Duration> = (0..40).map(|_| failures.failed("a")).collect();
        assert!(pauses[0] <= FIRST && pauses[0] >= FIRST * 2 / 3);
        assert!(pauses[5] > pauses[0] * 10);
        assert!(pauses.iter().all(|pause| *pause <= LONGEST));
        assert!(pauses[39] >= LONGEST * 2 / 3);
        failures.succeeded("a");
        assert!(failures.failed("a") <= FIRST);
        assert!(failures.failed("b") <= FIRST);
    }
}
