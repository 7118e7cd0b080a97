//! `kubeop keys`, and the look at the master key before a start.
//!
//! Invariant: a key is printed by `generate` alone; what was done and found is on stdout, a line each.

use crate::cli::{KeysArgs, RotateArgs};
use crate::config::DatabaseArgs;
use crate::keys;
use anyhow::{Context, bail};
use kubeop_core::clock::{SystemClock, SystemIds};
use kubeop_manager::keys::rotate::{Pace, Report, rotate as rotate_all};
use kubeop_manager::keys::{MasterKeys, check as checks, keyring};
use kubeop_store::{Options, Store};
use secrecy::ExposeSecret;
use std::time::Duration;

/// Prints a new key.
pub(crate) fn generate() -> anyhow::Result<()> {
    println!("{}", keys::generate()?.expose_secret());
    Ok(())
}

/// Refuses master keys that do not open what the database holds, before it is migrated or written in any way.
pub(crate) async fn check_before_start(database: &DatabaseArgs, masters: &MasterKeys) -> anyhow::Result<()> {
    let url = database.existing();
    if !Store::is_there(&url) {
        return Ok(());
    }
    let opened = Store::open_to_read(&url, Options::default()).await;
    let store = opened.map_err(kubeop_core::Error::from).context("KUBEOP_DB_URL")?;
    let checked = keyring::check(&store, masters).await;
    store.close().await;
    Ok(checked?)
}

async fn current(store: Result<Store, kubeop_store::StoreError>) -> anyhow::Result<Store> {
    let store = store.map_err(kubeop_core::Error::from).context("KUBEOP_DB_URL")?;
    let schema = store.schema().await.map_err(kubeop_core::Error::from)?;
    schema.check().map_err(kubeop_core::Error::from)?;
    Ok(store)
}

fn masters(args: &KeysArgs) -> anyhow::Result<MasterKeys> {
    args.master.find(&args.database)?.context(
        "KUBEOP_KMS_MASTER_KEY is not set, and the data directory holds no master.key: the master key is needed",
    )
}

/// Opens everything that is encrypted.
pub(crate) async fn check(args: KeysArgs) -> anyhow::Result<()> {
    let masters = masters(&args)?;
    let store = current(Store::open_to_read(&args.database.existing(), Options::default()).await).await?;
    let all = checks::check(&store, &masters).await?;
    let mut unreadable = 0;
    for found in &all {
        println!("{found}");
        for place in &found.unreadable {
            println!("does not open: {place}");
        }
        unreadable += found.unreadable.len();
    }
    let id = masters.current().id();
    match all.iter().find(|one| !one.current) {
        _ if all.is_empty() => println!("nothing is encrypted yet"),
        None => println!("everything is under master key {id}: no other is needed"),
        Some(old) if old.opens => {
            println!("master key {} is still needed beside {id}: run `kubeop keys rotate`", old.master_key_id);
        }
        Some(old) => println!("master key {} is needed, given is {id}", old.master_key_id),
    }
    match all.iter().filter(|one| !one.opens).count() {
        0 if unreadable == 0 => Ok(()),
        0 => bail!("{unreadable} values do not open"),
        seeds => bail!("{seeds} encryption seeds and {unreadable} values do not open"),
    }
}

/// Rotates the master key.
pub(crate) async fn rotate(RotateArgs { keys: args, pause }: RotateArgs) -> anyhow::Result<()> {
    let masters = masters(&args)?;
    let id = masters.current().id().to_owned();
    let store = current(Store::open_beside(&args.database.existing(), Options::default()).await).await?;
    let keyring = keyring::open_existing(&store, masters).await?;
    let tell = |so_far: &Report| {
        tracing::info!(
            kubeconfigs = so_far.kubeconfigs,
            answers = so_far.answers,
            chain_ends = so_far.chain_ends,
            "rotating the master key"
        );
    };
    let pace = Pace { pause: Duration::from_millis(pause), tell };
    let done = rotate_all(&store, &keyring, &SystemClock, &SystemIds, pace).await?;
    store.close().await;
    if done == Report::default() {
        println!("there is nothing to rotate: whatever is encrypted is under master key {id}, and no other is needed");
        return Ok(());
    }
    if done.seed_made {
        println!("a new encryption seed was made under master key {id}");
    }
    println!(
        "brought under it: {} kubeconfigs, {} kept answers, {} ends of audit chains; seeds of before: {} removed, {} wrapped anew",
        done.kubeconfigs, done.answers, done.chain_ends, done.seeds_removed, done.seeds_rewrapped
    );
    if done.unreadable > 0 {
        println!("{} values did not open and were left as they are: `kubeop keys check` names them", done.unreadable);
    }
    match done.damaged_seeds.as_slice() {
        [] => {
            println!("everything is under master key {id}: the key before is no longer needed");
            Ok(())
        }
        [seed, ..] => bail!(
            "the key before is still needed: encryption seed {seed} does not open with it; restore its row of encryption_seed from a backup and rotate again"
        ),
    }
}
