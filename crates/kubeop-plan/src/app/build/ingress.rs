//! The Ingress: the App's hosts, each leading to its Service; with TLS where a certificate is issued, and without redirect from HTTP.
//!
//! Invariant: no class: the cluster's default decides; and no annotation (controllers turn some into configuration) but one that is a constant.

use super::{ValidApp, meta};
use crate::app::ports::{ingress_port, service_name};
use crate::certificate::validate::secret_of;
use k8s_openapi::api::networking::v1::{
    HTTPIngressPath, HTTPIngressRuleValue, Ingress, IngressBackend, IngressRule, IngressServiceBackend, IngressSpec,
    IngressTLS, ServiceBackendPort,
};

const NO_REDIRECT: &str = "nginx.ingress.kubernetes.io/ssl-redirect";

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
    let tls = app.issuer.map(|_| {
        let hosts = app.hosts.iter().map(ToString::to_string).collect();
        vec![IngressTLS { hosts: Some(hosts), secret_name: Some(secret_of(app.name.as_str())) }]
    });
    let mut metadata = meta(app, app.name.as_str());
    if tls.is_some() {
        // Else ingress-nginx would answer HTTP with a redirect, and certificates of a stand-in are trusted by few.
        metadata.annotations.get_or_insert_default().insert(NO_REDIRECT.to_owned(), "false".to_owned());
    }
    Some(Ingress {
        metadata,
        spec: Some(IngressSpec { rules: Some(rules.collect()), tls, ..IngressSpec::default() }),
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
