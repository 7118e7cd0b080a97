//! Admission's pods and the Service by which the API server reaches them.
//!
//! Invariant: a pod that is told to stop serves on until no API server sends it anything new: its environment asks for a linger that is longer
//! than endpoints take to change, and its grace period is longer than both linger and what is in flight.

use super::{METRICS_PORT, Process, Workload, budget, deployment, names, port, probe, service};
use k8s_openapi::api::core::v1::{EnvVar, Probe};

/// Where reviews arrive in the pod.
pub(super) const PORT: i32 = 9443;
/// Seconds a pod serves on after it was told to stop.
const LINGER: i64 = 10;

pub(super) fn build(image: &str) -> Workload {
    let (name, role) = (names::ADMISSION_ACCOUNT, "admission");
    let deployment = deployment(&Process {
        name,
        role,
        image,
        replicas: 2,
        ports: vec![port("reviews", PORT), port("metrics", METRICS_PORT)],
        grace: LINGER + 20,
        readiness: Probe { period_seconds: Some(2), failure_threshold: Some(1), ..probe("/readyz") },
        requests: [("cpu", "50m"), ("memory", "48Mi")],
        memory_limit: "256Mi",
        environment: vec![EnvVar {
            name: "KUBEOP_ADMISSION_LINGER_SECONDS".to_owned(),
            value: Some(LINGER.to_string()),
            value_from: None,
        }],
    });
    let service = service(name, role, &[("reviews", names::ADMISSION_PORT), ("metrics", METRICS_PORT)]);
    Workload { deployment, service, budget: budget(name, role) }
}
