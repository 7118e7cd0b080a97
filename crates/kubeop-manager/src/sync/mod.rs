//! The sync: from rows to the custom resources of clusters, level-triggered, and their status back.
//!
//! Invariant: a cluster is served by the one replica that holds its lease; what is applied is rendered from the rows as they are now.

pub mod forget;
mod gone;
mod lease;
mod mirror;
mod namespaces;
pub mod objects;

mod policy;
mod queue;
pub mod reach;
mod readiness;
pub mod render;
mod repair;
pub mod settle;
mod throttle;
mod turns;
mod upgrade;
mod wake;
mod worker;
mod write;

pub use lease::Pace;
pub use turns::Turns;
pub use wake::Wake;

use crate::state::Manager;
use futures::future::join_all;
use kubeop_core::id::ClusterId;
use kubeop_store::cluster;
use lease::Leases;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

/// How long a worker may take to end before it is cut off.
const ENDING: Duration = Duration::from_secs(2);

struct Worker {
    cancel: CancellationToken,
    task: JoinHandle<()>,
}

impl Worker {
    async fn stop(mut self) {
        self.cancel.cancel();
        // A worker that panicked has stopped too; the panic was logged where it happened.
        if timeout(ENDING, &mut self.task).await.is_err() {
            self.task.abort();
        }
    }
}

/// The workers of the clusters that this replica serves.
#[derive(Default)]
struct Workers(HashMap<ClusterId, Worker>);

impl Workers {
    /// Stops these, all at once; returns when none of them works any more.
    async fn stop(&mut self, manager: &Manager, ids: &[ClusterId]) {
        let stopping: Vec<_> = ids.iter().filter_map(|id| self.0.remove(id)).map(Worker::stop).collect();
        join_all(stopping).await;
        self.count(manager);
    }

    /// Serves these and no others.
    async fn serve(&mut self, manager: &Arc<Manager>, held: &HashSet<ClusterId>) {
        let over = |(id, worker): &(&ClusterId, &Worker)| !held.contains(id) || worker.task.is_finished();
        let over: Vec<ClusterId> = self.0.iter().filter(over).map(|(id, _)| *id).collect();
        self.stop(manager, &over).await;
        for id in held {
            self.0.entry(*id).or_insert_with(|| {
                let cancel = CancellationToken::new();
                let task = tokio::spawn(worker::serve(Arc::clone(manager), *id, cancel.clone()));
                Worker { cancel, task }
            });
        }
        self.count(manager);
    }

    fn count(&self, manager: &Manager) {
        manager.metrics.clusters_served.set(i64::try_from(self.0.len()).unwrap_or(i64::MAX));
    }
}

/// Serves every cluster whose lease this replica gets, until the process ends. A lease that cannot be renewed, also because the database
/// is silent, is not trusted for long: its cluster is left to others.
pub async fn supervise(manager: Arc<Manager>, pace: Pace, shutdown: CancellationToken) {
    let mut leases = Leases::new(manager.ids.next(), !manager.store.is_shared(), pace);
    let mut workers = Workers::default();
    loop {
        match timeout_at(leases.round_until(), round(&manager, &mut leases)).await {
            Ok(Ok(held)) => workers.serve(&manager, &held).await,
            failed => {
                let why = match failed {
                    Ok(Err(error)) => error.chain(),
                    _ => "the database does not answer in time".to_owned(),
                };
                tracing::warn!(error = why, "failed to renew leases");
                let overdue = leases.overdue();
                for id in &overdue {
                    tracing::warn!(cluster = %id, "lease not renewed in time: no longer serving");
                }
                workers.stop(&manager, &overdue).await;
            }
        }
        tokio::select! {
            () = shutdown.cancelled() => break,
            () = sleep(pace.every) => {}
            () = manager.wake.supervisor() => {}
        }
    }
    let all: Vec<ClusterId> = workers.0.keys().copied().collect();
    workers.stop(&manager, &all).await;
    if let Err(error) = leases.release_all(&manager.store).await {
        tracing::warn!(error = %error.chain(), "failed to release leases");
    }
}

async fn round(manager: &Manager, leases: &mut Leases) -> kubeop_core::Result<HashSet<ClusterId>> {
    let ids = cluster::ids(&mut manager.store.read().await?.conn()).await?;
    leases.round(&manager.store, &ids).await
}
