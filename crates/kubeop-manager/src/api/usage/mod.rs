//! Usage: taken in exactly once, shown per month.
//!
//! Invariant: a batch is stored whole or not at all.

pub mod ingest;
pub mod snapshot;
