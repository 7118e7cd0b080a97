//! Time and ids as arguments: the traits, the real ones, and a clock that tests set by hand.
//!
//! Invariant: only `SystemClock` and `SystemIds` ask the machine.

use jiff::Timestamp;
use std::sync::Mutex;
use uuid::Uuid;

/// Tells the time of day, in UTC, cut to microseconds (what both databases keep).
pub trait Clock: Send + Sync {
    /// Now.
    fn now(&self) -> Timestamp;
}

/// The machine's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        #[expect(clippy::disallowed_methods, reason = "the one place that reads the machine's clock")]
        let now = Timestamp::now();
        to_micros(now)
    }
}

/// A clock that stands still until it is set.
#[derive(Debug)]
pub struct ManualClock(Mutex<Timestamp>);

impl ManualClock {
    /// A clock that shows `now`.
    pub fn new(now: Timestamp) -> Self {
        Self(Mutex::new(to_micros(now)))
    }

    /// Sets the time.
    pub fn set(&self, now: Timestamp) {
        *self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = to_micros(now);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        *self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// Cuts a time to whole microseconds.
pub fn to_micros(time: Timestamp) -> Timestamp {
    Timestamp::from_microsecond(time.as_microsecond()).unwrap_or(time)
}

/// Draws fresh ids.
pub trait IdSource: Send + Sync {
    /// A new id, ordered by time (UUID version 7).
    fn next(&self) -> Uuid;
}

/// Ids from the machine's clock and random source.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemIds;

impl IdSource for SystemIds {
    fn next(&self) -> Uuid {
        #[expect(clippy::disallowed_methods, reason = "the one place that draws ids")]
        Uuid::now_v7()
    }
}
