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
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

const EVERY: Duration = Duration::from_mins(1);
const PAGE: u32 = 200;
const STEP: u32 = 500;
/// How long a round stays with one cluster.
const TURN: Duration = Duration::from_mins(1);
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

/// Collects all that ended. What fails in one part, or on one cluster, keeps nothing else from being collected.
pub async fn round(manager: &Manager) -> Result<()> {
    let homes = homes(manager).await;
    if let Ok(homes) = &homes {
        stream::iter(homes).for_each_concurrent(CLUSTERS, async |home| drain(manager, *home).await).await;
    }
    let tokens = forget_tokens(manager).await;
    collect_unrecorded(manager).await?;
    homes?;
    tokens
}

/// The clusters that kubeconfigs were issued for.
async fn homes(manager: &Manager) -> Result<Vec<ClusterId>> {
    let mut all = Vec::new();
    while let Some(home) =
        issued_kubeconfig::next_home(&mut manager.store.read().await?.conn(), all.last().copied()).await?
    {
        all.push(home);
    }
    Ok(all)
}

/// Collects a cluster's kubeconfigs until none is due, it fails, or its turn is over.
async fn drain(manager: &Manager, home: ClusterId) {
    let begun = Instant::now();
    while begun.elapsed() < TURN {
        match step(manager, home).await {
            Ok(true) => {}
            Ok(false) => return,
            Err(error) => {
                tracing::warn!(cluster = %home, error = %error.chain(), "failed to collect a cluster's kubeconfigs");
                return;
            }
        }
    }
}

/// Collects some of a cluster's kubeconfigs; whether more can be.
async fn step(manager: &Manager, home: ClusterId) -> Result<bool> {
    let now = manager.clock.now();
    let due = issued_kubeconfig::due_for_collection(&mut manager.store.read().await?.conn(), home, now, PAGE).await?;
    if due.is_empty() {
        return Ok(false);
    }
    let full = due.len() >= usize::try_from(PAGE).unwrap_or(usize::MAX);
    let Found { gone, left } = collect_on(manager, home, due).await;
    let mut tx = manager.store.begin().await?;
    issued_kubeconfig::remove(&mut tx.conn(), &gone).await?;
    issued_kubeconfig::postpone(&mut tx.conn(), &left, now + RETRY).await?;
    tx.commit().await?;
    Ok(full && !gone.is_empty())
}

/// Forgets tokens that ended an hour ago.
async fn forget_tokens(manager: &Manager) -> Result<()> {
    let before = manager.clock.now() - SignedDuration::from_hours(1);
    loop {
        let mut tx = manager.store.begin().await?;
        let gone = issued_token::remove_expired(&mut tx.conn(), before, STEP).await?;
        tx.commit().await?;
        if gone < u64::from(STEP) {
            return Ok(());
        }
    }
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
