//! What every operation and every background task of the manager shares.
//!
//! Invariant: built once at start, never changed; what changes lives in the database or behind its own lock.

use crate::api::system::Readiness;
use crate::auth::token::Tokens;
use crate::clusters::Clusters;
use crate::config::Config;
use crate::events::Events;
use crate::http::gate::Gate;
use crate::metrics::Metrics;
use crate::sync::{Turns, Wake};
use async_trait::async_trait;
use kubeop_cluster::kubeconfig::Kubeconfig;
use kubeop_core::Result;
use kubeop_core::clock::{Clock, IdSource};
use kubeop_core::id::{ClusterId, InstanceId};
use kubeop_store::Store;
use prometheus_client::registry::Registry;
use std::sync::{Arc, Mutex};
use tokio_util::sync::CancellationToken;

/// The manager.
pub struct Manager {
    /// Its configuration.
    pub config: Config,
    /// The database.
    pub store: Store,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Fresh ids.
    pub ids: Arc<dyn IdSource>,
    /// This installation's id, kept in the database.
    pub instance: InstanceId,
    /// Signs and verifies tokens.
    pub tokens: Tokens,
    /// Connections to clusters.
    pub clusters: Clusters,
    /// Wakes the sync of a cluster.
    pub wake: Wake,
    /// Who is told of what happens.
    pub events: Events,
    /// The sync's turns at the database.
    pub turns: Turns,
    /// What is known of the schema.
    pub readiness: Readiness,
    /// What is measured.
    pub metrics: Metrics,
    /// Where all metrics of this process are registered.
    pub registry: Arc<Mutex<Registry>>,
    /// Bounds on what is taken in at once.
    pub gate: Gate,
    /// Runs the roles of clusters in this process, in `kubeop dev`.
    pub host: Option<Arc<dyn RoleHost>>,
    /// Begins when the process shall end.
    pub shutdown: CancellationToken,
}

/// Runs operator and admission of clusters inside this process (`kubeop dev`); elsewhere they run in the clusters.
#[async_trait]
pub trait RoleHost: Send + Sync {
    /// The URL under which the cluster's API server reaches our webhook; it answers from now on.
    async fn webhook_url(&self, cluster: ClusterId, kubeconfig: &Kubeconfig) -> Result<String>;

    /// Starts the roles for a cluster that is bootstrapped; does nothing if they run.
    async fn start(&self, cluster: ClusterId, kubeconfig: &Kubeconfig, admission: bool) -> Result<()>;

    /// Stops the roles for a cluster; does nothing if none run.
    async fn stop(&self, cluster: ClusterId);
}
