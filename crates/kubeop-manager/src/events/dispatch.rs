//! Delivering what is due for one hook.
//!
//! Invariant: what a receiver has is removed before anything else of its subject is sent; an attempt whose outcome cannot be recorded is
//! not forgotten while this process lives, and repeated by another when it dies.

use super::hook::Hook;
use super::outbox;
use super::pace::{Pace, pause};
use super::send::{Failed, Outcome, Parcel, Sender};
use crate::metrics::HookLabels;
use crate::state::Manager;
use hyper::body::Bytes;
use jiff::{SignedDuration, Timestamp};
use kubeop_core::{Error, Result};
use kubeop_store::event_delivery::{self, EventDelivery, Failure, Settled};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// How soon is noticed what another replica committed, or what is due again.
const POLL: Duration = Duration::from_secs(1);
/// How long a delivery is ours: longer than any attempt, and clocks differ.
const CLAIMED_FOR: SignedDuration = SignedDuration::from_secs(60);
/// How long attempts may go on once the process is to end.
const ENDING: Duration = Duration::from_millis(800);

/// An attempt that ended.
struct Done {
    row: EventDelivery,
    outcome: Outcome,
}

/// Delivers until `shutdown`.
pub(super) async fn run(manager: Arc<Manager>, hook: Arc<Hook>, sender: Sender, shutdown: CancellationToken) {
    let owner = manager.ids.next();
    let mut pace = Pace::default();
    let mut under_way = JoinSet::new();
    let mut done: Vec<Done> = Vec::new();
    while !shutdown.is_cancelled() {
        let room = pace.room(under_way.len() + done.len(), Instant::now());
        let claimed = match claim(&manager, &hook, owner, room).await {
            Ok(claimed) => claimed,
            Err(error) => {
                tracing::warn!(hook = hook.name, error = %error.chain(), "failed to look for events to deliver");
                Vec::new()
            }
        };
        let room = room - claimed.len();
        for row in claimed {
            under_way.spawn(attempt(Arc::clone(&manager), Arc::clone(&hook), sender.clone(), row));
        }
        tokio::select! {
            () = shutdown.cancelled() => break,
            Some(ended) = under_way.join_next() => done.extend(ended.ok()),
            () = hook.bell.notified(), if room > 0 => {}
            () = tokio::time::sleep(POLL) => {}
        }
        while let Some(ended) = under_way.try_join_next() {
            done.extend(ended.ok());
        }
        record(&manager, &hook, owner, &mut pace, &mut done).await;
    }
    let ending = async {
        while let Some(ended) = under_way.join_next().await {
            done.extend(ended.ok());
        }
    };
    // What is still under way then is cut off, and due again at once.
    let _ = tokio::time::timeout(ENDING, ending).await;
    record(&manager, &hook, owner, &mut pace, &mut done).await;
    if let Err(error) = release(&manager, owner).await {
        tracing::warn!(hook = hook.name, error = %error.chain(), "failed to give deliveries back; they are due again within a minute");
    }
}

async fn claim(manager: &Manager, hook: &Hook, owner: Uuid, room: usize) -> Result<Vec<EventDelivery>> {
    if room == 0 {
        return Ok(Vec::new());
    }
    let now = manager.clock.now();
    // Looking costs no transaction; on SQLite one would take the writer's turn every second.
    if !event_delivery::is_due(&mut manager.store.read().await?.conn(), hook.name, now).await? {
        return Ok(Vec::new());
    }
    let rows = u32::try_from(room).unwrap_or(1);
    let mut tx = manager.store.begin().await?;
    let claimed = event_delivery::claim(&mut tx.conn(), hook.name, owner, now, now + CLAIMED_FOR, rows).await?;
    tx.commit().await?;
    Ok(claimed)
}

async fn attempt(manager: Arc<Manager>, hook: Arc<Hook>, sender: Sender, row: EventDelivery) -> Done {
    let at = manager.clock.now();
    let parcel = outbox::event(manager.instance, &row).and_then(|event| {
        let body = Bytes::from(serde_json::to_vec(&event).map_err(Error::internal)?);
        Ok(Parcel { id: row.id, event_type: row.event_type.clone(), attempt: row.attempts, body, at })
    });
    let outcome = match parcel {
        Ok(parcel) => sender.send(&hook, &parcel).await,
        Err(error) => {
            tracing::error!(delivery = %row.id, error = %error.chain(), "an event cannot be read");
            let why = "the event cannot be read (the manager's log says why)".to_owned();
            Outcome::Failed(Failed { status: None, why, asked: None, for_ever: true })
        }
    };
    Done { row, outcome }
}

/// Records what came of attempts; what cannot be recorded stays in `done`.
async fn record(manager: &Manager, hook: &Hook, owner: Uuid, pace: &mut Pace, done: &mut Vec<Done>) {
    if done.is_empty() {
        return;
    }
    if let Err(error) = settle(manager, owner, done).await {
        tracing::warn!(hook = hook.name, error = %error.chain(), "failed to record what was delivered");
        return;
    }
    let labels = HookLabels { hook: hook.name };
    for Done { row, outcome } in done.drain(..) {
        match outcome {
            Outcome::Delivered => {
                pace.succeeded();
                manager.metrics.events.delivered.get_or_create(&labels).inc();
                tracing::debug!(hook = hook.name, event = %row.event_id, kind = row.event_type, "delivered an event");
            }
            Outcome::Failed(failed) => {
                // Who says that it will never take this one is well otherwise.
                if !failed.for_ever {
                    pace.failed(Instant::now(), failed.asked);
                }
                manager.metrics.events.failed.get_or_create(&labels).inc();
                let attempts = row.attempts;
                tracing::info!(hook = hook.name, event = %row.event_id, kind = row.event_type, attempts, why = failed.why, "failed to deliver an event");
            }
        }
    }
}

async fn settle(manager: &Manager, owner: Uuid, done: &[Done]) -> Result<()> {
    let now = manager.clock.now();
    let mut dead = 0;
    let mut tx = manager.store.begin().await?;
    let conn = &mut tx.conn();
    for Done { row, outcome } in done {
        let attempt = Settled { seq: row.seq, owner, attempts: row.attempts };
        let ours = match outcome {
            Outcome::Delivered => event_delivery::delivered(conn, attempt).await?,
            Outcome::Failed(failed) => {
                let failure = Failure { status: failed.status, error: &failed.why };
                if let Some(next) = next_at(now, row, failed) {
                    event_delivery::postpone(conn, attempt, next, failure).await?
                } else {
                    dead += 1;
                    event_delivery::give_up(conn, attempt, now, failure).await?
                }
            }
        };
        if !ours {
            tracing::info!(delivery = %row.id, "another process took a delivery over");
        }
    }
    tx.commit().await?;
    manager.metrics.events.given_up.inc_by(dead);
    Ok(())
}

/// When it is tried again; never, if that is past its time or the receiver says so.
fn next_at(now: Timestamp, row: &EventDelivery, failed: &Failed) -> Option<Timestamp> {
    let next = now + pause(row.attempts, row.id, failed.asked);
    (!failed.for_ever && next < row.give_up_at).then_some(next)
}

async fn release(manager: &Manager, owner: Uuid) -> Result<()> {
    let mut tx = manager.store.begin().await?;
    event_delivery::release(&mut tx.conn(), owner, manager.clock.now()).await?;
    Ok(tx.commit().await?)
}
