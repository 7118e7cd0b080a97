//! The sealer: gives records that were committed their places in their tenants' chains, in batches.
//!
//! Invariant: one replica at a time, by a row's lock that its transaction holds; a batch is sealed whole or not at all.

use super::chain::{authenticate, hash, is_ours, name};
use crate::keys::Keyring;
use crate::state::Manager;
use jiff::Timestamp;
use kubeop_core::Result;
use kubeop_store::audit::{self, Chain, Seal};
use kubeop_store::{Conn, Store};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// How long a record may wait for its seal, about.
const EVERY: Duration = Duration::from_secs(1);
/// Records of a batch: few enough that no writer of a SQLite file notices.
const BATCH: u32 = 500;

/// Seals until the process ends.
pub async fn run(manager: Arc<Manager>, shutdown: CancellationToken) {
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(EVERY) => {}
        }
        let sealing = seal_all(&manager.store, manager.clusters.keyring(), manager.clock.now());
        let sealed = tokio::select! {
            // What it was at is rolled back, and sealed by the next process.
            () = shutdown.cancelled() => return,
            sealed = sealing => sealed,
        };
        if let Err(error) = sealed {
            tracing::warn!(error = %error.chain(), "failed to seal the audit log; it is tried again");
        }
    }
}

/// Seals what there is; returns how many records.
pub async fn seal_all(store: &Store, keyring: &Keyring, now: Timestamp) -> Result<usize> {
    let mut all = 0;
    while audit::has_unsealed(&mut store.read().await?.conn()).await? {
        let sealed = seal_batch(store, keyring, now).await?;
        if sealed == 0 {
            break;
        }
        all += sealed;
    }
    Ok(all)
}

/// Seals one batch; returns how many records.
pub async fn seal_batch(store: &Store, keyring: &Keyring, now: Timestamp) -> Result<usize> {
    let mut tx = store.begin().await?;
    let mut platform = audit::begin_sealing(&mut tx.conn(), now).await?;
    // Read under the lock: what another sealer sealed meanwhile is not among them.
    let records = audit::unsealed(&mut tx.conn(), BATCH).await?;
    if records.is_empty() {
        tx.rollback().await?;
        return Ok(0);
    }
    let seed = keyring.current(&mut tx.conn()).await?;
    let mut new_chains = i64::from(is_new(&platform));
    // Before any batch, also one without a record of the platform: its end is authenticated anew with every batch.
    own(&mut tx.conn(), keyring, &mut platform).await?;
    let mut seals = Vec::with_capacity(records.len());
    for group in records.chunk_by(|one, next| one.tenant_id == next.tenant_id) {
        let Some(tenant_id) = group.first().map(|record| record.tenant_id) else { continue };
        let mut chain = if tenant_id.is_none() { platform.clone() } else { of(&mut tx.conn(), tenant_id, now).await? };
        if tenant_id.is_some() {
            new_chains += i64::from(is_new(&chain));
            own(&mut tx.conn(), keyring, &mut chain).await?;
        }
        for record in group {
            chain.seq += 1;
            chain.hash = hash(&chain.hash, record, chain.seq)?;
            seals.push(Seal { tenant_id, id: record.id, seq: chain.seq, hash: chain.hash.clone() });
        }
        chain.sealed_at = now;
        if tenant_id.is_none() {
            platform = chain;
        } else {
            authenticate(&mut chain, &seed)?;
            audit::put_chain(&mut tx.conn(), &chain).await?;
        }
    }
    platform.chains += new_chains;
    authenticate(&mut platform, &seed)?;
    audit::put_chain(&mut tx.conn(), &platform).await?;
    audit::seal(&mut tx.conn(), &seals).await?;
    tx.commit().await?;
    Ok(seals.len())
}

/// Whether nothing was ever sealed in it. An end without a seed that holds anything was written by somebody else.
fn is_new(chain: &Chain) -> bool {
    chain.seed_id.is_none() && chain.seq == 0 && chain.hash.is_empty() && chain.chains == 0
}

/// Makes sure that the end is ours. Going on from another as if nothing was would make it authentic: it gets an empty place, which is found for ever.
async fn own(conn: &mut Conn<'_>, keyring: &Keyring, chain: &mut Chain) -> Result<()> {
    if is_new(chain) || is_ours(conn, keyring, chain).await? {
        return Ok(());
    }
    tracing::error!(
        chain = name(chain.tenant_id),
        place = chain.seq,
        "the end of an audit chain was not written by this installation"
    );
    chain.seq += 1;
    Ok(())
}

async fn of(conn: &mut Conn<'_>, tenant_id: Option<kubeop_core::id::TenantId>, now: Timestamp) -> Result<Chain> {
    Ok(audit::chain(conn, tenant_id).await?.unwrap_or_else(|| Chain::new(tenant_id, now)))
}
