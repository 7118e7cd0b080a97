//! The sync: from rows to the custom resources of clusters, level-triggered, and their status back.
//!
//! Invariant: a cluster is served by the one replica that holds its lease; what is applied is rendered from the rows as they are now.

pub mod forget;
mod gone;
mod lease;
mod mirror;
pub mod objects;
mod policy;
pub mod reach;
mod readiness;
pub mod render;
mod repair;
pub mod settle;
mod wake;
mod worker;
mod write;

pub use wake::Wake;

use crate::state::Manager;
use kubeop_core::id::ClusterId;
use kubeop_store::cluster;
use lease::Leases;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// How often leases are renewed and clusters looked for.
const EVERY: Duration = Duration::from_secs(2);

struct Worker {
    cancel: CancellationToken,
    task: JoinHandle<()>,
}

impl Worker {
    async fn stop(self) {
        self.cancel.cancel();
        // A worker that panicked has stopped too; the panic was logged where it happened.
        let _ = self.task.await;
    }
}

/// Serves every cluster whose lease this replica gets, until the process ends.
pub async fn supervise(manager: Arc<Manager>, shutdown: CancellationToken) {
    let mut leases = Leases::new(manager.ids.next(), !manager.store.is_shared());
    let mut workers: HashMap<ClusterId, Worker> = HashMap::new();
    loop {
        if let Err(error) = round(&manager, &mut leases, &mut workers).await {
            tracing::warn!(error = %error.chain(), "failed to renew leases");
            for id in leases.overdue() {
                if let Some(worker) = workers.remove(&id) {
                    tracing::warn!(cluster = %id, "lease not renewed in time: no longer serving");
                    worker.stop().await;
                }
            }
        }
        tokio::select! {
            () = shutdown.cancelled() => break,
            () = tokio::time::sleep(EVERY) => {}
            () = manager.wake.supervisor() => {}
        }
    }
    for (_, worker) in workers.drain() {
        worker.stop().await;
    }
    if let Err(error) = leases.release_all(&manager.store).await {
        tracing::warn!(error = %error.chain(), "failed to release leases");
    }
}

async fn round(
    manager: &Arc<Manager>,
    leases: &mut Leases,
    workers: &mut HashMap<ClusterId, Worker>,
) -> kubeop_core::Result<()> {
    let ids = cluster::ids(&mut manager.store.read().await?.conn()).await?;
    let held = leases.round(&manager.store, &ids).await?;
    let lost: Vec<ClusterId> = workers
        .iter()
        .filter(|(id, worker)| !held.contains(id) || worker.task.is_finished())
        .map(|(id, _)| *id)
        .collect();
    for id in lost {
        if let Some(worker) = workers.remove(&id) {
            worker.stop().await;
        }
    }
    for id in held {
        workers.entry(id).or_insert_with(|| {
            let cancel = CancellationToken::new();
            let task = tokio::spawn(worker::serve(Arc::clone(manager), id, cancel.clone()));
            Worker { cancel, task }
        });
    }
    Ok(())
}
