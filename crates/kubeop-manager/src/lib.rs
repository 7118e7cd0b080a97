//! The manager: REST API, sync of desired state to clusters, usage and invoices.
//!
//! Invariant: a request changes the database only; what clusters hold follows from the rows, by the sync. Exceptions are registration,
//! bootstrap and credential issue, which need a cluster's answer.

pub mod api;
pub mod audit;
pub mod auth;
pub mod bootstrap;
pub mod clusters;
pub mod config;
pub mod events;
pub mod http;
pub mod jobs;
pub mod keys;
pub mod metrics;
pub mod openapi;
pub mod router;
pub mod run;
pub mod state;
pub mod sync;
pub mod vault;

pub use config::Config;
pub use run::{Deps, run};
