//! The objects of an App of kind Image, one file a kind.
//!
//! Invariant: the pods' selector is the App's name alone, so that no later change of ids or labels meets an immutable field.

mod certificate;
mod deployment;
mod dns_record;
mod ingress;
mod service;

use super::Resources;
use super::validate::ValidApp;
use crate::resources::{Object, Prepared};
use kube::core::ObjectMeta;
use kubeop_crds::{Owner, labels};
use std::collections::BTreeMap;

/// All objects of an App.
pub fn build(app: &ValidApp) -> Resources<Prepared> {
    Resources {
        dns_records: dns_record::build(app).into_iter().map(Object::new).collect(),
        certificate: certificate::build(app).map(Object::new),
        deployment: Object::new(deployment::build(app)),
        service: service::build(app).map(Object::new),
        ingress: ingress::build(app).map(Object::new),
    }
}

/// The labels of the App's objects.
fn object_labels(app: &ValidApp) -> BTreeMap<String, String> {
    let mut all = app.project.labels();
    all.extend(
        [
            (labels::APP_ID, app.id.as_str()),
            (labels::APP, app.name.as_str()),
            (labels::NAME, app.name.as_str()),
            (labels::K8S_INSTANCE, app.name.as_str()),
            (labels::PART_OF, app.project.project.as_str()),
        ]
        .map(|(key, value)| (key.to_owned(), value.to_owned())),
    );
    all
}

/// The App as the holder of hosts and certificates.
fn owner(app: &ValidApp) -> Owner {
    Owner {
        project: app.project.project_resource(),
        project_uid: app.project_uid.clone(),
        app: app.name.to_string(),
        app_uid: app.owner.uid.clone(),
    }
}

/// The labels of its pods: those of the objects without the manager, since pods are the tenant's to delete.
fn pod_labels(app: &ValidApp) -> BTreeMap<String, String> {
    let mut all = object_labels(app);
    all.remove(labels::MANAGED_BY);
    all
}

/// What selects its pods.
fn selector(app: &ValidApp) -> BTreeMap<String, String> {
    [(labels::APP.to_owned(), app.name.to_string())].into()
}

fn meta(app: &ValidApp, name: &str) -> ObjectMeta {
    ObjectMeta {
        name: Some(name.to_owned()),
        namespace: Some(app.namespace.clone()),
        labels: Some(object_labels(app)),
        annotations: Some(app.owner.annotations()),
        ..ObjectMeta::default()
    }
}

#[cfg(test)]
mod tests {
    use super::super::validate::tests::check_under;
    use super::*;
    use crate::fixture::app;
    use serde_json::json;

    fn valid(spec: serde_json::Value) -> ValidApp {
        check_under(&app("shop", spec), &[]).unwrap()
    }

    #[test]
    fn the_short_form_makes_all_four_objects() {
        let all = build(&valid(json!({"delivery": {"image": "nginx"}, "host": "web.local"})));
        let deployment = all.deployment.wanted();
        let service = all.service.unwrap();
        let ingress = all.ingress.unwrap();
        let record = all.dns_records[0].wanted();
        for meta in [&deployment.metadata, &service.wanted().metadata, &ingress.wanted().metadata] {
            assert_eq!((meta.name.as_deref(), meta.namespace.as_deref()), (Some("shop"), Some("kubeop-acme-web")));
            assert_eq!(meta.labels.as_ref().unwrap()[labels::APP_ID], "uid-app-shop");
            assert_eq!(meta.labels.as_ref().unwrap()[labels::MANAGED_BY], labels::OPERATOR);
            assert_eq!(meta.annotations.as_ref().unwrap()[labels::OWNER_UID], "uid-app-shop");
        }
        let pods = deployment.spec.as_ref().unwrap().template.metadata.as_ref().unwrap().labels.as_ref().unwrap();
        let selector = service.wanted().spec.as_ref().unwrap().selector.as_ref().unwrap();
        assert!(selector.iter().all(|(key, value)| pods.get(key) == Some(value)), "the Service finds the pods");
        assert_eq!(deployment.spec.as_ref().unwrap().selector.match_labels.as_ref(), Some(selector));
        assert!(!pods.contains_key(labels::MANAGED_BY), "pods are the tenant's to delete");
        assert_eq!((record.metadata.name.as_deref(), record.spec.host.as_str()), (Some("web.local"), "web.local"));
        assert_eq!(record.spec.owner.app_uid, "uid-app-shop");
    }

    #[test]
    fn an_issuer_brings_a_certificate_of_all_hosts_and_tls_at_the_ingress() {
        let spec = json!({"delivery": {"image": "nginx"}, "hosts": ["a.example", "b.example"]});
        let without = build(&valid(spec.clone()));
        assert!(without.certificate.is_none());
        assert!(without.ingress.unwrap().wanted().spec.as_ref().unwrap().tls.is_none());
        let with = build(&ValidApp { issuer: Some(crate::providers::Issuer::SelfSigned), ..valid(spec) });
        let certificate = with.certificate.unwrap();
        let (meta, spec) = (&certificate.wanted().metadata, &certificate.wanted().spec);
        assert_eq!(meta.name.as_deref(), Some("kubeop-acme-web.shop"));
        assert_eq!((spec.host.as_str(), &spec.additional_hosts[..]), ("a.example", &["b.example".to_owned()][..]));
        assert_eq!(spec.owner, with.dns_records[0].wanted().spec.owner);
        let ingress = with.ingress.unwrap();
        let notes = ingress.wanted().metadata.annotations.as_ref().unwrap();
        assert_eq!(notes["nginx.ingress.kubernetes.io/ssl-redirect"], "false", "plain HTTP keeps answering");
        let tls = ingress.wanted().spec.as_ref().unwrap().tls.clone().unwrap();
        assert_eq!(tls[0].secret_name.as_deref(), Some("kubeop-tls.shop"));
        assert_eq!(tls[0].hosts.as_deref(), Some(&["a.example".to_owned(), "b.example".to_owned()][..]));
        assert_eq!(spec.secret.name, "kubeop-tls.shop");
    }

    #[test]
    fn no_hosts_no_ingress_and_no_ports_no_service() {
        let all = build(&valid(json!({"delivery": {"image": {"ref": "busybox", "ports": []}}})));
        assert!(all.service.is_none() && all.ingress.is_none() && all.dns_records.is_empty());
    }
}
