//! The operator's pod: one leads, any other stands by.
//!
//! Invariant: one replica suffices, since what it made holds without it; autoscaling or an administrator may ask for more.

use super::{METRICS_PORT, Process, Workload, budget, deployment, names, port, probe, service};
use k8s_openapi::api::core::v1::Probe;

pub(super) fn build(image: &str) -> Workload {
    let (name, role) = (names::OPERATOR_ACCOUNT, "operator");
    let deployment = deployment(&Process {
        name,
        role,
        image,
        replicas: 1,
        ports: vec![port("metrics", METRICS_PORT)],
        grace: 20,
        readiness: Probe { period_seconds: Some(2), ..probe("/readyz") },
        requests: [("cpu", "50m"), ("memory", "64Mi")],
        memory_limit: "512Mi",
        environment: Vec::new(),
    });
    let service = service(names::OPERATOR_METRICS, role, &[("metrics", METRICS_PORT)]);
    Workload { deployment, service, budget: budget(name, role) }
}
