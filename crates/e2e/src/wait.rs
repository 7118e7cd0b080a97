//! Waiting for something to become true, with a bound and with what was seen last.

use anyhow::{Result, bail};
use std::time::{Duration, Instant};

/// How often a state is looked at.
const EVERY: Duration = Duration::from_millis(50);

/// What a look at a state found.
pub enum Seen<T> {
    /// It is so.
    Done(T),
    /// Not yet; this is how it is.
    Yet(String),
}

impl<T> Seen<T> {
    /// Done if `done`, else this is how it is.
    pub fn when(done: bool, value: T, otherwise: impl Into<String>) -> Self {
        if done { Self::Done(value) } else { Self::Yet(otherwise.into()) }
    }
}

/// Looks until it is so. An error of `look` counts as "not yet".
///
/// # Errors
/// After `limit`: what was waited for and what was seen last.
pub async fn until<T>(what: &str, limit: Duration, mut look: impl AsyncFnMut() -> Result<Seen<T>>) -> Result<T> {
    let start = Instant::now();
    let mut last = "nothing was seen".to_owned();
    loop {
        let left = limit.saturating_sub(start.elapsed());
        match tokio::time::timeout(left.max(EVERY), look()).await {
            Ok(Ok(Seen::Done(value))) => return Ok(value),
            Ok(Ok(Seen::Yet(how))) => last = how,
            Ok(Err(error)) => last = format!("{error:#}"),
            Err(_) => {
                bail!("{what}: not within {} s; the last look did not end; before it: {last}", limit.as_secs_f32())
            }
        }
        if start.elapsed() >= limit {
            bail!("{what}: not within {} s; last: {last}", limit.as_secs_f32());
        }
        tokio::time::sleep(EVERY).await;
    }
}
