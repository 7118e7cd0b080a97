//! The API without a cluster: authorization and the shape of errors, walked from the OpenAPI document over a real router and database.
//!
//! Invariant: an operation that is added is walked too; none may answer outside the contract's shapes.

#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "helpers of tests")]

#[macro_use]
mod fixture;

mod audit;
mod authorization;
mod billing;
mod database;
mod document;
mod errors;
mod events;
mod idempotency;
mod ingest;
mod limits;
mod patch;
mod receiver;
mod tokens;
mod tolerance;
mod verify;
mod world;
