//! One file per role: where adapters, configuration and role meet.
//!
//! Invariant: no logic; a role is its library's `run`.

pub(crate) mod admission;
pub(crate) mod audit;
pub(crate) mod backup;
pub(crate) mod dev;
pub(crate) mod healthcheck;
pub(crate) mod host;
pub(crate) mod keys;
pub(crate) mod manager;
pub(crate) mod metrics;
pub(crate) mod migrate;
pub(crate) mod operator;
pub(crate) mod token;
