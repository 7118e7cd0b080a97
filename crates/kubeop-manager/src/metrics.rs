//! The manager's metrics.
//!
//! Invariant: label values come from fixed sets (methods, route patterns, kinds, registered clusters), never from callers.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

/// Labels of a request.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct RequestLabels {
    /// The HTTP method.
    pub method: String,
    /// The route's pattern.
    pub route: String,
    /// The status.
    pub status: u16,
}

/// Labels of a sync.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct SyncLabels {
    /// The kind of the object.
    pub kind: String,
    /// What came of it.
    pub outcome: String,
}

/// Where a secret is stored.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct SecretLabels {
    /// The table.
    pub table: &'static str,
}

/// Labels of a delivery of an event.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct HookLabels {
    /// The hook's name.
    pub hook: &'static str,
}

/// What is measured of events to the outside.
#[derive(Clone, Default)]
pub struct EventMetrics {
    /// Events that were delivered.
    pub delivered: Family<HookLabels, Counter>,
    /// Attempts that failed.
    pub failed: Family<HookLabels, Counter>,
    /// Deliveries that were given up.
    pub given_up: Counter,
    /// Deliveries that wait, of all replicas.
    pub pending: Gauge,
    /// Dead letters, of all replicas.
    pub dead: Gauge,
    /// Seconds the oldest delivery has been waiting.
    pub oldest_seconds: Gauge,
}

impl EventMetrics {
    fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register("events_delivered", "Events that were delivered", metrics.delivered.clone());
        registry.register("events_failed_attempts", "Attempts to deliver that failed", metrics.failed.clone());
        registry.register("events_given_up", "Deliveries that were given up", metrics.given_up.clone());
        registry.register("events_pending", "Deliveries that wait", metrics.pending.clone());
        registry.register("events_dead_letters", "Deliveries that were given up and are kept", metrics.dead.clone());
        registry.register(
            "events_oldest_pending_seconds",
            "Seconds the oldest delivery has been waiting",
            metrics.oldest_seconds.clone(),
        );
        metrics
    }
}

/// Labels of what is told of one cluster.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct ClusterLabels {
    /// The cluster's id.
    pub cluster: String,
}

/// Everything the manager measures.
#[derive(Clone)]
pub struct Metrics {
    /// Time per request.
    pub requests: Family<RequestLabels, Histogram>,
    /// Requests under way.
    pub in_flight: Gauge,
    /// Requests without a valid token.
    pub unauthenticated: Counter,
    /// Time per object brought to a cluster.
    pub sync: Family<SyncLabels, Histogram>,
    /// Objects on clusters that no row asks for.
    pub foreign_objects: Family<ClusterLabels, Gauge>,
    /// Clusters this replica serves.
    pub clusters_served: Gauge,
    /// Invoices this process closed.
    pub invoices_closed: Counter,
    /// Closed invoices that were asked for and do not say any more what they said when they were closed.
    pub invoices_altered: Counter,
    /// Stored secrets that did not open when they were needed.
    pub secrets_unreadable: Family<SecretLabels, Counter>,
    /// Events to the outside.
    pub events: EventMetrics,
}

fn seconds() -> Histogram {
    Histogram::new(exponential_buckets(0.001, 2.0, 14))
}

impl Metrics {
    /// Registers all under the prefix `kubeop_manager`.
    pub fn register(registry: &mut Registry) -> Self {
        let ours = registry.sub_registry_with_prefix("kubeop_manager");
        let metrics = Self {
            requests: Family::new_with_constructor(seconds),
            in_flight: Gauge::default(),
            unauthenticated: Counter::default(),
            sync: Family::new_with_constructor(seconds),
            foreign_objects: Family::default(),
            clusters_served: Gauge::default(),
            invoices_closed: Counter::default(),
            invoices_altered: Counter::default(),
            secrets_unreadable: Family::default(),
            events: EventMetrics::register(ours),
        };
        ours.register("http_request_duration_seconds", "Time per request", metrics.requests.clone());
        ours.register("http_requests_in_flight", "Requests under way", metrics.in_flight.clone());
        ours.register("http_unauthenticated", "Requests without a valid token", metrics.unauthenticated.clone());
        ours.register("sync_duration_seconds", "Time per object brought to a cluster", metrics.sync.clone());
        ours.register(
            "sync_foreign_objects",
            "Objects on clusters that no row asks for",
            metrics.foreign_objects.clone(),
        );
        ours.register("clusters_served", "Clusters this replica serves", metrics.clusters_served.clone());
        ours.register(
            "invoices_altered",
            "Closed invoices found to say something else than when they were closed",
            metrics.invoices_altered.clone(),
        );
        ours.register("invoices_closed", "Invoices this process closed", metrics.invoices_closed.clone());
        ours.register(
            "secrets_unreadable",
            "Stored secrets that did not open when they were needed",
            metrics.secrets_unreadable.clone(),
        );
        metrics
    }
}
