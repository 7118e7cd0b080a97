//! The same thing many times, some at once.

use crate::figures::{Times, rate};
use anyhow::Result;
use futures::{StreamExt, TryStreamExt};
use std::time::{Duration, Instant};

/// What came of it.
pub(crate) struct Load {
    pub(crate) count: usize,
    pub(crate) took: Duration,
    pub(crate) each: Times,
}

impl Load {
    /// How many a second.
    pub(crate) fn rate(&self) -> f64 {
        rate(self.count, self.took)
    }
}

/// Does `act` for 0..count, `at_once` at once.
pub(crate) async fn run<F: Future<Output = Result<()>>>(
    count: usize,
    at_once: usize,
    act: impl Fn(usize) -> F,
) -> Result<Load> {
    let begun = Instant::now();
    let each = futures::stream::iter((0..count).map(|n| {
        let act = act(n);
        async move {
            let begun = Instant::now();
            act.await?;
            anyhow::Ok(begun.elapsed())
        }
    }))
    .buffer_unordered(at_once)
    .try_collect()
    .await?;
    Ok(Load { count, took: begun.elapsed(), each: Times::new(each) })
}
