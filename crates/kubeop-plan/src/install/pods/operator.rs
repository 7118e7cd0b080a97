//! The operator's pod: one leads, any other stands by.
//!
//! Invariant: one replica suffices, since what it made holds without it; autoscaling or an administrator may ask for more.

use super::{METRICS_PORT, Process, Workload, budget, deployment, names, port, probe};
use k8s_openapi::api::core::v1::Probe;

pub(super) fn build(image: &str) -> Workload {
    let name = names::OPERATOR_ACCOUNT;
    let deployment = deployment(Process {
        name,
        role: "operator",
        image,
        replicas: 1,
        ports: vec![port("metrics", METRICS_PORT)],
        grace: 20,
        readiness: Probe { period_seconds: Some(2), ..probe("/readyz") },
        requests: [("cpu", "50m"), ("memory", "64Mi")],
        memory_limit: "512Mi",
        environment: Vec::new(),
    });
    Workload { deployment, service: None, budget: budget(name) }
}
