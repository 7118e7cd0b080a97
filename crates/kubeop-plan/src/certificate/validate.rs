//! What a Certificate says, understood beside its owner, the claims of its hosts and the issuer.
//!
//! Invariant: every host has a DNSRecord of the same owner; unknown owners, hosts and issuers get nothing.

use crate::dns_record::validate::owner_not_found;
use crate::identity::OwnedBy;
use crate::providers::Issuer;
use crate::refusal::{Refusal, Validated};
use kubeop_core::name::Host;
use kubeop_crds::conditions::reason;
use kubeop_crds::{Certificate, DnsRecord, labels};
use std::collections::BTreeSet;

/// What is read from the cluster beforehand.
#[derive(Clone, Debug, Default)]
pub struct Surroundings {
    /// Who issues, if anybody does.
    pub issuer: Option<Issuer>,
    /// The namespace of the owner, if App and Project exist with the uids that the certificate names and neither is being deleted.
    pub namespace: Option<String>,
    /// The claims of the certificate's hosts, as far as there are any.
    pub records: Vec<DnsRecord>,
}

/// A Certificate that obeys the rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValidCertificate {
    /// The Certificate resource, which owns the Secret.
    pub owner: OwnedBy,
    /// Who issues.
    pub issuer: Issuer,
    /// The namespace of the Secret.
    pub namespace: String,
    /// The Secret's name.
    pub secret: String,
    /// The hosts: the first, then the others, each once.
    pub hosts: Vec<Host>,
}

/// Understands a Certificate.
///
/// # Errors
/// `NoIssuer`, `OwnerNotFound`, `HostNotHeld`, or `Invalid` with the field at fault.
pub fn validate(certificate: &Certificate, around: &Surroundings) -> Validated<ValidCertificate> {
    let spec = &certificate.spec;
    let mut hosts: Vec<Host> = Vec::new();
    let texts = std::iter::once(("spec.host", &spec.host))
        .chain(spec.additional_hosts.iter().map(|host| ("spec.additionalHosts", host)));
    for (place, text) in texts {
        let host = Host::parse(text).map_err(|error| error.at(place))?;
        if !hosts.contains(&host) {
            hosts.push(host);
        }
    }
    if !is_name(&spec.secret.name) {
        return Err(Refusal::invalid(format!("spec.secret.name: {:?} is not a name of a Secret", spec.secret.name)));
    }
    let issuer = around
        .issuer
        .ok_or_else(|| Refusal::new(reason::NO_ISSUER, "no issuer is configured, so nobody issues the certificate"))?;
    if let Some(wanted) = spec.issuer.as_ref().filter(|wanted| *wanted != issuer.as_str()) {
        return Err(Refusal::new(
            reason::NO_ISSUER,
            format!("spec.issuer: {wanted:?} is not configured: {} is", issuer.as_str()),
        ));
    }
    let namespace = around.namespace.clone().ok_or_else(|| owner_not_found(&spec.owner))?;
    let held: BTreeSet<&str> = around
        .records
        .iter()
        .filter(|record| {
            let owner = &record.spec.owner;
            owner.app_uid == spec.owner.app_uid
                && owner.project_uid == spec.owner.project_uid
                && record.metadata.deletion_timestamp.is_none()
        })
        .map(|record| record.spec.host.as_str())
        .collect();
    if let Some(host) = hosts.iter().find(|host| !held.contains(host.as_str())) {
        return Err(Refusal::new(
            reason::HOST_NOT_HELD,
            format!("host {host} has no DNSRecord of App {}, so no certificate is issued for it", spec.owner.app),
        ));
    }
    Ok(ValidCertificate {
        owner: OwnedBy::of(&certificate.metadata)?,
        issuer,
        namespace,
        secret: spec.secret.name.clone(),
        hosts,
    })
}

/// A DNS subdomain (RFC 1123), as names of Secrets are.
fn is_name(text: &str) -> bool {
    let edge = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let label = |label: &str| {
        let bytes = label.as_bytes();
        edge(bytes.first())
            && edge(bytes.last())
            && bytes.iter().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || *byte == b'-')
    };
    text.len() <= 253 && text.split('.').all(label)
}

/// The name of an App's Certificate resource: a dot can stand in neither part, so that no two Apps share one.
pub fn name_of(namespace: &str, app: &str) -> String {
    format!("{namespace}.{app}")
}

/// The name of the Secret of an App's Certificate, which tenants cannot take.
pub fn secret_of(app: &str) -> String {
    format!("{}tls.{app}", labels::RESERVED_NAME_PREFIX)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::dns_record::validate::tests::record;
    use serde_json::json;

    /// A Certificate of `web.local`, with more in its spec.
    #[expect(clippy::needless_pass_by_value, reason = "tests write json!({..}) in place")]
    pub(crate) fn certificate(more: serde_json::Value) -> Certificate {
        let mut spec = json!({"host": "web.local", "secret": {"name": "kubeop-tls.shop"},
            "owner": {"project": "acme.web", "projectUID": "uid-project", "app": "shop", "appUID": "uid-app"}});
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        serde_json::from_value(json!({
            "apiVersion": "platform.kubeop.io/v1alpha1", "kind": "Certificate",
            "metadata": {"name": "n.shop", "uid": "uid-certificate", "generation": 3}, "spec": spec,
        }))
        .unwrap()
    }

    pub(crate) fn around() -> Surroundings {
        Surroundings {
            issuer: Some(Issuer::SelfSigned),
            namespace: Some("n".to_owned()),
            records: vec![record(json!({"cname": "x.y"}))],
        }
    }

    #[test]
    fn hosts_that_the_owner_holds_are_certified() {
        let valid =
            validate(&certificate(json!({"additionalHosts": ["web.local"], "issuer": "self-signed"})), &around());
        let valid = valid.unwrap();
        assert_eq!(valid.hosts.iter().map(Host::as_str).collect::<Vec<_>>(), ["web.local"]);
        assert_eq!((valid.namespace.as_str(), valid.owner.uid.as_str()), ("n", "uid-certificate"));
    }

    #[test]
    fn hosts_owners_and_issuers_that_are_not_there_get_nothing() {
        let why = |more, around: &Surroundings| validate(&certificate(more), around).unwrap_err().reason;
        assert_eq!(why(json!({"additionalHosts": ["other.local"]}), &around()), reason::HOST_NOT_HELD);
        for (pointer, other) in [("app_uid", "uid-other"), ("project_uid", "uid-other")] {
            let mut foreign = around();
            let owner = &mut foreign.records[0].spec.owner;
            if pointer == "app_uid" { &mut owner.app_uid } else { &mut owner.project_uid }.replace_range(.., other);
            assert_eq!(why(json!({}), &foreign), reason::HOST_NOT_HELD, "{pointer}");
        }
        assert_eq!(why(json!({"issuer": "acme"}), &around()), reason::NO_ISSUER);
        assert_eq!(why(json!({}), &Surroundings { issuer: None, ..around() }), reason::NO_ISSUER);
        assert_eq!(why(json!({}), &Surroundings { namespace: None, ..around() }), reason::OWNER_NOT_FOUND);
        assert_eq!(why(json!({"host": "*.local"}), &around()), reason::INVALID);
        for bad in ["", "Web", "a/b", "-a", "a..b"] {
            assert_eq!(why(json!({"secret": {"name": bad}}), &around()), reason::INVALID, "{bad}");
        }
    }

    #[test]
    fn names_of_different_apps_differ() {
        assert_ne!(name_of("a", "b"), name_of("a.b", ""));
        assert!(is_name(&secret_of(&"x".repeat(63))) && is_name(&name_of(&"x".repeat(63), &"y".repeat(63))));
    }
}
