//! The API without a cluster: authorization and the shape of errors, walked from the OpenAPI document over a real router and database.
//!
//! Invariant: an operation that is added is walked too; none may answer outside the contract's shapes.

#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "helpers of tests")]

#[macro_use]
mod fixture;

mod audit;
mod authorization;
mod billing;
mod credentials;
mod database;
mod document;
mod early_looks;
mod ending;
mod errors;
mod events;
mod examples;
mod idempotency;
mod ingest;
mod key_damage;
mod key_rotation;
mod late_usage;
mod limits;
mod outage;
mod patch;
#[path = "../../../kubeop-store/tests/conformance/pg_proxy.rs"]
#[expect(dead_code, reason = "the store's own tests use all of it")]
mod pg_proxy;
mod queries;
mod quota;
mod receiver;
mod sizes;
mod sync;
mod tokens;
mod tolerance;
mod verify;
mod wire;
mod world;
