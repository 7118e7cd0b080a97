//! Reading everything that is encrypted, to tell what does not open.
//!
//! Invariant: writes nothing; needs memory for a page of values.

use super::keyring::MasterKeys;
use super::sealed::Column;
use crate::audit::chain::{is_authentic, name};
use kubeop_core::Result;
use kubeop_store::encryption_seed::{self, EncryptionSeed};
use kubeop_store::{Store, audit};
use std::fmt;
use uuid::Uuid;

const PAGE: u32 = 500;

/// A seed and what is under it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The seed.
    pub seed: Uuid,
    /// The id of the master key that wrapped it.
    pub master_key_id: String,
    /// Whether it was wrapped by the current master key.
    pub current: bool,
    /// Whether it opens with the master keys given.
    pub opens: bool,
    /// Registered kubeconfigs.
    pub kubeconfigs: u64,
    /// Kept answers.
    pub answers: u64,
    /// Ends of audit chains.
    pub chain_ends: u64,
    /// What of these does not open, `table.column of row`; of a seed that does not open itself nothing is named.
    pub unreadable: Vec<String>,
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match (self.opens, self.current) {
            (true, true) => "",
            (true, false) => " (not the current one)",
            (false, _) => " (does not open)",
        };
        write!(
            f,
            "seed {} under master key {}{state}: {} kubeconfigs, {} kept answers, {} ends of audit chains",
            self.seed, self.master_key_id, self.kubeconfigs, self.answers, self.chain_ends
        )
    }
}

/// Reads everything; a seed at a time, oldest first.
pub async fn check(store: &Store, masters: &MasterKeys) -> Result<Vec<Found>> {
    let rows = encryption_seed::list(&mut store.read().await?.conn()).await?;
    let mut all = Vec::with_capacity(rows.len());
    for row in rows {
        all.push(under(store, masters, &row).await?);
    }
    Ok(all)
}

async fn under(store: &Store, masters: &MasterKeys, row: &EncryptionSeed) -> Result<Found> {
    let seed = masters.open(row);
    let mut found = Found {
        seed: row.id,
        master_key_id: row.master_key_id.clone(),
        current: row.master_key_id == masters.current().id(),
        opens: seed.is_some(),
        kubeconfigs: 0,
        answers: 0,
        chain_ends: 0,
        unreadable: Vec::new(),
    };
    for column in Column::ALL {
        let mut after = Vec::new();
        loop {
            let page = column.page(&mut store.read().await?.conn(), row.id, &after, column.rows(PAGE)).await?;
            let Some(last) = page.last() else { break };
            after.clone_from(&last.row);
            for value in &page {
                let place = column.place(&value.row);
                if seed.as_ref().is_some_and(|seed| seed.open(&place, &value.bytes).is_err()) {
                    found.unreadable.push(format!("{}.{} of {}", place.table, place.column, place.name()));
                }
            }
            let read = u64::try_from(page.len()).unwrap_or(u64::MAX);
            match column {
                Column::Kubeconfig => found.kubeconfigs += read,
                Column::Answer => found.answers += read,
            }
        }
    }
    let mut after = None;
    loop {
        let page = audit::chains_with(&mut store.read().await?.conn(), row.id, after, PAGE).await?;
        let Some(last) = page.last() else { return Ok(found) };
        after = Some(last.tenant_id);
        for chain in &page {
            found.chain_ends += 1;
            let holds = match &seed {
                Some(seed) => is_authentic(chain, seed)?,
                None => true,
            };
            if !holds {
                found.unreadable.push(format!("audit_chain.mac of {}", name(chain.tenant_id)));
            }
        }
    }
}
