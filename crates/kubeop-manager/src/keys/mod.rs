//! The keys under everything that is stored encrypted: master keys wrap seeds, the newest seed encrypts, every seed decrypts what it encrypted.
//!
//! Invariant: which seed is the newest is asked of the database in the transaction that writes, never remembered, so that a rotation by another
//! process takes effect at once; seeds themselves never change and are kept open.

pub mod check;
pub mod keyring;
pub mod rotate;
pub mod sealed;

pub use keyring::{Keyring, MasterKeys};
