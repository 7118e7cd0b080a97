//! Reading what a Project depends on: its tenant, its siblings, its live quota, the platform policy.
//!
//! Invariant: reads stores only; what is missing is a refusal that another object's change may cure.

use crate::context::Context;
use crate::grants::held;
use kube::ResourceExt;
use kubeop_core::quota::Quotas;
use kubeop_crds::conditions::reason;
use kubeop_crds::{Project, Tenant};
use kubeop_plan::policy::Published;
use kubeop_plan::project::status::live_quotas;
use kubeop_plan::{Refusal, Validated};
use std::sync::Arc;

/// What was found.
pub(super) struct Around {
    pub(super) tenant: Arc<Tenant>,
    /// What each sibling holds, by the name of its resource.
    pub(super) siblings: Vec<(String, Quotas)>,
    /// `spec.hard` of the live ResourceQuota.
    pub(super) live_quota: Option<Quotas>,
    pub(super) policy: Published,
}

pub(super) fn dereference(project: &Project, ctx: &Context) -> Validated<Around> {
    let name = &project.spec.tenant;
    let missing = |why: &str| Refusal::new(reason::TENANT_NOT_FOUND, format!("tenant {name:?} {why}"));
    let tenant = ctx.stores.tenant(name).ok_or_else(|| missing("does not exist on this cluster"))?;
    let new = project.status.as_ref().is_none_or(|status| status.namespace_uid.is_none());
    if new && tenant.metadata.deletion_timestamp.is_some() {
        return Err(missing("is being deleted"));
    }
    let policy =
        ctx.stores.published_policy().map_err(|error| Refusal::new(reason::POLICY_UNREADABLE, error.message()))?;
    let own = project.name_any();
    let siblings = ctx
        .stores
        .projects_of(name)
        .iter()
        .filter(|sibling| sibling.name_any() != own)
        .map(|sibling| (sibling.name_any(), held(sibling, ctx.stores.quota_of(sibling).as_deref())))
        .collect();
    let live_quota = ctx.stores.quota_of(project).map(|quota| live_quotas(&quota));
    Ok(Around { tenant, siblings, live_quota, policy })
}
