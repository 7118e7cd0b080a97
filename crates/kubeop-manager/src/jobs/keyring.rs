//! Opening the encryption seeds at start.
//!
//! Invariant: a wrong master key stops the start before anything is written.

use crate::clusters::Keyring;
use crate::vault::MasterKey;
use kubeop_core::clock::{Clock, IdSource};
use kubeop_core::{Error, Result};
use kubeop_store::encryption_seed::{self, EncryptionSeed};
use kubeop_store::{Store, meta};

/// The row of `meta` by which replicas that find no seed take turns.
const FIRST: &str = "first_encryption_seed";

/// Opens every seed; makes the first one.
pub async fn open(store: &Store, master: &MasterKey, clock: &dyn Clock, ids: &dyn IdSource) -> Result<Keyring> {
    let mut rows = encryption_seed::list(&mut store.read().await?.conn()).await?;
    if rows.is_empty() {
        rows = make_first(store, master, clock, ids).await?;
    }
    unwrap(master, &rows)
}

/// Opens every seed there is; makes none.
pub async fn open_existing(store: &Store, master: &MasterKey) -> Result<Keyring> {
    unwrap(master, &encryption_seed::list(&mut store.read().await?.conn()).await?)
}

fn unwrap(master: &MasterKey, rows: &[EncryptionSeed]) -> Result<Keyring> {
    let wrong = |id: &str| {
        Error::invalid(format!(
            "KUBEOP_KMS_MASTER_KEY is not the key this database was encrypted with: it has id {}, needed is {id}",
            master.id()
        ))
    };
    rows.iter()
        .map(|row| {
            if row.master_key_id != master.id() {
                return Err(wrong(&row.master_key_id));
            }
            master.open_seed(row.id, &row.wrapped)
        })
        .collect::<Result<Vec<_>>>()
        .map(Keyring::new)
}

/// Makes the first seed, or waits for the replica that does: two seeds, of which each replica knows its own, would hide clusters from one of them.
async fn make_first(
    store: &Store,
    master: &MasterKey,
    clock: &dyn Clock,
    ids: &dyn IdSource,
) -> Result<Vec<EncryptionSeed>> {
    let (seed, wrapped) = master.new_seed(ids.next())?;
    let row = EncryptionSeed { id: seed.id, master_key_id: master.id(), wrapped, created_at: clock.now() };
    let mut tx = store.begin().await?;
    // Holds the row until the commit, also where it is there already.
    meta::put_if_absent(&mut tx.conn(), FIRST, &row.id.to_string()).await?;
    let mut rows = encryption_seed::list(&mut tx.conn()).await?;
    if rows.is_empty() {
        encryption_seed::insert(&mut tx.conn(), &row).await?;
        rows.push(row);
    }
    tx.commit().await?;
    Ok(rows)
}
