//! `kubeop migrate`.
//!
//! Invariant: ends with the schema current, or with an error and the schema as it was.

use crate::config::DatabaseArgs;
use anyhow::Context;
use kubeop_store::{Options, Store};

/// Brings the schema up to date.
pub(crate) async fn run(args: DatabaseArgs) -> anyhow::Result<()> {
    open(&args).await.map(drop)
}

/// Opens the database and brings its schema up to date.
pub(crate) async fn open(args: &DatabaseArgs) -> anyhow::Result<Store> {
    let store = Store::open(&args.url()?, Options::default())
        .await
        .map_err(kubeop_core::Error::from)
        .context("KUBEOP_DB_URL")?;
    store.migrate().await.map_err(kubeop_core::Error::from).context("failed to bring the schema up to date")?;
    Ok(store)
}
