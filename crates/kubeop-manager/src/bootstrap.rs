//! Setting kubeOP up on a cluster with the registered credential, and taking it away again.
//!
//! Invariant: idempotent; a failure is recorded with the cluster and tried again, it never loses the cluster.

use crate::api::policy;
use crate::state::Manager;
use crate::sync::objects;
use kubeop_cluster::{bootstrap, uninstall};
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
    if let Err(lost) = record(manager, row, BootstrapState::Failed, Some(error.message())).await {
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
    let installing = async {
        let connection = manager.clusters.get(&manager.store, row).await?;
        let home = match &manager.host {
            Some(host) if row.install_admission => {
                Home::Process(Some(host.webhook_url(row.id, &connection.kubeconfig).await?))
            }
            Some(_) => Home::Process(None),
            None => pods(manager, row.install_admission),
        };
        let server = match bootstrap::metrics_server(&connection.registered).await? {
            bootstrap::MetricsApi::Ours => Some(metrics_server(manager)),
            bootstrap::MetricsApi::Missing if metrics == MetricsWanted::Yes => Some(metrics_server(manager)),
            bootstrap::MetricsApi::Missing | bootstrap::MetricsApi::Foreign => None,
        };
        let policy = policy::current(&mut manager.store.read().await?.conn()).await?.raw;
        let version = manager.config.build.version.clone();
        let options = Options { version, home, policy, metrics_server: server, mocks: row.with_mocks };
        let report = bootstrap::install(&connection.registered, &install::objects(&options)?, manager.instance).await?;
        if let Some(host) = &manager.host {
            host.start(row.id, &connection.kubeconfig, row.install_admission).await?;
        }
        Ok::<_, Error>(Installed { objects: report.applied, left: report.left })
    };
    let installed = tokio::select! {
        ended = tokio::time::timeout(LIMIT, installing) => ended
            .map_err(|_| Error::unavailable(format!("the set-up did not end within {} s", LIMIT.as_secs())))??,
        () = manager.shutdown.cancelled() => return Err(Error::unavailable("this process is shutting down")),
    };
    record(manager, row, BootstrapState::Done, None).await?;
    Ok(installed)
}

/// Brings a cluster that was set up by an earlier run up to date: in `kubeop dev` its webhook's address changes with every start and the roles run
/// here; elsewhere a new version of the manager brings new objects, if `KUBEOP_BOOTSTRAP_ON_START` says so.
pub async fn resume(manager: &Manager, row: &Cluster) -> Result<()> {
    attempt(manager, row, MetricsWanted::AsItIs).await.map(|_| ())
}

/// Removes what was installed, and tells what had to stay because others use it.
pub async fn remove(manager: &Manager, row: &Cluster) -> Result<Vec<String>> {
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

async fn record(manager: &Manager, row: &Cluster, state: BootstrapState, message: Option<&str>) -> Result<()> {
    let mut tx = manager.store.begin().await?;
    let _ = cluster::set_bootstrap(&mut tx.conn(), row.id, state, message).await?;
    if state == BootstrapState::Done {
        // Bootstrap puts a first ConfigMap where there is none; the policy in force follows, also after somebody deleted it.
        objects::mark_policy(&mut tx.conn(), row.id, manager.clock.now()).await?;
    }
    cluster_object::wake_all(&mut tx.conn(), row.id, manager.clock.now()).await?;
    tx.commit().await?;
    if state == BootstrapState::Done {
        manager.wake.anew(row.id);
    }
    Ok(())
}
