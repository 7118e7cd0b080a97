//! Kubeconfigs of projects: issue, list, revoke.
//!
//! Invariant: each stands on a Secret of its own in `kubeop-access`; deleting that Secret ends exactly this one.

pub mod issue;
pub mod list;
pub mod revoke;

/// The object kind in the audit log.
const KIND: &str = "kubeconfig";
