//! Figures at scale, each beside what the bare database or the bare API server does in the same run. `cargo xtask bench` builds this, brings what
//! it needs and runs it; docs/benchmarks.md says how to read it. Reported, never asserted: a timed test is a flaky test.
#![expect(clippy::indexing_slicing, reason = "indexing a JSON value gives null where there is nothing")]

mod database;
mod figures;
mod home;
mod ingest;
mod lists;
mod load;
mod requests;
mod sync;

use anyhow::Result;
use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "bench")]
struct Cli {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Requests, ingest and lists against both databases.
    Database(database::Options),
    /// Many tenants brought to one cluster, with another one in trouble.
    Sync(sync::Options),
}

#[tokio::main]
async fn main() -> Result<()> {
    match Cli::parse().what {
        What::Database(options) => database::run(&options).await,
        What::Sync(options) => sync::run(&options).await,
    }
}
