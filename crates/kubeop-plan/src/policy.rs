//! The platform policy as ConfigMap `kubeop-policy` in `kubeop-system`: written by the manager, read by operator, admission and the
//! admission policy `kubeop-egress`.
//!
//! Invariant: a ConfigMap that is not understood in full is an error, and its readers deny; no key has a default.

use k8s_openapi::api::core::v1::ConfigMap;
use kube::core::ObjectMeta;
use kubeop_core::name::SYSTEM_NAMESPACE;
use kubeop_core::policy::{PlatformPolicy, RawPolicy, RawQuotaMax};
use kubeop_core::quota::{CPU, MEMORY, Quotas};
use kubeop_core::{Error, Result};
use kubeop_crds::labels;
use std::collections::BTreeMap;

/// Name of the ConfigMap.
pub const NAME: &str = "kubeop-policy";
/// Key: registries and registry paths, separated by commas; empty allows any.
pub const IMAGE_ALLOWLIST: &str = "imageAllowlist";
/// Key: CIDRs, separated by commas (one line, so that CEL can split it); empty allows any outside address.
pub const EGRESS_BASELINE: &str = "egressBaseline";
/// Key: `requestsCPU=4,requestsMemory=8Gi`; empty sets no ceiling.
pub const QUOTA_MAX: &str = "quotaMax";
/// Key: the policy's version, for status and metrics.
pub const VERSION: &str = "version";

/// What the ConfigMap says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Published {
    /// The policy, understood.
    pub policy: PlatformPolicy,
    /// Its version as the manager counts it; `0` before a manager wrote one.
    pub version: String,
}

/// The ConfigMap of a policy.
pub fn to_config_map(raw: &RawPolicy, version: &str) -> ConfigMap {
    let quota_max: Vec<String> =
        [("requestsCPU", &raw.quota_max.requests_cpu), ("requestsMemory", &raw.quota_max.requests_memory)]
            .into_iter()
            .filter_map(|(key, value)| value.as_ref().map(|value| format!("{key}={value}")))
            .collect();
    let data = [
        (IMAGE_ALLOWLIST, raw.image_allowlist.join(",")),
        (EGRESS_BASELINE, raw.egress_baseline.join(",")),
        (QUOTA_MAX, quota_max.join(",")),
        (VERSION, version.to_owned()),
    ];
    let names = [(labels::PART_OF, labels::PART_OF_KUBEOP), (labels::MANAGED_BY, labels::MANAGER)];
    ConfigMap {
        metadata: ObjectMeta {
            name: Some(NAME.to_owned()),
            namespace: Some(SYSTEM_NAMESPACE.to_owned()),
            labels: Some(names.map(|(key, value)| (key.to_owned(), value.to_owned())).into()),
            annotations: Some([(labels::WANTED.to_owned(), version.to_owned())].into()),
            ..ObjectMeta::default()
        },
        data: Some(data.map(|(key, value)| (key.to_owned(), value)).into()),
        ..ConfigMap::default()
    }
}

/// Understands the ConfigMap.
///
/// # Errors
/// A missing or unknown key, or a value that is no policy; the message names it. Readers deny then.
pub fn from_config_map(config_map: &ConfigMap) -> Result<Published> {
    let (raw, version) = raw_from_config_map(config_map)?;
    let policy = PlatformPolicy::parse(&raw).map_err(|error| error.at(NAME))?;
    Ok(Published { policy, version })
}

/// The texts of the ConfigMap, which [`PlatformPolicy::parse`] judges, and the version.
///
/// # Errors
/// A missing or unknown key.
pub fn raw_from_config_map(config_map: &ConfigMap) -> Result<(RawPolicy, String)> {
    let empty = BTreeMap::new();
    let data = config_map.data.as_ref().unwrap_or(&empty);
    let known = [IMAGE_ALLOWLIST, EGRESS_BASELINE, QUOTA_MAX, VERSION];
    if let Some(unknown) = data.keys().find(|key| !known.contains(&key.as_str())) {
        return Err(Error::invalid(format!("{NAME}: key {unknown:?} is not understood")));
    }
    let text = |key: &str| {
        data.get(key).map(String::as_str).ok_or_else(|| Error::invalid(format!("{NAME}: key {key:?} is missing")))
    };
    let raw = RawPolicy {
        image_allowlist: list(text(IMAGE_ALLOWLIST)?),
        egress_baseline: list(text(EGRESS_BASELINE)?),
        quota_max: quota_max(text(QUOTA_MAX)?)?,
    };
    Ok((raw, text(VERSION)?.trim().to_owned()))
}

/// The ceiling of one project as quotas.
pub fn ceiling(policy: &PlatformPolicy) -> Quotas {
    let mut ceiling = Quotas::default();
    for (key, amount) in [(CPU, &policy.quota_max.requests_cpu), (MEMORY, &policy.quota_max.requests_memory)] {
        if let Some(amount) = amount {
            ceiling.set(key, amount.clone());
        }
    }
    ceiling
}

/// Entries between commas or line breaks, trimmed; nothing between two commas is no entry.
fn list(text: &str) -> Vec<String> {
    text.split([',', '\n']).map(str::trim).filter(|entry| !entry.is_empty()).map(ToOwned::to_owned).collect()
}

fn quota_max(text: &str) -> Result<RawQuotaMax> {
    let mut max = RawQuotaMax::default();
    for entry in list(text) {
        let field = match entry.split_once('=') {
            Some(("requestsCPU", _)) => &mut max.requests_cpu,
            Some(("requestsMemory", _)) => &mut max.requests_memory,
            _ => {
                return Err(Error::invalid(format!(
                    "{NAME}: {QUOTA_MAX}: {entry:?} is not understood: requestsCPU=4,requestsMemory=8Gi is the form"
                )));
            }
        };
        let value = entry.split_once('=').map(|(_, value)| value.trim().to_owned());
        if field.is_some() {
            return Err(Error::invalid(format!("{NAME}: {QUOTA_MAX}: {entry:?} is given twice")));
        }
        *field = value;
    }
    Ok(max)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw() -> RawPolicy {
        RawPolicy {
            image_allowlist: vec!["docker.io".into(), "ghcr.io/acme".into()],
            egress_baseline: vec!["10.0.0.0/8".into(), "fd00::/8".into()],
            quota_max: RawQuotaMax { requests_cpu: Some("4".into()), requests_memory: Some("8Gi".into()) },
        }
    }

    #[test]
    fn a_policy_comes_back_as_it_was_written() {
        for raw in [raw(), RawPolicy::default()] {
            let map = to_config_map(&raw, "7");
            assert_eq!(raw_from_config_map(&map).unwrap(), (raw.clone(), "7".to_owned()));
            assert_eq!(from_config_map(&map).unwrap().policy, PlatformPolicy::parse(&raw).unwrap());
        }
        assert_eq!(to_config_map(&raw(), "7").data.unwrap()[EGRESS_BASELINE], "10.0.0.0/8,fd00::/8");
    }

    #[test]
    fn what_is_not_understood_is_an_error_never_a_default() {
        let broken = |change: &dyn Fn(&mut BTreeMap<String, String>)| {
            let mut map = to_config_map(&raw(), "7");
            change(map.data.as_mut().unwrap());
            from_config_map(&map).unwrap_err().message().to_owned()
        };
        for key in [IMAGE_ALLOWLIST, EGRESS_BASELINE, QUOTA_MAX, VERSION] {
            assert!(broken(&|data| drop(data.remove(key))).contains("missing"));
        }
        for (key, value) in
            [(EGRESS_BASELINE, "10.0.0.1/8"), (QUOTA_MAX, "cpu=4"), (QUOTA_MAX, "requestsCPU=x"), ("typo", "")]
        {
            let message = broken(&|data| drop(data.insert(key.into(), value.into())));
            assert!(message.starts_with("kubeop-policy: "), "{message}");
        }
        assert!(from_config_map(&ConfigMap::default()).is_err());
    }
}
