//! The platform policy in force, from the ConfigMap `kubeop-policy`.
//!
//! Invariant: while the policy is missing or malformed there is none, and what depends on it is denied; it is never taken as empty.

use crate::metrics::Metrics;
use arc_swap::{ArcSwap, Guard};
use k8s_openapi::api::core::v1::ConfigMap;
use kubeop_core::policy::PlatformPolicy;
use kubeop_plan::policy::NAME;
use std::sync::Arc;

/// What is known of the policy.
#[derive(Debug)]
pub(crate) enum PolicyState {
    /// Not read yet.
    Unread,
    /// There is no ConfigMap.
    Missing,
    /// The ConfigMap cannot be understood, and why.
    Malformed(String),
    /// In force.
    Loaded(Box<PlatformPolicy>),
}

impl PolicyState {
    /// The policy, or the sentence that says why there is none.
    pub(crate) fn policy(&self) -> Result<&PlatformPolicy, String> {
        let name = NAME;
        match self {
            Self::Loaded(policy) => Ok(policy),
            Self::Unread => {
                Err(format!("the platform policy (ConfigMap {name}) has not been read yet: try again in a moment"))
            }
            Self::Missing => {
                Err(format!("the platform policy (ConfigMap {name}) is missing: ask the platform team to restore it"))
            }
            Self::Malformed(why) => Err(format!(
                "the platform policy (ConfigMap {name}) is invalid: ask the platform team to correct it: {why}"
            )),
        }
    }
}

/// Holds the policy and swaps it as a whole.
pub(crate) struct PolicyCache {
    state: ArcSwap<PolicyState>,
    metrics: Metrics,
}

impl PolicyCache {
    pub(crate) fn new(metrics: Metrics) -> Self {
        Self { state: ArcSwap::from_pointee(PolicyState::Unread), metrics }
    }

    /// The state at this instant; one review asks once.
    pub(crate) fn state(&self) -> Guard<Arc<PolicyState>> {
        self.state.load()
    }

    /// Takes over what the cluster holds now.
    pub(crate) fn update(&self, map: Option<ConfigMap>) {
        let state = match map.map(|map| kubeop_plan::policy::from_config_map(&map)) {
            None => PolicyState::Missing,
            Some(Err(error)) => PolicyState::Malformed(error.message().to_owned()),
            Some(Ok(published)) => {
                let (images, egress) = (&published.policy.image_allowlist, &published.policy.egress_baseline);
                tracing::info!(version = published.version, %images, %egress, "platform policy in force");
                PolicyState::Loaded(Box::new(published.policy))
            }
        };
        if let Err(why) = state.policy() {
            tracing::error!("whatever depends on the platform policy is denied: {why}");
        }
        self.replace(state);
    }

    /// Puts a state in force.
    pub(crate) fn replace(&self, state: PolicyState) {
        self.metrics.policy_loaded(state.policy().is_ok());
        self.state.store(Arc::new(state));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kubeop_core::policy::RawPolicy;
    use prometheus_client::registry::Registry;

    #[test]
    fn a_malformed_or_missing_policy_is_never_an_empty_one() {
        let cache = PolicyCache::new(Metrics::register(&mut Registry::default()));
        assert!(cache.state().policy().unwrap_err().contains("has not been read yet"));

        let raw = RawPolicy { image_allowlist: vec!["docker.io".to_owned()], ..RawPolicy::default() };
        let map = kubeop_plan::policy::to_config_map(&raw, "7");
        cache.update(Some(map.clone()));
        assert!(cache.state().policy().unwrap().check_image("ghcr.io/x").is_err());

        let mut broken = map.clone();
        broken.data.as_mut().unwrap().insert("egressBaseline".to_owned(), "10.0.0.1/8".to_owned());
        cache.update(Some(broken));
        assert!(cache.state().policy().unwrap_err().contains("is invalid"));
        cache.update(Some(ConfigMap::default()));
        assert!(cache.state().policy().is_err());
        cache.update(None);
        assert!(cache.state().policy().unwrap_err().contains("is missing"));

        cache.update(Some(map));
        assert!(cache.state().policy().is_ok());
    }
}
