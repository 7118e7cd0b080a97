//! What a DNSRecord says, understood beside its owner and its target.
//!
//! Invariant: nothing is published for a host whose owner is not there, whatever the record says.

use super::{DEFAULT_TTL, Entry, Found, target};
use crate::refusal::{Refusal, Validated};
use kubeop_core::name::Host;
use kubeop_crds::conditions::reason;
use kubeop_crds::{DnsRecord, Owner};

/// What is read from the cluster beforehand.
#[derive(Clone, Debug)]
pub struct Surroundings {
    /// Whether the App and the Project that the record names exist with those uids, and neither is being deleted.
    pub owner_lives: bool,
    /// What its target is.
    pub found: Found,
}

/// Understands a DNSRecord.
///
/// # Errors
/// `OwnerNotFound`, `TargetNotFound`, or `Invalid` with the field at fault.
pub fn validate(record: &DnsRecord, around: &Surroundings) -> Validated<Entry> {
    let host = Host::parse(&record.spec.host).map_err(|error| error.at("spec.host"))?;
    if host.as_str() != record.spec.host || record.metadata.name.as_deref() != Some(host.as_str()) {
        return Err(Refusal::invalid(format!("spec.host: the record of {host} is named so, in canonical form")));
    }
    if !around.owner_lives {
        return Err(owner_not_found(&record.spec.owner));
    }
    let ttl = match record.spec.ttl {
        None => DEFAULT_TTL,
        Some(seconds) => {
            u32::try_from(seconds).ok().filter(|ttl| (1..=2_147_483_647).contains(ttl)).ok_or_else(|| {
                Refusal::invalid(format!("spec.ttl: {seconds} is out of range: 1 to 2147483647 is allowed"))
            })?
        }
    };
    Ok(Entry { answer: target::answer(record, &around.found)?, host, ttl })
}

/// The owner that a resource names is not there.
pub(crate) fn owner_not_found(owner: &Owner) -> Refusal {
    let Owner { app, app_uid, project, .. } = owner;
    Refusal::new(
        reason::OWNER_NOT_FOUND,
        format!("spec.owner: App {app} with uid {app_uid} is not there in project {project}"),
    )
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use serde_json::json;

    /// The record of `web.local`.
    #[expect(clippy::needless_pass_by_value, reason = "tests write json!({..}) in place")]
    pub(crate) fn record(target: serde_json::Value) -> DnsRecord {
        serde_json::from_value(json!({
            "apiVersion": "platform.kubeop.io/v1alpha1", "kind": "DNSRecord", "metadata": {"name": "web.local", "generation": 3},
            "spec": {"host": "web.local", "target": target,
                "owner": {"project": "acme.web", "projectUID": "uid-project", "app": "shop", "appUID": "uid-app"}},
        }))
        .unwrap()
    }

    #[test]
    fn a_record_needs_its_owner_its_own_name_and_a_sane_ttl() {
        let around = |owner_lives| Surroundings { owner_lives, found: Found::default() };
        let good = record(json!({"addresses": ["192.0.2.1"]}));
        let entry = validate(&good, &around(true)).unwrap();
        assert_eq!((entry.host.as_str(), entry.ttl), ("web.local", DEFAULT_TTL));
        assert_eq!(validate(&good, &around(false)).unwrap_err().reason, reason::OWNER_NOT_FOUND);
        let mut named = good.clone();
        named.metadata.name = Some("other.local".to_owned());
        assert_eq!(validate(&named, &around(true)).unwrap_err().reason, reason::INVALID);
        for (ttl, good_ttl) in [(1, true), (0, false), (-1, false), (2_147_483_648, false)] {
            let mut timed = good.clone();
            timed.spec.ttl = Some(ttl);
            assert_eq!(validate(&timed, &around(true)).is_ok(), good_ttl, "{ttl}");
        }
    }
}
