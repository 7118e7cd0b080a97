//! The operator against a real API server (`cargo xtask test` brings one).
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking, its helpers too"
)]

mod amounts;
mod apps;
mod harness;
mod hosts;
mod projects;
mod webhook;
