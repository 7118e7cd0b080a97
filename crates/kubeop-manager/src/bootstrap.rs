//! Setting kubeOP up on a cluster with the registered credential, and taking it away again.
//!
//! Invariant: idempotent; a failure is recorded with the cluster and tried again, it never loses the cluster.

use crate::api::policy;
use crate::clusters::Connection;
use crate::state::Manager;
use crate::sync::objects;
use kubeop_cluster::bootstrap;
use kubeop_core::policy::RawPolicy;
use kubeop_core::{Error, Result};
use kubeop_plan::install::{self, Options, WebhookTarget, names};
use kubeop_store::cluster::{self, BootstrapState, Cluster};
use kubeop_store::cluster_object;
use std::time::Duration;

/// How long a bootstrap may take before it counts as failed.
const LIMIT: Duration = Duration::from_mins(1);

/// What a bootstrap put in place.
#[derive(Clone, Copy, Debug)]
pub struct Installed {
    /// How many objects.
    pub objects: usize,
}

/// Sets a cluster up and records how it went.
pub async fn run(manager: &Manager, row: &Cluster) -> Option<Installed> {
    match attempt(manager, row).await {
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

/// Sets a cluster up; the error says what failed.
pub async fn attempt(manager: &Manager, row: &Cluster) -> Result<Installed> {
    let installing = async {
        let connection = manager.clusters.get(&manager.store, row).await?;
        let webhook = webhook(manager, row, &connection).await?;
        let policy = policy::current(&mut manager.store.read().await?.conn()).await?.raw;
        let items = install::objects(&Options { version: manager.config.build.version.clone(), webhook, policy })?;
        let report = bootstrap::install(&connection.registered, &items, manager.instance).await?;
        if let Some(host) = &manager.host {
            host.start(row.id, &connection.kubeconfig, row.install_admission).await?;
        }
        Ok::<_, Error>(Installed { objects: report.applied })
    };
    let installed = tokio::select! {
        ended = tokio::time::timeout(LIMIT, installing) => ended
            .map_err(|_| Error::unavailable(format!("the set-up did not end within {} s", LIMIT.as_secs())))??,
        () = manager.shutdown.cancelled() => return Err(Error::unavailable("this process is shutting down")),
    };
    record(manager, row, BootstrapState::Done, None).await?;
    Ok(installed)
}

/// Starts this process' roles for a cluster that was set up by an earlier run.
pub async fn resume(manager: &Manager, row: &Cluster) -> Result<()> {
    // In `kubeop dev` the webhook's address changes with every start: the installation is brought up to date.
    attempt(manager, row).await.map(|_| ())
}

/// Removes what was installed.
pub async fn uninstall(manager: &Manager, row: &Cluster) -> Result<()> {
    let connection = manager.clusters.get(&manager.store, row).await?;
    if let Some(host) = &manager.host {
        host.stop(row.id).await;
    }
    let options = Options {
        version: manager.config.build.version.clone(),
        webhook: Some(service()),
        policy: RawPolicy::default(),
    };
    bootstrap::uninstall(&connection.registered, &install::objects(&options)?).await
}

async fn webhook(manager: &Manager, row: &Cluster, connection: &Connection) -> Result<Option<WebhookTarget>> {
    if !row.install_admission {
        return Ok(None);
    }
    match &manager.host {
        Some(host) => host.webhook_url(row.id, &connection.kubeconfig).await.map(|url| Some(WebhookTarget::Url(url))),
        None => Ok(Some(service())),
    }
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
    manager.wake.cluster(row.id);
    Ok(())
}

/// Where admission is reached when it runs in the cluster.
fn service() -> WebhookTarget {
    WebhookTarget::Service { name: names::WEBHOOK.to_owned(), port: 443 }
}
