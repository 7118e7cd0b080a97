//! Rights of admission: it reads, and nothing else.
//!
//! Invariant: no verb but `get`, `list` and `watch`.

use super::{PolicyRule, READ, named, rule};
use crate::install::names;
use crate::policy;
use kubeop_crds::GROUP;

/// Namespaces for their labels, and what decisions rest on.
pub(super) fn cluster() -> Vec<PolicyRule> {
    vec![rule("", &["namespaces"], &READ), rule(GROUP, &["projects", "tenants", "policies"], &READ)]
}

/// Its certificate and the platform policy, by name.
pub(super) fn system() -> Vec<PolicyRule> {
    vec![named("", &["secrets"], &[names::TLS_SECRET], &READ), named("", &["configmaps"], &[policy::NAME], &READ)]
}

#[cfg(test)]
mod tests {
    #[test]
    fn it_only_reads() {
        let rules = super::cluster().into_iter().chain(super::system());
        assert!(rules.flat_map(|rule| rule.verbs).all(|verb| super::READ.contains(&verb.as_str())));
    }
}
