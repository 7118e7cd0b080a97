//! What every reconciler shares.
//!
//! Invariant: nothing here is the truth about the cluster: stores, ledger and grants can be lost at any time and come back from the API server.

use crate::events::Events;
use crate::failure::Failures;
use crate::grants::Grants;
use crate::ledger::Ledger;
use crate::metrics::Metrics;
use crate::providers::{ClusterZone, SelfSigned};
use crate::stores::Stores;
use kube::Client;
use kubeop_core::clock::Clock;
use std::sync::Arc;

/// The shared parts.
pub(crate) struct Context {
    /// Acts as ServiceAccount `kubeop-operator`.
    pub(crate) client: Client,
    /// The cluster's time: of transitions, and what certificates are dated and judged by.
    pub(crate) clock: Arc<dyn Clock>,
    /// What the watches show.
    pub(crate) stores: Stores,
    /// What was applied.
    pub(crate) ledger: Ledger,
    /// What was granted.
    pub(crate) grants: Grants,
    /// Failures in a row.
    pub(crate) failures: Failures,
    /// Publishes hosts within the cluster.
    pub(crate) zone: ClusterZone,
    /// Issues certificates of a CA of our own.
    pub(crate) self_signed: SelfSigned,
    /// Kubernetes Events.
    pub(crate) events: Events,
    /// Prometheus.
    pub(crate) metrics: Metrics,
}
