//! Collecting kubeconfigs that ended: their Secrets on the clusters, then their rows.
//!
//! Invariant: a row goes only when its Secret is gone or its cluster is not registered any more, and whether a token has ended is the cluster's
//! clock to say.

use crate::state::Manager;
use futures::stream::{self, StreamExt};
use jiff::SignedDuration;
use kubeop_cluster::{clock, credential};
use kubeop_core::id::{ClusterId, KubeconfigId};
use kubeop_core::{Error, Result};
use kubeop_store::cluster::BootstrapState;
use kubeop_store::issued_kubeconfig::{self, IssuedKubeconfig};
use kubeop_store::{Page, cluster, issued_token};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

const EVERY: Duration = Duration::from_mins(1);
const PAGE: u32 = 200;
/// How many clusters are asked at a time, and read at a time.
const CLUSTERS: usize = 8;
const CLUSTER_PAGE: u32 = 500;
/// How long one may take: a silent cluster must not hold up the others' credentials.
const LIMIT: Duration = Duration::from_secs(20);
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
    let mut homes: BTreeMap<ClusterId, Vec<IssuedKubeconfig>> = BTreeMap::new();
    for row in due {
        homes.entry(row.cluster_id).or_default().push(row);
    }
    let found: Vec<Found> = stream::iter(homes)
        .map(|(home, rows)| collect_on(manager, home, rows))
        .buffer_unordered(CLUSTERS)
        .collect()
        .await;
    let (gone, left): (Vec<_>, Vec<_>) = found.into_iter().map(|found| (found.gone, found.left)).unzip();
    let mut tx = manager.store.begin().await?;
    issued_kubeconfig::remove(&mut tx.conn(), &gone.concat()).await?;
    issued_kubeconfig::postpone(&mut tx.conn(), &left.concat(), now + RETRY).await?;
    issued_token::remove_expired(&mut tx.conn(), now - SignedDuration::from_hours(1)).await?;
    tx.commit().await?;
    collect_unrecorded(manager).await
}

/// What became of a cluster's kubeconfigs that are due.
#[derive(Default)]
struct Found {
    gone: Vec<KubeconfigId>,
    left: Vec<KubeconfigId>,
}

/// Deletes the Secrets of a cluster's kubeconfigs that were revoked, or have ended by the cluster's own clock.
async fn collect_on(manager: &Manager, home: ClusterId, rows: Vec<IssuedKubeconfig>) -> Found {
    let mut found = Found::default();
    let collecting = async {
        let Some(home) = cluster::get(&mut manager.store.read().await?.conn(), home).await? else {
            found.gone.extend(rows.iter().map(|row| row.id));
            return Ok(());
        };
        let client = manager.clusters.get(&manager.store, &home).await?.manager().await?;
        let there = clock::server_time(&client).await?;
        for row in rows.iter().filter(|row| row.revoked_at.is_some() || row.expires_at <= there) {
            credential::revoke(&client, &row.secret_name, &row.secret_uid).await?;
            found.gone.push(row.id);
        }
        Ok::<_, Error>(())
    };
    match tokio::time::timeout(LIMIT, collecting).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => {
            tracing::debug!(cluster = %home, error = %error.chain(), "failed to collect a cluster's kubeconfigs");
        }
        Err(_) => tracing::debug!(cluster = %home, "its kubeconfigs are not collected: it does not answer"),
    }
    found.left = rows.iter().map(|row| row.id).filter(|id| !found.gone.contains(id)).collect();
    found
}

/// Deletes Secrets that expired on the clusters, also such as a process that was killed never recorded.
async fn collect_unrecorded(manager: &Manager) -> Result<()> {
    let mut page = Page::first(CLUSTER_PAGE);
    loop {
        let rows = cluster::list(&mut manager.store.read().await?.conn(), &page).await?;
        let next = rows.last().map(|row| (row.created_at, row.id.0));
        stream::iter(rows.into_iter().filter(|row| row.bootstrap_state == BootstrapState::Done))
            .for_each_concurrent(CLUSTERS, async |row| {
                let collecting = async {
                    let client = manager.clusters.get(&manager.store, &row).await?.manager().await?;
                    credential::collect_expired(&client, clock::server_time(&client).await?).await
                };
                match tokio::time::timeout(LIMIT, collecting).await {
                    Ok(Ok(_)) => {}
                    Ok(Err(error)) => {
                        tracing::debug!(cluster = %row.name, error = %error.chain(), "failed to collect expired Secrets");
                    }
                    Err(_) => tracing::debug!(cluster = %row.name, "expired Secrets are not collected: it does not answer"),
                }
            })
            .await;
        let Some(next) = next else { return Ok(()) };
        page.after = Some(next);
    }
}

/// Deletes the Secret behind a kubeconfig.
pub async fn take_away(manager: &Manager, row: &IssuedKubeconfig) -> Result<()> {
    let home = cluster::get(&mut manager.store.read().await?.conn(), row.cluster_id).await?;
    let Some(home) = home else { return Ok(()) };
    let client = manager.clusters.get(&manager.store, &home).await?.manager().await?;
    credential::revoke(&client, &row.secret_name, &row.secret_uid).await.map(|_| ())
}
