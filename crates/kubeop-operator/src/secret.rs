//! Reading Secrets that hold PEM texts.
//!
//! Invariant: what is empty or no text counts as missing.

use k8s_openapi::api::core::v1::Secret;
use kubeop_cluster::certificate::Pair;
use secrecy::SecretString;

/// The text under a key.
pub(crate) fn text(secret: &Secret, key: &str) -> Option<String> {
    String::from_utf8(secret.data.as_ref()?.get(key)?.0.clone()).ok().filter(|text| !text.is_empty())
}

/// Certificate and key of a `kubernetes.io/tls` Secret.
pub(crate) fn pair(secret: &Secret) -> Option<Pair> {
    Some(Pair { certificate: text(secret, "tls.crt")?, key: SecretString::from(text(secret, "tls.key")?) })
}
