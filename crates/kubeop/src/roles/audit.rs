//! `kubeop audit`.
//!
//! Invariant: reads only, beside a running manager too; what was found is on stdout, a line each.

use crate::cli::VerifyArgs;
use crate::config::DatabaseArgs;
use anyhow::{Context, bail};
use kubeop_core::clock::{Clock, SystemClock};
use kubeop_manager::audit::verify::{self, Head};
use kubeop_manager::keys::keyring;
use kubeop_store::{Options, Store};
use std::fs;

async fn open(args: &DatabaseArgs) -> anyhow::Result<Store> {
    let store = Store::open_to_read(&args.existing(), Options::default())
        .await
        .map_err(kubeop_core::Error::from)
        .context("KUBEOP_DB_URL")?;
    let schema = store.schema().await.map_err(kubeop_core::Error::from)?;
    schema.check().map_err(kubeop_core::Error::from)?;
    Ok(store)
}

/// Verifies the log.
pub(crate) async fn verify(args: VerifyArgs) -> anyhow::Result<()> {
    let noted = match &args.heads {
        None => Vec::new(),
        Some(path) => fs::read_to_string(path)
            .with_context(|| format!("--heads: failed to read {}", path.display()))?
            .lines()
            .filter(|line| !line.trim().is_empty() && !line.starts_with('#'))
            .map(Head::parse)
            .collect::<Result<Vec<_>, _>>()
            .context("--heads")?,
    };
    let store = open(&args.database).await?;
    let keyring = match args.master.find(&args.database)? {
        None => None,
        Some(masters) => Some(keyring::open_existing(&store, masters).await?),
    };
    if keyring.is_none() {
        println!("no master key is given: who wrote the ends of the chains is not checked");
    }
    let tell = |finding| println!("{finding}");
    let summary = verify::verify(&store, keyring.as_ref(), &noted, SystemClock.now(), tell).await?;
    if summary.waiting > 0 {
        println!("{} records wait for their seal since more than ten minutes: is a manager running?", summary.waiting);
    }
    println!("{} sealed records in {} chains were read", summary.records, summary.chains);
    match summary.findings {
        0 => Ok(()),
        n => bail!("the audit log does not hold in {n} places"),
    }
}

/// Prints the ends of the chains.
pub(crate) async fn head(args: DatabaseArgs) -> anyhow::Result<()> {
    let store = open(&args).await?;
    Ok(verify::heads(&store, |head| println!("{head}")).await?)
}
