//! The store's behaviour, each test on both databases.
//!
//! Invariant: a behaviour that is tested on one database only is written so on purpose, next to the reason.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking, its helpers too"
)]

#[macro_use]
mod harness;

mod app;
mod audit;
mod cluster;
mod cluster_lease;
mod cluster_object;
mod cluster_object_work;
mod credentials;
mod encryption_seed;
mod event_delivery;
mod faults_postgres;
mod faults_sqlite;
mod figures;
mod fixture;
mod invoice;
mod invoice_late;
mod invoice_model;
mod invoice_order;
mod meta;
mod migrations;
mod pg_proxy;
mod plans;
mod platform_policy;
mod price;
mod project;
mod statements;
mod store;
mod tenant;
mod usage;
mod usage_sums;
