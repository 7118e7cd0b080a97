//! Both databases, one after the other: requests, ingest, lists.

use crate::home::{Home, Kind};
use crate::{ingest, lists, requests};
use anyhow::Result;
use clap::Args;

/// Arguments.
#[derive(Args)]
pub(crate) struct Options {
    /// Only this database.
    #[arg(long)]
    only: Option<Kind>,
    /// Requests of each kind.
    #[arg(long, default_value_t = 2000)]
    requests: usize,
    /// Batches of 100,000 samples.
    #[arg(long, default_value_t = 3)]
    batches: usize,
    /// Apps of the long list; 0 leaves lists out.
    #[arg(long, default_value_t = 1_000_000)]
    apps: usize,
}

pub(crate) async fn run(options: &Options) -> Result<()> {
    for kind in [Kind::Postgres, Kind::Sqlite] {
        if options.only.is_some_and(|only| only != kind) {
            continue;
        }
        println!("\n{}", kind.as_str());
        let mut home = Home::new(kind, 2000).await?;
        requests::measure(&mut home, options.requests).await?;
        ingest::measure(&mut home, options.batches).await?;
        home.leave().await?;
        if options.apps > 0 {
            let mut home = Home::new(kind, lists::FEW).await?;
            lists::measure(&mut home, options.apps).await?;
            home.leave().await?;
        }
    }
    Ok(())
}
