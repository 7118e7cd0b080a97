//! Forgetting answers that were kept for their `Idempotency-Key`.
//!
//! Invariant: only what expired goes, in bounded steps.

use crate::state::Manager;
use kubeop_core::Result;
use kubeop_store::idempotency;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

const EVERY: Duration = Duration::from_mins(5);
const STEP: u32 = 500;

/// Forgets until the process ends.
pub async fn collect(manager: Arc<Manager>, shutdown: CancellationToken) {
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(EVERY) => {}
        }
        if let Err(error) = round(&manager).await {
            tracing::warn!(error = %error.chain(), "failed to forget expired answers");
        }
    }
}

/// Forgets all that expired; returns how many.
pub async fn round(manager: &Manager) -> Result<u64> {
    let now = manager.clock.now();
    let mut all = 0;
    loop {
        let mut tx = manager.store.begin().await?;
        let gone = idempotency::remove_expired(&mut tx.conn(), now, STEP).await?;
        tx.commit().await?;
        all += gone;
        if gone < u64::from(STEP) {
            return Ok(all);
        }
    }
}
