//! Waiting, for `?wait=`, until an entity is settled on its cluster.
//!
//! Invariant: ends at the caller's time, at shutdown, or when there is nothing more to wait for; never holds a connection while it waits.

use crate::api::status;
use crate::http::answer::Deleted;
use crate::state::Manager;
use crate::sync::reach;
use kubeop_api::resource::Phase;
use kubeop_core::Result;
use kubeop_core::id::ClusterId;
use kubeop_store::cluster::{self, BootstrapState, Cluster};
use kubeop_store::cluster_object::{self, Key};
use std::time::Duration;
use tokio::sync::SemaphorePermit;
use tokio::time::{Instant, sleep};

/// The first looks come quickly, for most things settle within a second.
const FIRST_STEP: Duration = Duration::from_millis(50);
const LONGEST_STEP: Duration = Duration::from_millis(500);

/// Waits until the entity is neither on its way nor being brought up, at most for `limit`.
pub async fn wait(manager: &Manager, key: Key, limit: Duration) -> Result<()> {
    let Some(_place) = place(manager, limit) else { return Ok(()) };
    let (end, mut step) = (Instant::now() + limit, FIRST_STEP);
    while Instant::now() < end && !manager.shutdown.is_cancelled() && !settled(manager, key).await? {
        pause(manager, &mut step).await;
    }
    Ok(())
}

/// Waits until the set-up of a cluster has come to an end, good or bad, at most for `limit`.
pub async fn wait_cluster(manager: &Manager, id: ClusterId, limit: Duration) -> Result<()> {
    let Some(_place) = place(manager, limit) else { return Ok(()) };
    let (end, mut step) = (Instant::now() + limit, FIRST_STEP);
    while Instant::now() < end && !manager.shutdown.is_cancelled() {
        let row = cluster::get(&mut manager.store.read().await?.conn(), id).await?;
        let under_way =
            |row: Cluster| matches!(row.bootstrap_state, BootstrapState::Pending | BootstrapState::Removing);
        if !row.is_some_and(under_way) {
            break;
        }
        pause(manager, &mut step).await;
    }
    Ok(())
}

/// What a committed deletion is answered with: that it is done, if the entity is gone within `limit`, else how it looks then.
pub async fn deleted<T>(
    manager: &Manager,
    key: Key,
    limit: Duration,
    committed: T,
    look: impl AsyncFnOnce() -> Result<T>,
) -> Deleted<T> {
    if limit.is_zero() {
        return Deleted::UnderWay(committed);
    }
    let looking = async {
        if wait_gone(manager, key, limit).await? { Ok(Deleted::Done) } else { Ok(Deleted::UnderWay(look().await?)) }
    };
    or_committed(looking.await, Deleted::UnderWay(committed))
}

/// Waits until the entity is gone, at most for `limit`; whether it is.
async fn wait_gone(manager: &Manager, key: Key, limit: Duration) -> Result<bool> {
    let Some(_place) = place(manager, limit) else { return Ok(false) };
    let (end, mut step) = (Instant::now() + limit, FIRST_STEP);
    while Instant::now() < end && !manager.shutdown.is_cancelled() {
        let mut read = manager.store.read().await?;
        if cluster_object::get(&mut read.conn(), key).await?.is_none() {
            return Ok(true);
        }
        drop(read);
        pause(manager, &mut step).await;
    }
    Ok(false)
}

/// What a committed change is answered with: how it looks after the wait, or as it was committed if that cannot be told. That it was made stands.
pub fn or_committed<T>(seen: Result<T>, committed: T) -> T {
    seen.unwrap_or_else(|error| {
        tracing::warn!(error = %error.chain(), "a change was committed, but how it looks after the wait cannot be told");
        committed
    })
}

fn place(manager: &Manager, limit: Duration) -> Option<SemaphorePermit<'_>> {
    if limit.is_zero() { None } else { manager.gate.wait() }
}

async fn pause(manager: &Manager, step: &mut Duration) {
    tokio::select! {
        () = sleep(*step) => {}
        () = manager.shutdown.cancelled() => {}
    }
    *step = (*step * 5 / 4).min(LONGEST_STEP);
}

async fn settled(manager: &Manager, key: Key) -> Result<bool> {
    let mut read = manager.store.read().await?;
    let object = cluster_object::get(&mut read.conn(), key).await?;
    let known = reach::of_clusters(&mut read.conn(), &[key.cluster_id]).await?;
    let deleting = object.as_ref().is_none_or(|object| object.deleted);
    let status = status::of_entity(object.as_ref(), deleting, &known.of(key.cluster_id));
    Ok(!matches!(status.phase, Phase::Pending | Phase::Deleting) || object.is_none())
}
