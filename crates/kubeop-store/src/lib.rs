//! The database of kubeOP: SQLite and PostgreSQL behind one SQL text, one module per entity.
//!
//! Invariant: every statement is a registered constant ([`statements`]) that both databases have prepared in the tests; functions take a
//! `&mut Conn`, so that they run inside a transaction or outside one; "not found" is `Ok(None)`; rows of tenants are read through a
//! [`kubeop_core::authz::Scope`].
//!
//! Rows are locked in the order cluster → tenant → project → app, and marks of `cluster_object` come last, so that transactions never
//! wait for each other in a circle. Of money: the invoice counter, then months in order of (month, tenant), then samples in order of their keys.

pub mod app;
pub mod audit;
pub mod backup;
pub mod cluster;
pub mod cluster_lease;
pub mod cluster_object;
mod column;
mod conn;
pub mod encryption_seed;
mod error;
pub mod event_delivery;
pub mod host_claim;
pub mod idempotency;
pub mod invoice;
pub mod issued_kubeconfig;
pub mod issued_token;
pub mod meta;
mod migrations;
pub mod namespace_claim;
pub mod page;
pub mod platform_policy;
pub mod price;
pub mod project;
mod sqlite_file;
pub mod statements;
mod store;
pub mod tenant;
pub mod usage;

pub use column::{Dec, Ts};
pub use conn::{Conn, Read, Tx};
pub use error::{Inserted, Result, StoreError, Taken, is_of_database};
pub use migrations::{Schema, fingerprint as schema_fingerprint, newest as newest_schema};
pub use page::{Filter, Page};
pub use store::{Options, Store};

use conn::on;
use statements::sql;

/// Labels, quotas and other maps of text that rows hold as JSON.
pub type TextMap = std::collections::BTreeMap<String, String>;
