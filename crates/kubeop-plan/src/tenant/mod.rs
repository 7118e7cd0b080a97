//! Tenants: the envelope, and the ledger of what projects hold of it.
//!
//! Invariant: sums are exact and over canonical keys.

pub mod status;
pub mod validate;

pub use status::{Ledger, ledger};
pub use validate::{ValidTenant, validate};
