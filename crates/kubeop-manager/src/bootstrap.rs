//! Setting kubeOP up on a cluster with the registered credential, and taking it away again.
//!
//! Invariant: idempotent; a failure is recorded with the cluster and tried again, it never loses the cluster, nor stops one that was set up before.
//! Of one cluster at most one of this process installs or removes; nothing is installed where the row says that it is being removed.

use crate::api::policy;
use crate::state::Manager;
use crate::sync::objects;
use futures::future::BoxFuture;
use kubeop_cluster::{bootstrap, uninstall};
use kubeop_core::id::ClusterId;
use kubeop_core::policy::RawPolicy;
use kubeop_core::{Error, Result};
use kubeop_plan::install::{self, Home, MetricsServer, Options, Pods};
use kubeop_store::cluster::{self, BootstrapState, Cluster};
use kubeop_store::cluster_object;
use std::time::Duration;

/// How long a bootstrap may take before it counts as failed.
const LIMIT: Duration = Duration::from_mins(1);

/// What a bootstrap put in place.
#[derive(Clone, Debug)]
pub struct Installed {
    /// How many objects.
    pub objects: usize,
    /// What was left as it is, since others manage it: `Kind namespace/name`.
    pub left: Vec<String>,
    /// Whether admission is among them, or was there.
    pub admission: bool,
}

/// Sets a cluster up and records how it went.
pub async fn run(manager: &Manager, row: &Cluster) -> Option<Installed> {
    match attempt(manager, row, MetricsWanted::AsItIs).await {
        Ok(installed) => Some(installed),
        Err(error) => {
            record_failure(manager, row, &error).await;
            None
        }
    }
}

/// Notes with the cluster that its set-up failed, and why.
pub async fn record_failure(manager: &Manager, row: &Cluster, error: &Error) {
    tracing::warn!(cluster = %row.name, error = %error.chain(), "failed to set the cluster up");
    if let Err(lost) = record_failed(manager, row, error).await {
        tracing::warn!(cluster = %row.name, error = %lost.chain(), "failed to record a failed set-up");
    }
}

/// Whether a metrics server is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricsWanted {
    /// One that we installed is brought up to date, and that is all.
    AsItIs,
    /// One is installed, unless the cluster has its own.
    Yes,
}

/// Sets a cluster up; the error says what failed.
pub async fn attempt(manager: &Manager, row: &Cluster, metrics: MetricsWanted) -> Result<Installed> {
    let _alone = manager.clusters.alone(row.id).await;
    let row = &still_wanted(manager, row.id).await?;
    let installing = async {
        let connection = manager.clusters.get(&manager.store, row).await?;
        let home = match &manager.host {
            Some(host) if row.install_admission => {
                Home::Process(Some(host.webhook_url(row.id, &connection.kubeconfig).await?))
            }
            Some(_) => Home::Process(None),
            // What is there does not stay behind at a version of before.
            None => pods(manager, row.install_admission || bootstrap::has_admission(&connection.registered).await?),
        };
        let admission = match &home {
            Home::Pods(pods) => pods.admission,
            Home::Process(_) => row.install_admission,
        };
        let server = match bootstrap::metrics_server(&connection.registered).await? {
            bootstrap::MetricsApi::Ours => Some(metrics_server(manager)),
            bootstrap::MetricsApi::Missing if metrics == MetricsWanted::Yes => Some(metrics_server(manager)),
            bootstrap::MetricsApi::Missing | bootstrap::MetricsApi::Foreign => None,
        };
        let policy = policy::current(&mut manager.store.read().await?.conn()).await?.raw;
        let version = manager.config.build.version.clone();
        let options = Options { version, home, policy, metrics_server: server, mocks: row.with_mocks };
        let items = install::objects(&options)?;
        let is_wanted = || Box::pin(async { still_wanted(manager, row.id).await.map(drop) }) as BoxFuture<'_, _>;
        let report = bootstrap::install_while(&connection.registered, &items, manager.instance, is_wanted).await?;
        if let Some(host) = &manager.host {
            host.start(row.id, &connection.kubeconfig, row.install_admission).await?;
        }
        Ok::<_, Error>(Installed { objects: report.applied, left: report.left, admission })
    };
    let installed = tokio::select! {
        ended = tokio::time::timeout(LIMIT, installing) => ended
            .map_err(|_| Error::unavailable(format!("the set-up did not end within {} s", LIMIT.as_secs())))??,
        () = manager.shutdown.cancelled() => return Err(Error::unavailable("this process is shutting down")),
    };
    record_done(manager, row).await?;
    Ok(installed)
}

/// The cluster's row as it is now, unless it is gone or going.
async fn still_wanted(manager: &Manager, id: ClusterId) -> Result<Cluster> {
    match cluster::get(&mut manager.store.read().await?.conn(), id).await? {
        Some(row) if row.bootstrap_state != BootstrapState::Removing => Ok(row),
        Some(row) => Err(going(&row)),
        None => Err(Error::not_found(format!("there is no cluster {id}"))),
    }
}

fn going(row: &Cluster) -> Error {
    Error::conflict(format!("kubeOP is being removed from cluster {:?}", row.name.as_str()))
}

/// Removes what was installed from a cluster that is marked as being removed, and tells what had to stay because others use it.
pub async fn remove(manager: &Manager, row: &Cluster) -> Result<Vec<String>> {
    let _alone = manager.clusters.alone(row.id).await;
    let connection = manager.clusters.get(&manager.store, row).await?;
    if let Some(host) = &manager.host {
        host.stop(row.id).await;
    }
    let options = Options {
        version: manager.config.build.version.clone(),
        home: pods(manager, true),
        policy: RawPolicy::default(),
        metrics_server: Some(metrics_server(manager)),
        mocks: true,
    };
    uninstall::uninstall(&connection.registered, &install::objects(&options)?).await
}

fn pods(manager: &Manager, admission: bool) -> Home {
    Home::Pods(Pods { image: manager.config.operator_image.clone(), admission })
}

fn metrics_server(manager: &Manager) -> MetricsServer {
    manager.config.metrics_server.clone()
}

async fn record_done(manager: &Manager, row: &Cluster) -> Result<()> {
    let now = manager.clock.now();
    let mut tx = manager.store.begin().await?;
    if !cluster::set_bootstrap(&mut tx.conn(), row.id, BootstrapState::Done, None).await? {
        return Err(going(row));
    }
    // Bootstrap puts a first ConfigMap where there is none; the policy in force follows, also after somebody deleted it.
    objects::mark_policy(&mut tx.conn(), row.id, now).await?;
    cluster_object::wake_all(&mut tx.conn(), row.id, now).await?;
    tx.commit().await?;
    manager.wake.anew(row.id);
    Ok(())
}

async fn record_failed(manager: &Manager, row: &Cluster, error: &Error) -> Result<()> {
    let mut tx = manager.store.begin().await?;
    if cluster::fail_bootstrap(&mut tx.conn(), row.id, error.message()).await? {
        cluster_object::wake_all(&mut tx.conn(), row.id, manager.clock.now()).await?;
    }
    Ok(tx.commit().await?)
}
