//! The audit log beyond its rows: digests of what was changed, the chain that seals the records, and its verification.
//!
//! Invariant: nothing here changes what a record says.

pub mod chain;
pub mod digest;
pub mod sealer;
pub mod verify;
