//! Master keys, the seeds they open, and reading and writing with them.
//!
//! Invariant: a wrong master key is noticed before anything is written; a value that does not open is told by metric and log, by its place alone,
//! and concerns nothing else.

use crate::metrics::SecretLabels;
use crate::vault::{MasterKey, Place, Seed};
use kubeop_core::clock::{Clock, IdSource};
use kubeop_core::{Error, Result};
use kubeop_store::encryption_seed::{self, EncryptionSeed};
use kubeop_store::{Conn, Schema, Store, meta};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use secrecy::SecretSlice;
use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use uuid::Uuid;
use zeroize::Zeroizing;

/// The row of `meta` by which those who may make a seed take turns.
pub(super) const TURN: &str = "first_encryption_seed";

/// How often stored secrets did not open, by table.
pub type Unreadable = Family<SecretLabels, Counter>;

/// The master key, and during a rotation the one before.
pub struct MasterKeys {
    current: MasterKey,
    previous: Option<MasterKey>,
}

impl MasterKeys {
    /// Both keys.
    ///
    /// # Errors
    /// `Invalid` unless each has 32 bytes.
    pub fn new(current: SecretSlice<u8>, previous: Option<SecretSlice<u8>>) -> Result<Self> {
        let current = MasterKey::new(current).map_err(|e| e.at("KUBEOP_KMS_MASTER_KEY"))?;
        let previous = previous.map(MasterKey::new).transpose().map_err(|e| e.at("KUBEOP_KMS_MASTER_KEY_PREVIOUS"))?;
        Ok(Self { current, previous })
    }

    /// The key that wraps.
    pub fn current(&self) -> &MasterKey {
        &self.current
    }

    /// The key of this id, if it is one of the two.
    pub fn named(&self, id: &str) -> Option<&MasterKey> {
        std::iter::once(&self.current).chain(&self.previous).find(|key| key.id() == id)
    }

    /// What is said of a seed that neither key wrapped. `begun`: some seed is wrapped by the current one.
    pub(super) fn refusal(&self, needed: &str, begun: bool) -> Error {
        let id = self.current.id();
        Error::invalid(if begun {
            format!(
                "a rotation of the master key from {needed} to {id} is not finished: give the key with id {needed} as \
                 KUBEOP_KMS_MASTER_KEY_PREVIOUS until `kubeop keys rotate` says that it is no longer needed"
            )
        } else {
            format!(
                "KUBEOP_KMS_MASTER_KEY is not the key this database was encrypted with: it has id {id}, needed is {needed}"
            )
        })
    }

    /// Refuses if a seed was wrapped by neither key, or the newest does not open.
    fn judge(&self, rows: &[EncryptionSeed]) -> Result<()> {
        let begun = rows.iter().any(|row| row.master_key_id == self.current.id());
        if let Some(row) = rows.iter().find(|row| self.named(&row.master_key_id).is_none()) {
            return Err(self.refusal(&row.master_key_id, begun));
        }
        if let Some(newest) = rows.last().filter(|newest| self.open(newest).is_none()) {
            return Err(Error::invalid(format!(
                "encryption seed {} is damaged: nothing can be encrypted; restore its row of encryption_seed from a backup",
                newest.id
            )));
        }
        Ok(())
    }

    /// The seed of a row; none if neither key opens it.
    pub(super) fn open(&self, row: &EncryptionSeed) -> Option<Seed> {
        self.named(&row.master_key_id)?.open_seed(row.id, &row.wrapped).ok()
    }
}

/// Encrypts and decrypts what is stored.
pub struct Keyring {
    masters: MasterKeys,
    seeds: RwLock<HashMap<Uuid, Arc<Seed>>>,
    unreadable: Unreadable,
}

/// Refuses master keys that do not open what the database holds. Writes nothing; the schema may be an older one, or none.
pub async fn check(store: &Store, masters: &MasterKeys) -> Result<()> {
    match store.schema().await? {
        Schema::Behind { found: 0, .. } => Ok(()),
        _ => masters.judge(&encryption_seed::list(&mut store.read().await?.conn()).await?),
    }
}

/// Where what is encrypted is kept.
const SEALED: [&str; 3] = ["encryption_seed", "cluster", "idempotency_key"];

/// Opens every seed; makes the first one.
pub async fn open(
    store: &Store,
    masters: MasterKeys,
    clock: &dyn Clock,
    ids: &dyn IdSource,
    unreadable: Unreadable,
) -> Result<Keyring> {
    let mut rows = encryption_seed::list(&mut store.read().await?.conn()).await?;
    if rows.is_empty() {
        rows = make_first(store, masters.current(), clock, ids).await?;
    }
    unwrap(masters, &rows, unreadable)
}

/// Opens every seed there is; makes none.
pub async fn open_existing(store: &Store, masters: MasterKeys) -> Result<Keyring> {
    let rows = encryption_seed::list(&mut store.read().await?.conn()).await?;
    unwrap(masters, &rows, Unreadable::default())
}

fn unwrap(masters: MasterKeys, rows: &[EncryptionSeed], unreadable: Unreadable) -> Result<Keyring> {
    masters.judge(rows)?;
    for table in SEALED {
        // An alarm on a rise sees the first one only where there was a zero before.
        drop(unreadable.get_or_create(&SecretLabels { table }));
    }
    let keyring = Keyring { masters, seeds: RwLock::default(), unreadable };
    for row in rows {
        let _ = keyring.keep(row);
    }
    if rows.iter().any(|row| row.master_key_id != keyring.masters.current().id()) {
        tracing::warn!(
            "the master key before is still needed: run `kubeop keys rotate` once every manager has both keys"
        );
    }
    Ok(keyring)
}

/// Makes the first seed, or waits for the replica that does, so that all have one.
async fn make_first(
    store: &Store,
    master: &MasterKey,
    clock: &dyn Clock,
    ids: &dyn IdSource,
) -> Result<Vec<EncryptionSeed>> {
    let (seed, wrapped) = master.new_seed(ids.next())?;
    let row = EncryptionSeed { id: seed.id, master_key_id: master.id().to_owned(), wrapped, created_at: clock.now() };
    let mut tx = store.begin().await?;
    // Holds the row until the commit, also where it is there already.
    meta::put_if_absent(&mut tx.conn(), TURN, &row.id.to_string()).await?;
    let mut rows = encryption_seed::list(&mut tx.conn()).await?;
    if rows.is_empty() {
        encryption_seed::insert(&mut tx.conn(), &row).await?;
        rows.push(row);
    }
    tx.commit().await?;
    Ok(rows)
}

impl Keyring {
    /// The master keys.
    pub fn masters(&self) -> &MasterKeys {
        &self.masters
    }

    /// The seed to encrypt with. In a transaction it stays until the end of that.
    ///
    /// # Errors
    /// `Unavailable` if this process was not given the master key of it.
    pub async fn current(&self, c: &mut Conn<'_>) -> Result<Arc<Seed>> {
        let newest =
            encryption_seed::newest(c).await?.ok_or_else(|| Error::unavailable("there is no encryption seed"))?;
        self.seed(c, newest).await?.ok_or_else(|| {
            Error::unavailable("the master key was rotated, and this process has not been given the new one")
        })
    }

    /// The seed of this id; none if there is none, or it does not open with our master keys.
    pub async fn seed(&self, c: &mut Conn<'_>, id: Uuid) -> Result<Option<Arc<Seed>>> {
        let known = self.seeds.read().unwrap_or_else(PoisonError::into_inner).get(&id).map(Arc::clone);
        if known.is_some() {
            return Ok(known);
        }
        // Made by a rotation since.
        Ok(encryption_seed::get(c, id).await?.and_then(|row| self.keep(&row)))
    }

    fn keep(&self, row: &EncryptionSeed) -> Option<Arc<Seed>> {
        let Some(seed) = self.masters.open(row).map(Arc::new) else {
            let place = Place { table: "encryption_seed", column: "wrapped", row: row.id.as_bytes() };
            tracing::error!(seed = %row.id, master_key = row.master_key_id, "an encryption seed does not open with the master keys given");
            self.count(&place);
            return None;
        };
        self.seeds.write().unwrap_or_else(PoisonError::into_inner).insert(row.id, Arc::clone(&seed));
        Some(seed)
    }

    /// Encrypts a value for its place; with the id of the seed that opens it. To be written in the same transaction.
    pub async fn seal(&self, c: &mut Conn<'_>, place: &Place<'_>, plain: &[u8]) -> Result<(Uuid, Vec<u8>)> {
        let seed = self.current(c).await?;
        Ok((seed.id, seed.seal(place, plain)?))
    }

    /// Decrypts a value of its place.
    ///
    /// # Errors
    /// `Internal` if it does not open: it was damaged, or belongs elsewhere.
    pub async fn open(
        &self,
        c: &mut Conn<'_>,
        place: &Place<'_>,
        seed: Uuid,
        sealed: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>> {
        let opened = match self.seed(c, seed).await? {
            Some(seed) => seed.open(place, sealed),
            None => Err(Error::internal(format!(
                "a sealed value of {}.{} of {} does not open, since encryption seed {seed} does not",
                place.table,
                place.column,
                place.name()
            ))),
        };
        opened.inspect_err(|error| {
            tracing::error!(table = place.table, column = place.column, row = %place.name(), %seed, error = %error.chain(), "a stored secret cannot be read");
            self.count(place);
        })
    }

    fn count(&self, place: &Place<'_>) {
        self.unreadable.get_or_create(&SecretLabels { table: place.table }).inc();
    }
}
