//! NetworkPolicies: what a tenant opens stays within what the platform allows.
//!
//! Invariant: only the platform's own (`kubeop-*`, guarded by the policy `kubeop-reserved`) may open more: they are the baseline.

use super::{Operation, read};
use crate::review::Text;
use kubeop_core::policy::PlatformPolicy;
use kubeop_crds::labels::RESERVED_NAME_PREFIX;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

/// Judges the spec of `object`, on update if it changed.
pub(super) fn judge(
    policy: &PlatformPolicy,
    namespace: &str,
    operation: Operation<'_>,
    object: &RawValue,
) -> Result<(), String> {
    let object: NetworkPolicy<'_> = read(object)?;
    // The object's own name: the request's is empty where the API server generated it.
    if object.metadata.name.as_deref().is_some_and(|name| name.starts_with(RESERVED_NAME_PREFIX)) {
        return Ok(());
    }
    let Err(denial) = policy.check_network_policy(namespace, &object.spec) else { return Ok(()) };
    if let Operation::Update(old) = operation
        && read::<NetworkPolicy<'_>>(old)?.spec == object.spec
    {
        return Ok(());
    }
    Err(denial.message().to_owned())
}

#[derive(Deserialize)]
struct NetworkPolicy<'a> {
    #[serde(borrow)]
    metadata: Metadata<'a>,
    #[serde(default)]
    spec: Value,
}

#[derive(Deserialize)]
struct Metadata<'a> {
    #[serde(borrow, default)]
    name: Option<Text<'a>>,
}
