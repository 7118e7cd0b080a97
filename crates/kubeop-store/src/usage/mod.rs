//! The usage ledger: one row per (hour, tenant, project or none, source).
//!
//! Invariant: sending a sample again sets it, never adds; sums are exact, whatever their size.

mod copy;
mod put;
mod sums;

pub use put::{Counts, put};
pub use sums::{IntervalSum, TenantTotal, sums, total, totals};

pub use kubeop_core::usage::Sample;

use crate::StoreError;
use crate::statements::sql;
use jiff::Timestamp;

/// An hour in microseconds.
const HOUR_US: i64 = 3_600_000_000;

/// The hours in `[from, until)`; both must be whole hours.
fn hours(from: Timestamp, until: Timestamp) -> Result<Vec<Timestamp>, StoreError> {
    let (from, until) = (from.as_microsecond(), until.as_microsecond());
    if from % HOUR_US != 0 || until % HOUR_US != 0 {
        return Err(StoreError::Defect("usage is summed over whole hours".to_owned()));
    }
    let count = usize::try_from((until - from) / HOUR_US).unwrap_or(0);
    if count > 100_000 {
        return Err(StoreError::Defect(format!("usage is summed over at most 100000 hours, not {count}")));
    }
    std::iter::successors(Some(from), |at| at.checked_add(HOUR_US))
        .take(count)
        .map(|at| Timestamp::from_microsecond(at).map_err(|error| StoreError::Defect(error.to_string())))
        .collect()
}
