//! Keeping the outbox in bounds: giving up what is too old, forgetting old dead letters, and measuring both.
//!
//! Invariant: whatever hooks are configured, a delivery waits for a day at most, and a dead letter for thirty.

use super::outbox::GIVE_UP_AFTER;
use crate::state::Manager;
use jiff::SignedDuration;
use kubeop_core::Result;
use kubeop_store::event_delivery;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

const EVERY: Duration = Duration::from_secs(15);
const STEP: u32 = 500;
/// How long dead letters are kept.
const KEPT_FOR: SignedDuration = SignedDuration::from_hours(30 * 24);
const TOO_LATE: &str = "it could not be sent in time";

/// Makes what was claimed by a process that died due again, on a database of one process.
pub(super) async fn take_back(manager: &Manager) -> Result<()> {
    let mut tx = manager.store.begin().await?;
    event_delivery::release_all(&mut tx.conn(), manager.clock.now()).await?;
    Ok(tx.commit().await?)
}

/// Keeps it in bounds until `shutdown`.
pub(super) async fn run(manager: Arc<Manager>, shutdown: CancellationToken) {
    loop {
        if let Err(error) = round(&manager).await {
            tracing::warn!(error = %error.chain(), "failed to keep the outbox in bounds");
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(EVERY) => {}
        }
    }
}

async fn round(manager: &Manager) -> Result<()> {
    let now = manager.clock.now();
    let metrics = &manager.metrics.events;
    let mut read = manager.store.read().await?;
    let figures = event_delivery::figures(&mut read.conn()).await?;
    let dead = event_delivery::count_dead(&mut read.conn()).await?;
    drop(read);
    let age = figures.first_given_up_at.map_or(0, |at| (GIVE_UP_AFTER - at.duration_since(now)).as_secs());
    metrics.pending.set(figures.pending);
    metrics.dead.set(dead);
    metrics.oldest_seconds.set(age.max(0));

    if figures.first_given_up_at.is_some_and(|at| at <= now) {
        loop {
            let mut tx = manager.store.begin().await?;
            let gone = event_delivery::expire(&mut tx.conn(), now, TOO_LATE, STEP).await?;
            tx.commit().await?;
            metrics.given_up.inc_by(gone);
            if gone < u64::from(STEP) {
                break;
            }
        }
    }
    let stranded = event_delivery::stranded(&mut manager.store.read().await?.conn(), STEP).await?;
    if !stranded.is_empty() {
        let mut tx = manager.store.begin().await?;
        for line in &stranded {
            event_delivery::next_of(&mut tx.conn(), line).await?;
        }
        tx.commit().await?;
        manager.events.ring();
    }
    if dead > 0 {
        loop {
            let mut tx = manager.store.begin().await?;
            let gone = event_delivery::remove_dead(&mut tx.conn(), now - KEPT_FOR, STEP).await?;
            tx.commit().await?;
            if gone < u64::from(STEP) {
                break;
            }
        }
    }
    Ok(())
}
