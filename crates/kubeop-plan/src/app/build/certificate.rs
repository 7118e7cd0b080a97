//! The Certificate of the App's hosts, where somebody issues certificates.
//!
//! Invariant: one for all hosts, named after the App, so that a change of hosts changes it and makes no second one.

use super::{ValidApp, object_labels, owner};
use crate::certificate::validate::{name_of, secret_of};
use kube::core::ObjectMeta;
use kubeop_crds::certificate::SecretName;
use kubeop_crds::{Certificate, CertificateSpec};

pub(super) fn build(app: &ValidApp) -> Option<Certificate> {
    let (first, others) = app.hosts.split_first()?;
    app.issuer?;
    Some(Certificate {
        metadata: ObjectMeta {
            name: Some(name_of(&app.namespace, app.name.as_str())),
            labels: Some(object_labels(app)),
            annotations: Some(app.owner.annotations()),
            ..ObjectMeta::default()
        },
        spec: CertificateSpec {
            host: first.to_string(),
            additional_hosts: others.iter().map(ToString::to_string).collect(),
            owner: owner(app),
            secret: SecretName { name: secret_of(app.name.as_str()) },
            issuer: None,
        },
        status: None,
    })
}
