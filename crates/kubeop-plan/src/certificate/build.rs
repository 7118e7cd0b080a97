//! The Secret of a Certificate.
//!
//! Invariant: it carries the Certificate's uid twice: as the mark by which it is known as ours, and as the owner with which it is collected.

use super::ValidCertificate;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::core::ObjectMeta;
use kubeop_crds::labels;

/// What an issuer handed out, in PEM.
#[derive(Clone, Copy, Debug)]
pub struct Material<'a> {
    /// The certificate, with whatever leads up to the CA.
    pub certificate: &'a str,
    /// Its private key.
    pub key: &'a str,
    /// What to trust: the CA, and the one before while that holds.
    pub authority: &'a str,
}

/// The Secret, of type `kubernetes.io/tls` with `ca.crt` beside.
pub fn secret(certificate: &ValidCertificate, name: &str, material: Material<'_>) -> Secret {
    let entry = |key: &str, text: &str| (key.to_owned(), ByteString(text.as_bytes().to_vec()));
    let marks = [(labels::MANAGED_BY, labels::OPERATOR), (labels::PART_OF, labels::PART_OF_KUBEOP)];
    Secret {
        metadata: ObjectMeta {
            name: Some(certificate.secret.clone()),
            namespace: Some(certificate.namespace.clone()),
            labels: Some(marks.map(|(key, value)| (key.to_owned(), value.to_owned())).into()),
            annotations: Some(certificate.owner.annotations()),
            owner_references: Some(vec![OwnerReference {
                api_version: kubeop_crds::API_VERSION.to_owned(),
                kind: "Certificate".to_owned(),
                name: name.to_owned(),
                uid: certificate.owner.uid.clone(),
                controller: Some(true),
                block_owner_deletion: None,
            }]),
            ..ObjectMeta::default()
        },
        type_: Some("kubernetes.io/tls".to_owned()),
        data: Some(
            [
                entry("tls.crt", material.certificate),
                entry("tls.key", material.key),
                entry("ca.crt", material.authority),
            ]
            .into(),
        ),
        ..Secret::default()
    }
}
