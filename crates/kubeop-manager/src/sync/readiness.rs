//! Noticing that a cluster became ready, or is not any more, for whom that is to be told.
//!
//! Invariant: each turn is told once, by whoever records it; nobody is asked to look unless somebody is to be told.

use crate::api::clusters::status;
use crate::events::{self, outbox};
use crate::state::Manager;
use kubeop_core::Result;
use kubeop_store::cluster::{self, Cluster};
use std::time::Duration;
use tokio::time::sleep;

/// How often is looked while it is not ready, at first and later.
const SOON: Duration = Duration::from_secs(2);
const LATER: Duration = Duration::from_mins(1);
/// How often is looked while it is ready.
const READY: Duration = Duration::from_secs(30);
/// How often in a row it must not be ready: one look may be unlucky.
const DOUBTS: u32 = 2;

/// Watches a cluster until the worker stops. What fails here is tried again: the cluster is served all the same.
pub(super) async fn follow(manager: &Manager, row: &Cluster) {
    if !manager.events.are_wanted() {
        return std::future::pending().await;
    }
    let (mut pause, mut doubts) = (SOON, 0);
    loop {
        match look(manager, row, &mut doubts).await {
            Ok(true) => pause = READY,
            Ok(false) if pause == READY => pause = SOON,
            Ok(false) => pause = (pause * 3 / 2).min(LATER),
            Err(error) => {
                tracing::warn!(cluster = %row.name, error = %error.chain(), "failed to see whether a cluster is ready");
                pause = LATER;
            }
        }
        sleep(pause).await;
    }
}

/// Whether it is ready; tells of it when that is news.
async fn look(manager: &Manager, row: &Cluster, doubts: &mut u32) -> Result<bool> {
    let ready = status::observe(manager, row).await?.is_ready();
    *doubts = if ready { 0 } else { doubts.saturating_add(1) };
    if ready || *doubts >= DOUBTS {
        tell(manager, row, ready).await?;
    }
    Ok(ready)
}

async fn tell(manager: &Manager, row: &Cluster, ready: bool) -> Result<()> {
    let mut tx = manager.store.begin().await?;
    let since = ready.then(|| manager.clock.now());
    if !cluster::set_ready(&mut tx.conn(), row.id, since).await? {
        return Ok(tx.rollback().await?);
    }
    let turn = if ready { "ready" } else { "unready" };
    let mut what = outbox::Happening::by_system(manager, turn, "cluster", &row.id);
    what.about = events::of_cluster(row);
    outbox::publish(manager, &mut tx.conn(), &what).await?;
    tx.commit().await?;
    manager.events.ring();
    tracing::info!(cluster = %row.name, turn, "told of a cluster");
    Ok(())
}
