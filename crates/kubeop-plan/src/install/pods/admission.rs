//! Admission's pods and the Service by which the API server reaches them.
//!
//! Invariant: a pod that is told to stop serves on until no API server sends it anything new: its environment asks for a linger that is longer
//! than endpoints take to change, and its grace period is longer than both linger and what is in flight.

use super::{METRICS_PORT, Process, Workload, budget, deployment, meta, names, port, probe, selector};
use k8s_openapi::api::core::v1::{EnvVar, Probe, Service, ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

/// Where reviews arrive in the pod.
pub(super) const PORT: i32 = 9443;
/// Seconds a pod serves on after it was told to stop.
const LINGER: i64 = 10;

pub(super) fn build(image: &str) -> Workload {
    let name = names::ADMISSION_ACCOUNT;
    let deployment = deployment(Process {
        name,
        role: "admission",
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
    Workload { deployment, service: Some(service(name)), budget: budget(name) }
}

fn service(name: &str) -> Service {
    Service {
        metadata: meta(name),
        spec: Some(ServiceSpec {
            type_: Some("ClusterIP".to_owned()),
            selector: Some(selector(name)),
            ports: Some(vec![ServicePort {
                name: Some("reviews".to_owned()),
                port: names::ADMISSION_PORT,
                target_port: Some(IntOrString::String("reviews".to_owned())),
                protocol: Some("TCP".to_owned()),
                ..ServicePort::default()
            }]),
            ..ServiceSpec::default()
        }),
        ..Service::default()
    }
}
