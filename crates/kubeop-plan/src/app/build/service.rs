//! The Service: a `ClusterIP` over the App's ports.
//!
//! Invariant: never a node port or load balancer; those are the platform's to give.

use super::deployment::protocol;
use super::{ValidApp, meta, selector};
use crate::app::ports::service_name;
use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

pub(super) fn build(app: &ValidApp) -> Option<Service> {
    if app.ports.is_empty() {
        return None;
    }
    // Validated with the ports.
    let name = service_name(&app.name).ok()?;
    let ports = app.ports.iter().map(|port| ServicePort {
        name: Some(port.name.clone()),
        port: port.service,
        target_port: Some(IntOrString::Int(port.container)),
        protocol: Some(protocol(port.protocol).to_owned()),
        ..ServicePort::default()
    });
    Some(Service {
        metadata: meta(app, &name),
        spec: Some(ServiceSpec {
            type_: Some("ClusterIP".to_owned()),
            selector: Some(selector(app)),
            ports: Some(ports.collect()),
            ..ServiceSpec::default()
        }),
        ..Service::default()
    })
}
