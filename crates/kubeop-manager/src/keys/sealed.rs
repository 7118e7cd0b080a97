//! The places of ciphertexts, and reading and replacing them by seed: what a rotation and a check walk.
//!
//! Invariant: every column that is encrypted under a seed is here, or is the end of an audit chain (a test asks the schema).

use crate::vault::Place;
use kubeop_core::id::ClusterId;
use kubeop_core::{Error, Result};
use kubeop_store::cluster::{self, Sealed};
use kubeop_store::{Conn, idempotency};
use uuid::Uuid;

/// Where a cluster's registered kubeconfig is.
pub fn kubeconfig(cluster: &ClusterId) -> Place<'_> {
    Place { table: "cluster", column: "kubeconfig", row: cluster.0.as_bytes() }
}

/// Where the answer to a request with an `Idempotency-Key` is.
pub fn answer(digest: &[u8]) -> Place<'_> {
    Place { table: "idempotency_key", column: "answer", row: digest }
}

/// An encrypted column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Column {
    /// Registered kubeconfigs.
    Kubeconfig,
    /// Answers kept for their `Idempotency-Key`.
    Answer,
}

/// An encrypted value.
#[derive(Clone, Debug)]
pub struct Value {
    /// The key of its row.
    pub row: Vec<u8>,
    /// The ciphertext.
    pub bytes: Vec<u8>,
}

impl Column {
    /// Every one.
    pub const ALL: [Self; 2] = [Self::Kubeconfig, Self::Answer];

    /// What its values are called.
    pub fn what(self) -> &'static str {
        match self {
            Self::Kubeconfig => "kubeconfigs",
            Self::Answer => "kept answers",
        }
    }

    /// The place of the value in a row.
    pub fn place(self, row: &[u8]) -> Place<'_> {
        match self {
            Self::Kubeconfig => Place { table: "cluster", column: "kubeconfig", row },
            Self::Answer => answer(row),
        }
    }

    /// How many are taken at a time, of `most`: an answer may have megabytes.
    pub fn rows(self, most: u32) -> u32 {
        match self {
            Self::Kubeconfig => most,
            Self::Answer => most.min(4),
        }
    }

    /// Values under a seed, by row, after a row (empty: from the first).
    pub async fn page(self, c: &mut Conn<'_>, seed: Uuid, after: &[u8], rows: u32) -> Result<Vec<Value>> {
        Ok(match self {
            Self::Kubeconfig => {
                let after = if after.is_empty() { Uuid::nil() } else { cluster_id(after)?.0 };
                let found = cluster::sealed_with(c, seed, after, rows).await?;
                found.into_iter().map(|(id, bytes)| Value { row: id.0.as_bytes().to_vec(), bytes }).collect()
            }
            Self::Answer => {
                let found = idempotency::sealed_with(c, seed, after, rows).await?;
                found.into_iter().map(|(row, bytes)| Value { row, bytes }).collect()
            }
        })
    }

    /// Puts a value under another seed, if it is still as it was read; `false`: it was changed meanwhile.
    pub async fn replace(self, c: &mut Conn<'_>, value: &Value, old: Uuid, new: (Uuid, Vec<u8>)) -> Result<bool> {
        Ok(match self {
            Self::Kubeconfig => {
                let old = Sealed { seed_id: old, bytes: value.bytes.clone() };
                let new = Sealed { seed_id: new.0, bytes: new.1 };
                cluster::reseal(c, cluster_id(&value.row)?, &old, &new).await?
            }
            Self::Answer => idempotency::reseal(c, &value.row, (old, &value.bytes), (new.0, &new.1)).await?,
        })
    }
}

fn cluster_id(row: &[u8]) -> Result<ClusterId> {
    Uuid::from_slice(row).map(ClusterId).map_err(Error::internal)
}
