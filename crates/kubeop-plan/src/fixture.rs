//! Small resources for tests; names differ from ids and uids, so that a swap shows.
//!
//! Invariant: what is made here was "read from a cluster": it has uid and generation.

use crate::Identity;
use kubeop_crds::{Amount, App, AppSpec, Project, Tenant, labels};
use serde_json::json;
use std::collections::BTreeMap;

fn quotas(entries: &[(&str, &str)]) -> BTreeMap<String, Amount> {
    entries.iter().map(|(key, value)| ((*key).to_owned(), Amount::from(*value))).collect()
}

/// A tenant with an envelope, written by a manager.
pub(crate) fn tenant(name: &str, envelope: &[(&str, &str)]) -> Tenant {
    let mut tenant = Tenant::new(name, kubeop_crds::TenantSpec { quotas: quotas(envelope), ..Default::default() });
    tenant.metadata.uid = Some(format!("uid-tenant-{name}"));
    tenant.metadata.generation = Some(3);
    tenant.metadata.labels = Some([(labels::TENANT_ID.to_owned(), format!("id-tenant-{name}"))].into());
    tenant
}

/// A project `<tenant>.<project>` in namespace `kubeop-<tenant>-<project>`, applied by hand (no ids).
pub(crate) fn project(name: &str, asked: &[(&str, &str)]) -> Project {
    let tenant = name.split_once('.').unwrap().0;
    let spec =
        json!({"tenant": tenant, "namespace": format!("kubeop-{}", name.replace('.', "-")), "quotas": quotas(asked)});
    let mut project = Project::new(name, serde_json::from_value(spec).unwrap());
    project.metadata.uid = Some(format!("uid-project-{name}"));
    project.metadata.generation = Some(5);
    project
}

/// The identity of project `acme.web`.
pub(crate) fn identity() -> Identity {
    Identity::of(&project("acme.web", &[]), &tenant("acme", &[])).unwrap()
}

/// An App in namespace `kubeop-acme-web`.
#[expect(clippy::needless_pass_by_value, reason = "tests write json!({..}) in place")]
pub(crate) fn app(name: &str, spec: serde_json::Value) -> App {
    let mut app = App::new(name, AppSpec::parse_strict(&spec).unwrap());
    app.metadata.namespace = Some("kubeop-acme-web".to_owned());
    app.metadata.uid = Some(format!("uid-app-{name}"));
    app.metadata.generation = Some(2);
    app
}
