//! Percentiles and rates, and how they are printed.

use std::time::Duration;

/// Durations of many equal things.
#[derive(Clone, Debug, Default)]
pub(crate) struct Times(Vec<Duration>);

impl Times {
    pub(crate) fn new(mut all: Vec<Duration>) -> Self {
        all.sort_unstable();
        Self(all)
    }

    /// The smallest that is not below this share (of a thousand) of all.
    pub(crate) fn per_mille(&self, share: usize) -> Duration {
        let last = self.0.len().saturating_sub(1);
        self.0.get((self.0.len() * share / 1000).min(last)).copied().unwrap_or_default()
    }

    pub(crate) fn median(&self) -> Duration {
        self.per_mille(500)
    }

    pub(crate) fn p99(&self) -> Duration {
        self.per_mille(990)
    }
}

impl std::fmt::Display for Times {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "median {}, p99 {}", ms(self.median()), ms(self.p99()))
    }
}

pub(crate) fn ms(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1000.0)
}

/// How many a second.
#[expect(clippy::cast_precision_loss, reason = "a figure to look at")]
pub(crate) fn rate(count: usize, took: Duration) -> f64 {
    count as f64 / took.as_secs_f64().max(1e-9)
}

/// `what` and what was found, in two columns.
pub(crate) fn line(what: &str, found: impl std::fmt::Display) {
    println!("{what:<58} {found}");
}

pub(crate) fn mib(kib: u64) -> String {
    format!("{} MiB", kib / 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_the_sorted_times() {
        let times = Times::new((1..=100).rev().map(Duration::from_millis).collect());
        assert_eq!((times.median(), times.p99()), (Duration::from_millis(51), Duration::from_millis(100)));
        assert_eq!(Times::default().p99(), Duration::ZERO);
        assert!((rate(50, Duration::from_millis(500)) - 100.0).abs() < 1e-6);
    }
}
