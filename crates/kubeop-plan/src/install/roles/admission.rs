//! Rights of admission: it reads two objects, and nothing else; what it judges comes with the review.
//!
//! Invariant: no verb but `get`, `list` and `watch`.

use super::{PolicyRule, READ, named};
use crate::install::names;
use crate::policy;

/// Its certificate and the platform policy, by name.
pub(super) fn system() -> Vec<PolicyRule> {
    vec![named("", &["secrets"], &[names::TLS_SECRET], &READ), named("", &["configmaps"], &[policy::NAME], &READ)]
}

#[cfg(test)]
mod tests {
    #[test]
    fn it_only_reads() {
        assert!(
            super::system().into_iter().flat_map(|rule| rule.verbs).all(|verb| super::READ.contains(&verb.as_str()))
        );
    }
}
