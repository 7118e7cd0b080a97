//! Collecting kubeconfigs that ended: their Secrets on the clusters, then their rows.
//!
//! Invariant: a row goes only when its Secret is gone or its cluster is not registered any more.

use crate::state::Manager;
use jiff::SignedDuration;
use kubeop_cluster::credential;
use kubeop_core::Result;
use kubeop_store::cluster::BootstrapState;
use kubeop_store::issued_kubeconfig::{self, IssuedKubeconfig};
use kubeop_store::{Page, cluster, issued_token};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

const EVERY: Duration = Duration::from_mins(1);
const PAGE: u32 = 200;
/// How long a Secret that could not be deleted is left before the next attempt.
const RETRY: SignedDuration = SignedDuration::from_mins(2);

/// Collects until the process ends.
pub async fn collect(manager: Arc<Manager>, shutdown: CancellationToken) {
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(EVERY) => {}
        }
        if let Err(error) = round(&manager).await {
            tracing::warn!(error = %error.chain(), "failed to collect ended credentials");
        }
    }
}

async fn round(manager: &Manager) -> Result<()> {
    let now = manager.clock.now();
    let due = issued_kubeconfig::due_for_collection(&mut manager.store.read().await?.conn(), now, PAGE).await?;
    for row in due {
        let outcome = take_away(manager, &row).await;
        let mut tx = manager.store.begin().await?;
        match outcome {
            Ok(()) => {
                issued_kubeconfig::remove(&mut tx.conn(), row.tenant_id, row.id).await?;
            }
            Err(error) => {
                tracing::debug!(kubeconfig = %row.id, error = %error.chain(), "failed to collect a kubeconfig");
                issued_kubeconfig::postpone(&mut tx.conn(), row.tenant_id, row.id, now + RETRY).await?;
            }
        }
        tx.commit().await?;
    }
    collect_unrecorded(manager).await?;
    let mut tx = manager.store.begin().await?;
    issued_token::remove_expired(&mut tx.conn(), now - SignedDuration::from_hours(1)).await?;
    tx.commit().await?;
    Ok(())
}

/// Deletes Secrets that expired on the clusters, also such as a process that was killed never recorded.
async fn collect_unrecorded(manager: &Manager) -> Result<()> {
    let rows = cluster::list(&mut manager.store.read().await?.conn(), &Page::first(1000)).await?;
    for row in rows.into_iter().filter(|row| row.bootstrap_state == BootstrapState::Done) {
        let collecting = async {
            let client = manager.clusters.get(&manager.store, &row).await?.manager().await?;
            credential::collect_expired(&client, manager.clock.now()).await
        };
        if let Err(error) = collecting.await {
            tracing::debug!(cluster = %row.name, error = %error.chain(), "failed to collect expired Secrets");
        }
    }
    Ok(())
}

/// Deletes the Secret behind a kubeconfig.
pub async fn take_away(manager: &Manager, row: &IssuedKubeconfig) -> Result<()> {
    let home = cluster::get(&mut manager.store.read().await?.conn(), row.cluster_id).await?;
    let Some(home) = home else { return Ok(()) };
    let client = manager.clusters.get(&manager.store, &home).await?.manager().await?;
    credential::revoke(&client, &row.secret_name, &row.secret_uid).await.map(|_| ())
}
