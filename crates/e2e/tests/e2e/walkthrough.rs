//! The seeds' walkthroughs, literally, on each database and with and without authentication.

use anyhow::{Context, Result};
use e2e::control_plane::ControlPlane;
use e2e::kubeop::{Kubeop, Setup};
use e2e::postgres::Database;
use e2e::script;

async fn seed_001(setup: Setup, auth: bool) -> Result<()> {
    let (plane, kubeop) = tokio::join!(ControlPlane::start(), setup.start());
    let (plane, kubeop) = (plane?, kubeop?);
    let token = if auth { Some(kubeop.token("admin", None)?) } else { None };
    let api = kubeop.api(None)?;
    let shown = script::run("walkthrough.sh", api.base(), &plane.kubeconfig_text()?, token.as_deref(), "").await;
    println!("{}", shown.with_context(|| log(&kubeop))?);
    Ok(())
}

fn log(kubeop: &Kubeop) -> String {
    format!("the log of kubeop ends with:\n{}", kubeop.tail())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn works_on_sqlite() -> Result<()> {
    seed_001(Setup::dev(), false).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn works_on_postgres() -> Result<()> {
    let database = Database::create().await?;
    let outcome = seed_001(Setup::dev().with("KUBEOP_DB_URL", &database.url), false).await;
    database.drop_it().await?;
    outcome
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn works_with_authentication() -> Result<()> {
    seed_001(Setup::dev().with_auth(), true).await
}

/// The samples of seed 000, which names the token in each request.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_reference_samples_work() -> Result<()> {
    let (plane, kubeop) = tokio::join!(ControlPlane::start(), Setup::dev().with_auth().start());
    let (plane, kubeop) = (plane?, kubeop?);
    let admin = kubeop.token("admin", None)?;
    let api = kubeop.api(None)?;
    let shown = script::run("reference.sh", api.base(), &plane.kubeconfig_text()?, None, &admin).await;
    println!("{}", shown.with_context(|| log(&kubeop))?);
    Ok(())
}
