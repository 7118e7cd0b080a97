//! Bringing everything that is encrypted under a new master key, beside managers that read and write.
//!
//! Invariant: every step is a short transaction that leaves each value readable with the two master keys, so that a rotation that is killed
//! anywhere goes on when it is run again, and two at once do the work of one. The new key gets a seed of its own: whoever has the key before and
//! an old copy of the database can read nothing that was written since.

use super::keyring::{Keyring, TURN};
use super::sealed::Column;
use crate::audit::chain::{authenticate, is_authentic};
use crate::vault::Seed;
use jiff::SignedDuration;
use kubeop_core::clock::{Clock, IdSource};
use kubeop_core::{Error, ErrorKind, Result};
use kubeop_store::encryption_seed::{self, EncryptionSeed};
use kubeop_store::{Store, audit, meta};
use std::sync::Arc;
use std::time::Duration;
use uuid::Uuid;

/// Values of one transaction: few enough that no writer of a SQLite file notices.
const BATCH: u32 = 100;
/// How often a seed is gone through again because something was still written with it.
const ROUNDS: u32 = 50;
/// Before a seed is gone through again.
const AGAIN: Duration = Duration::from_millis(200);

/// How a rotation goes about it.
pub struct Pace<T> {
    /// Between transactions, so that other writers get their turn.
    pub pause: Duration,
    /// Hears what is done, after each transaction.
    pub tell: T,
}

impl<T: FnMut(&Report)> Pace<T> {
    /// The usual pace: 10 ms after each transaction.
    pub fn usual(tell: T) -> Self {
        Self { pause: Duration::from_millis(10), tell }
    }

    async fn step(&mut self, report: &Report) {
        (self.tell)(report);
        tokio::time::sleep(self.pause).await;
    }
}

/// What was done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Whether a new seed was made.
    pub seed_made: bool,
    /// Kubeconfigs encrypted anew.
    pub kubeconfigs: u64,
    /// Kept answers encrypted anew.
    pub answers: u64,
    /// Ends of audit chains authenticated anew.
    pub chain_ends: u64,
    /// Seeds removed, since nothing is encrypted with them any more.
    pub seeds_removed: u64,
    /// Seeds wrapped anew, since something that cannot be read still names them.
    pub seeds_rewrapped: u64,
    /// Values that do not open: damaged before, and left as they are.
    pub unreadable: u64,
    /// Seeds that do not open with the key before: they still need it, once they are restored.
    pub damaged_seeds: Vec<Uuid>,
}

/// Rotates to the current master key.
///
/// # Errors
/// `Invalid` if a seed was wrapped by neither master key; whatever the database reports. What was done stays done.
pub async fn rotate(
    store: &Store,
    keyring: &Keyring,
    clock: &dyn Clock,
    ids: &dyn IdSource,
    mut pace: Pace<impl FnMut(&Report)>,
) -> Result<Report> {
    let mut report = Report::default();
    let Some(target) = target(store, keyring, clock, ids, &mut report).await? else { return Ok(report) };
    (pace.tell)(&report);
    let rows = encryption_seed::list(&mut store.read().await?.conn()).await?;
    for row in rows.iter().filter(|row| row.id != target.id) {
        let seed = keyring.seed(&mut store.read().await?.conn(), row.id).await?;
        match seed {
            Some(seed) => retire(store, keyring, row, &seed, &target, &mut report, &mut pace).await?,
            // Gone since: another rotation removed it.
            None if gone(store, row.id).await? => {}
            None if row.master_key_id == keyring.masters().current().id() => {}
            None => report.damaged_seeds.push(row.id),
        }
    }
    Ok(report)
}

async fn gone(store: &Store, id: Uuid) -> Result<bool> {
    Ok(encryption_seed::get(&mut store.read().await?.conn(), id).await?.is_none())
}

/// The newest seed if it was made under the current key, else a new one; none if there is no seed at all. (Old seeds are wrapped anew only after
/// it was made, so the newest seed is under the current key if and only if it was made so.)
async fn target(
    store: &Store,
    keyring: &Keyring,
    clock: &dyn Clock,
    ids: &dyn IdSource,
    report: &mut Report,
) -> Result<Option<Arc<Seed>>> {
    let masters = keyring.masters();
    let mut tx = store.begin().await?;
    if encryption_seed::newest(&mut tx.conn()).await?.is_none() {
        return Ok(None);
    }
    // Held until the commit: of two rotations one makes the seed.
    meta::put_if_absent(&mut tx.conn(), TURN, "").await?;
    let rows = encryption_seed::list(&mut tx.conn()).await?;
    let under_current = |row: &EncryptionSeed| row.master_key_id == masters.current().id();
    if let Some(row) = rows.iter().find(|row| masters.named(&row.master_key_id).is_none()) {
        return Err(masters.refusal(&row.master_key_id, rows.iter().any(under_current)));
    }
    let Some(newest) = rows.last() else { return Ok(None) };
    if !under_current(newest) {
        let (seed, wrapped) = masters.current().new_seed(ids.next())?;
        // Clocks of machines differ; the newest seed must not.
        let after = newest.created_at.saturating_add(SignedDuration::from_micros(1)).unwrap_or(newest.created_at);
        let created_at = clock.now().max(after);
        let row = EncryptionSeed { id: seed.id, master_key_id: masters.current().id().to_owned(), wrapped, created_at };
        encryption_seed::insert(&mut tx.conn(), &row).await?;
        report.seed_made = true;
    }
    let target = keyring.current(&mut tx.conn()).await?;
    tx.commit().await?;
    Ok(Some(target))
}

/// What one walk through everything under a seed found.
#[derive(Default)]
struct Walk {
    /// Changed by others while it was encrypted anew.
    raced: u64,
    /// Does not open.
    unreadable: u64,
}

/// Empties a seed and removes it; what cannot be read stays with it, wrapped by the current key.
async fn retire(
    store: &Store,
    keyring: &Keyring,
    row: &EncryptionSeed,
    seed: &Seed,
    target: &Seed,
    report: &mut Report,
    pace: &mut Pace<impl FnMut(&Report)>,
) -> Result<()> {
    for _ in 0..ROUNDS {
        let walk = walk(store, seed, target, report, pace).await?;
        if walk.raced == 0 && walk.unreadable == 0 && remove(store, row.id).await? {
            report.seeds_removed += 1;
            (pace.tell)(report);
            return Ok(());
        }
        if walk.raced == 0 && (walk.unreadable > 0 || gone(store, row.id).await?) {
            report.unreadable += walk.unreadable;
            return rewrap(store, keyring, row, seed, report).await;
        }
        tokio::time::sleep(AGAIN).await;
    }
    Err(Error::unavailable(format!(
        "encryption seed {} is still written with: is a kubeop of another version running? Run the rotation again",
        row.id
    )))
}

async fn remove(store: &Store, id: Uuid) -> Result<bool> {
    let mut tx = store.begin().await?;
    match encryption_seed::remove_unused(&mut tx.conn(), id).await.map_err(Error::from) {
        Ok(removed) => {
            tx.commit().await?;
            Ok(removed)
        }
        Err(error) if error.kind() == ErrorKind::Conflict => Ok(false),
        Err(error) => Err(error),
    }
}

async fn rewrap(
    store: &Store,
    keyring: &Keyring,
    row: &EncryptionSeed,
    seed: &Seed,
    report: &mut Report,
) -> Result<()> {
    let master = keyring.masters().current();
    if row.master_key_id == master.id() {
        return Ok(());
    }
    let mut tx = store.begin().await?;
    // If it is not as it was, another rotation did it.
    report.seeds_rewrapped +=
        u64::from(encryption_seed::rewrap(&mut tx.conn(), row, master.id(), &master.wrap(seed)?).await?);
    Ok(tx.commit().await?)
}

async fn walk(
    store: &Store,
    seed: &Seed,
    target: &Seed,
    report: &mut Report,
    tempo: &mut Pace<impl FnMut(&Report)>,
) -> Result<Walk> {
    let mut walk = Walk::default();
    for column in Column::ALL {
        let mut after = Vec::new();
        loop {
            let mut tx = store.begin().await?;
            let page = column.page(&mut tx.conn(), seed.id, &after, column.rows(BATCH)).await?;
            let Some(last) = page.last() else { break };
            after.clone_from(&last.row);
            let mut done = 0;
            for value in &page {
                let place = column.place(&value.row);
                let Ok(plain) = seed.open(&place, &value.bytes) else {
                    walk.unreadable += 1;
                    continue;
                };
                let new = (target.id, target.seal(&place, &plain)?);
                let replaced = column.replace(&mut tx.conn(), value, seed.id, new).await?;
                done += u64::from(replaced);
                walk.raced += u64::from(!replaced);
            }
            tx.commit().await?;
            match column {
                Column::Kubeconfig => report.kubeconfigs += done,
                Column::Answer => report.answers += done,
            }
            tempo.step(report).await;
        }
    }
    chain_ends(store, seed, target, &mut walk, report, tempo).await?;
    Ok(walk)
}

/// An end that was not written by this installation is left as it is, so that it does not become authentic by a rotation.
async fn chain_ends(
    store: &Store,
    seed: &Seed,
    target: &Seed,
    walk: &mut Walk,
    report: &mut Report,
    tempo: &mut Pace<impl FnMut(&Report)>,
) -> Result<()> {
    let mut after = None;
    loop {
        let page = audit::chains_with(&mut store.read().await?.conn(), seed.id, after, BATCH).await?;
        let Some(last) = page.last() else { return Ok(()) };
        let mut next = last.tenant_id;
        let mut tx = store.begin().await?;
        // The sealer waits; what it sealed since is read.
        audit::begin_sealing(&mut tx.conn(), last.sealed_at).await?;
        let mut done = 0;
        for mut chain in audit::chains_with(&mut tx.conn(), seed.id, after, BATCH).await? {
            next = chain.tenant_id;
            if is_authentic(&chain, seed)? {
                authenticate(&mut chain, target)?;
                audit::put_chain(&mut tx.conn(), &chain).await?;
                done += 1;
            } else {
                walk.unreadable += 1;
            }
        }
        tx.commit().await?;
        after = Some(next);
        report.chain_ends += done;
        tempo.step(report).await;
    }
}
