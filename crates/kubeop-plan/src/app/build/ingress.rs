//! The Ingress: the App's hosts, each leading to its Service.
//!
//! Invariant: no annotation (controllers turn some into configuration) and no class: the cluster's default decides.

use super::{ValidApp, meta};
use crate::app::ports::{ingress_port, service_name};
use k8s_openapi::api::networking::v1::{
    HTTPIngressPath, HTTPIngressRuleValue, Ingress, IngressBackend, IngressRule, IngressServiceBackend, IngressSpec,
    ServiceBackendPort,
};

pub(super) fn build(app: &ValidApp) -> Option<Ingress> {
    if app.hosts.is_empty() {
        return None;
    }
    let port = ingress_port(&app.ports)?.service;
    let name = service_name(&app.name).ok()?;
    let rules = app.hosts.iter().map(|host| {
        let service = IngressServiceBackend {
            name: name.clone(),
            port: Some(ServiceBackendPort { number: Some(port), name: None }),
        };
        let path = HTTPIngressPath {
            path: Some("/".to_owned()),
            path_type: "Prefix".to_owned(),
            backend: IngressBackend { service: Some(service), resource: None },
        };
        IngressRule { host: Some(host.to_string()), http: Some(HTTPIngressRuleValue { paths: vec![path] }) }
    });
    Some(Ingress {
        metadata: meta(app, app.name.as_str()),
        spec: Some(IngressSpec { rules: Some(rules.collect()), ..IngressSpec::default() }),
        ..Ingress::default()
    })
}

#[cfg(test)]
mod tests {
    use super::super::super::validate::tests::check_under;
    use super::*;
    use crate::fixture::app;
    use serde_json::json;

    #[test]
    fn every_host_leads_to_the_service_s_http_port() {
        let spec = json!({"delivery": {"image": {"ref": "nginx", "ports": [
            {"name": "admin", "containerPort": 9000}, {"name": "http", "containerPort": 8080, "servicePort": 80}]}},
            "hosts": ["a.example", "b.example"]});
        let ingress = serde_json::to_value(build(&check_under(&app("1shop", spec), &[]).unwrap())).unwrap();
        let rules = ingress["spec"]["rules"].as_array().unwrap();
        assert_eq!(
            rules.iter().map(|rule| rule["host"].as_str().unwrap()).collect::<Vec<_>>(),
            ["a.example", "b.example"]
        );
        for rule in rules {
            let backend = &rule["http"]["paths"][0]["backend"]["service"];
            assert_eq!(*backend, json!({"name": "kubeop-1shop", "port": {"number": 80}}));
        }
        assert!(
            ingress["metadata"]["annotations"].as_object().unwrap().keys().all(|key| key.starts_with("kubeop.io/"))
        );
    }
}
