//! What the role counts.
//!
//! Invariant: no label has a value that a tenant chooses.

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};
use std::time::Duration;

/// The rule a review was judged by; its [`Rule::id`] stands in front of every denial.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rule {
    /// Images come from the allow-list.
    Images,
    /// A NetworkPolicy opens nothing the platform closes.
    Network,
    /// Host names of Apps are usable.
    Hosts,
    /// Apps are not too large.
    Size,
    /// The canary, always denied.
    Canary,
    /// The platform policy is known.
    Policy,
    /// The review is understood.
    Review,
}

impl Rule {
    /// The name in denials.
    pub fn id(self) -> &'static str {
        match self {
            Self::Images => "images",
            Self::Network => "network",
            Self::Hosts => "hosts",
            Self::Size => "size",
            Self::Canary => "canary",
            Self::Policy => "policy",
            Self::Review => "review",
        }
    }
}

/// How a review ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// Admitted.
    Admitted,
    /// Denied by the rule.
    Denied,
    /// No decision was possible (too large, too late, too many, a panic), which the API server takes as a denial.
    Failed,
}

impl Outcome {
    fn id(self) -> &'static str {
        match self {
            Self::Admitted => "admitted",
            Self::Denied => "denied",
            Self::Failed => "failed",
        }
    }
}

impl EncodeLabelValue for Rule {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> std::fmt::Result {
        self.id().encode(encoder)
    }
}

impl EncodeLabelValue for Outcome {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> std::fmt::Result {
        self.id().encode(encoder)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    rule: Rule,
    outcome: Outcome,
}

/// The role's metrics, registered once and cheap to clone.
#[derive(Clone, Debug)]
pub struct Metrics {
    reviews: Family<Labels, Counter>,
    duration: Histogram,
    policy_loaded: Gauge,
    certificate_expiry: Gauge,
    watch_errors: Counter,
    unknown_pod_fields: Counter,
}

impl Metrics {
    /// Registers the metrics; their names begin with `kubeop_admission_`.
    pub fn register(registry: &mut Registry) -> Self {
        // From 50 µs to 3.3 s, doubling: the budget of 3 ms lies between two bounds.
        let buckets = std::iter::successors(Some(0.000_05), |bound| Some(bound * 2.0)).take(17);
        let metrics = Self {
            reviews: Family::default(),
            duration: Histogram::new(buckets),
            policy_loaded: Gauge::default(),
            certificate_expiry: Gauge::default(),
            watch_errors: Counter::default(),
            unknown_pod_fields: Counter::default(),
        };
        let name = |name: &str| format!("kubeop_admission_{name}");
        registry.register(name("reviews"), "Admission reviews by rule and outcome", metrics.reviews.clone());
        registry.register_with_unit(
            name("review_duration"),
            "Time from the head of a review to its answer",
            Unit::Seconds,
            metrics.duration.clone(),
        );
        registry.register(name("policy_loaded"), "1 while the platform policy is known", metrics.policy_loaded.clone());
        registry.register(
            name("certificate_expiry_timestamp_seconds"),
            "When the serving certificate expires, in Unix time; 0 without one",
            metrics.certificate_expiry.clone(),
        );
        registry.register(
            name("watch_errors"),
            "Failed watches of policy or certificate",
            metrics.watch_errors.clone(),
        );
        registry.register(
            name("unknown_pod_fields"),
            "Reviews of pods with a field of their spec that this version does not know: time to update kubeOP",
            metrics.unknown_pod_fields.clone(),
        );
        metrics
    }

    pub(crate) fn reviewed(&self, rule: Rule, outcome: Outcome, took: Duration) {
        self.reviews.get_or_create(&Labels { rule, outcome }).inc();
        self.duration.observe(took.as_secs_f64());
    }

    pub(crate) fn policy_loaded(&self, loaded: bool) {
        self.policy_loaded.set(i64::from(loaded));
    }

    pub(crate) fn certificate_expires(&self, unix_seconds: i64) {
        self.certificate_expiry.set(unix_seconds);
    }

    pub(crate) fn watch_failed(&self) {
        self.watch_errors.inc();
    }

    pub(crate) fn unknown_pod_field(&self) {
        self.unknown_pod_fields.inc();
    }
}
