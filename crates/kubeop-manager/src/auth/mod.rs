//! Who calls: tokens, the actor behind them, and the permission an operation asks for.
//!
//! Invariant: a handler can be entered only through [`caller::Caller`], which has authenticated and decided.

pub mod caller;
pub mod permission;
pub mod token;
