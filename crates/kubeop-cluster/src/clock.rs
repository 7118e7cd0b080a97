//! What time it is on a cluster.
//!
//! Invariant: whatever a cluster stamped or enforces (tokens, creation times, managed fields) is judged by this clock, never by this machine's.

use crate::error::Doing;
use http::HeaderMap;
use jiff::{SignedDuration, Timestamp};
use kube::Client;
use kubeop_core::clock::{Clock, to_micros};
use kubeop_core::{Error, Result};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// Between two readings.
const AGAIN: Duration = Duration::from_mins(1);
/// The same while there was none.
const SOON: Duration = Duration::from_secs(2);
/// How long the first reading is waited for.
const FIRST: Duration = Duration::from_secs(5);
/// From here on the difference of the clocks is told.
const NOTEWORTHY: SignedDuration = SignedDuration::from_mins(1);

/// The time of day on a cluster: what the API server last said, carried on by this machine's monotonic clock, so that neither this machine's time of
/// day nor a step of it matters.
pub struct ClusterClock {
    local: Arc<dyn Clock>,
    heard: Mutex<Option<(Timestamp, Instant)>>,
}

impl ClusterClock {
    /// A clock that shows the time of `local` until the API server was heard.
    pub fn new(local: Arc<dyn Clock>) -> Self {
        Self { local, heard: Mutex::new(None) }
    }

    /// Asks the API server for its time.
    pub async fn hear(&self, client: &Client) -> Result<()> {
        let there = server_time(client).await?;
        let off = self.local.now().duration_since(there);
        let before = self.heard.lock().unwrap_or_else(PoisonError::into_inner).replace((there, Instant::now()));
        if before.is_none() && off.abs() >= NOTEWORTHY {
            let seconds = off.as_secs();
            tracing::warn!(
                seconds,
                "this machine's clock is ahead (or, below 0, behind) of the cluster's, which is used"
            );
        }
        Ok(())
    }

    /// The same before anything is judged by it; after a while the local time must do, until [`follow`](Self::follow) hears.
    pub async fn begin(&self, client: &Client) {
        match tokio::time::timeout(FIRST, self.hear(client)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::warn!(error = error.chain(), "the cluster's time is not known: this machine's is used");
            }
            Err(_) => tracing::warn!("the cluster's time is not known in time: this machine's is used"),
        }
    }

    /// Asks again from time to time. Never returns.
    pub async fn follow(&self, client: &Client) {
        loop {
            let pause = match self.hear(client).await {
                Ok(()) => AGAIN,
                Err(error) => {
                    tracing::debug!(error = error.chain(), "the cluster's time is not known");
                    SOON
                }
            };
            tokio::time::sleep(pause).await;
        }
    }
}

impl Clock for ClusterClock {
    fn now(&self) -> Timestamp {
        let heard = *self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        let carried = heard.and_then(|(there, at)| there.checked_add(at.elapsed()).ok());
        carried.map_or_else(|| self.local.now(), to_micros)
    }
}

/// The API server's own time, to the second, from the `Date` of an answer (RFC 9110, 6.6.1).
pub async fn server_time(client: &Client) -> Result<Timestamp> {
    let what = "reading the API server's time";
    let request = http::Request::get("/version").body(kube::client::Body::empty()).map_err(Error::internal)?;
    let answer = client.send(request).await.doing(what)?;
    date(answer.headers()).ok_or_else(|| Error::unavailable(format!("{what}: its answer has no readable Date")))
}

/// When an answer was made, as its server says.
pub(crate) fn date(headers: &HeaderMap) -> Option<Timestamp> {
    let text = headers.get(http::header::DATE)?.to_str().ok()?;
    jiff::fmt::rfc2822::parse(text).ok().map(|zoned| zoned.timestamp())
}
