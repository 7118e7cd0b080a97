//! What the operator tells Prometheus.
//!
//! Invariant: labels are kinds and outcomes, never names: their number does not grow with the tenants.

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};
use std::time::Duration;

/// How a reconcile ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub(crate) enum Outcome {
    /// It got on; conditions say how far.
    Ok,
    /// It failed and is tried again.
    Error,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReconcileLabels {
    kind: &'static str,
    outcome: Outcome,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct WriteLabels {
    kind: &'static str,
    verb: &'static str,
}

/// The operator's metrics.
#[derive(Clone, Debug)]
pub struct Metrics {
    reconciles: Family<ReconcileLabels, Histogram>,
    writes: Family<WriteLabels, Counter>,
    leading: Gauge,
}

impl Metrics {
    /// Registers them.
    pub fn register(registry: &mut Registry) -> Self {
        let registry = registry.sub_registry_with_prefix("kubeop_operator");
        let metrics = Self {
            // 1 ms to 33 s.
            reconciles: Family::new_with_constructor(|| Histogram::new(exponential_buckets(0.001, 2.0, 16))),
            writes: Family::default(),
            leading: Gauge::default(),
        };
        registry.register_with_unit(
            "reconcile_duration",
            "Time of one reconcile",
            Unit::Seconds,
            metrics.reconciles.clone(),
        );
        registry.register("writes", "Writes of objects to the API server", metrics.writes.clone());
        registry.register("leading", "Whether this process leads (1) or stands by (0)", metrics.leading.clone());
        metrics
    }

    /// Notes a reconcile.
    pub(crate) fn reconciled(&self, kind: &'static str, outcome: Outcome, took: Duration) {
        self.reconciles.get_or_create(&ReconcileLabels { kind, outcome }).observe(took.as_secs_f64());
    }

    /// Notes a write.
    pub(crate) fn wrote(&self, kind: &'static str, verb: &'static str) {
        self.writes.get_or_create(&WriteLabels { kind, verb }).inc();
    }

    /// Notes whether we lead.
    pub(crate) fn leads(&self, leads: bool) {
        self.leading.set(i64::from(leads));
    }
}
