//! Making a project's objects, in order.
//!
//! Invariant: nothing that lets people in is written before the quota is in force and the fence stands; what is no longer wanted is removed.

use super::AppliedResources;
use crate::context::Context;
use crate::failure::Blocked;
use crate::objects::{Served, ensure, remove};
use futures::future::try_join_all;
use k8s_openapi::api::core::v1::{ResourceQuota, ResourceQuotaSpec, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::rbac::v1::RoleBinding;
use kube::ResourceExt;
use kube::runtime::reflector::ObjectRef;
use kubeop_cluster::error::Doing;
use kubeop_crds::conditions::{ACCESS_READY, NAMESPACE_READY, NETWORK_READY, QUOTA_READY, reason};
use kubeop_crds::labels;
use kubeop_plan::identity::OwnedBy;
use kubeop_plan::project::build::{AccessRole, BASELINE_PREFIX};
use kubeop_plan::project::status::{quota_in_force, same_amounts, waiting_for_quota};
use kubeop_plan::project::{Resources, ValidProject};
use kubeop_plan::{Applied, Object, Prepared, Refusal};

/// How far it got without failing.
pub(super) enum Reached {
    /// Everything is as wanted.
    All(Box<AppliedResources>),
    /// A step waits for the cluster.
    Waiting(&'static str, Refusal),
}

type Step<T> = Result<T, (&'static str, Blocked)>;

pub(super) async fn apply(ctx: &Context, project: &ValidProject, wanted: Resources<Prepared>) -> Step<Reached> {
    let owner = &project.owner;
    let at = |step: &'static str| move |blocked: Blocked| (step, blocked);
    let namespace = ensure(ctx, owner, wanted.namespace).await.map_err(at(NAMESPACE_READY))?;
    let operator_binding = ensure(ctx, owner, wanted.operator_binding).await.map_err(at(NAMESPACE_READY))?;

    // The fence is raised while the quota controller counts; access waits for both.
    let hard = wanted.resource_quota.wanted().spec.clone();
    let quota = async { ensure(ctx, owner, wanted.resource_quota).await.map_err(at(QUOTA_READY)) };
    let limits = async { ensure(ctx, owner, wanted.limit_range).await.map_err(at(QUOTA_READY)) };
    let fence = async {
        try_join_all(wanted.network_policies.into_iter().map(|policy| ensure(ctx, owner, policy)))
            .await
            .map_err(at(NETWORK_READY))
    };
    let (resource_quota, limit_range, network_policies) = futures::try_join!(quota, limits, fence)?;
    prune_network_policies(ctx, project, &network_policies).await.map_err(at(NETWORK_READY))?;
    let Some(resource_quota) = in_force(ctx, &resource_quota, hard.as_ref()) else {
        return Ok(Reached::Waiting(QUOTA_READY, waiting_for_quota()));
    };

    let account = async { account(ctx, project, wanted.service_account).await };
    let bindings =
        async { try_join_all(wanted.role_bindings.into_iter().map(|binding| ensure(ctx, owner, binding))).await };
    let (service_account, role_bindings) = futures::try_join!(account, bindings).map_err(at(ACCESS_READY))?;
    prune_role_bindings(ctx, project, &role_bindings).await.map_err(at(ACCESS_READY))?;
    Ok(Reached::All(Box::new(Resources {
        namespace,
        operator_binding,
        resource_quota,
        limit_range,
        network_policies,
        service_account,
        role_bindings,
    })))
}

/// The developer's account. One that a project of the same name left behind when it went holds nothing and lets nobody in: it gives way.
async fn account(
    ctx: &Context,
    project: &ValidProject,
    wanted: Object<Prepared, ServiceAccount>,
) -> Result<Object<Applied, ServiceAccount>, Blocked> {
    let again = Object::new(wanted.wanted().clone());
    match ensure(ctx, &project.owner, wanted).await {
        Err(Blocked::Refused(refusal)) if refusal.reason == reason::NOT_OURS => {
            evict_left_behind(ctx, again.wanted()).await?;
            ensure(ctx, &project.owner, again).await
        }
        other => other,
    }
}

async fn evict_left_behind(ctx: &Context, wanted: &ServiceAccount) -> Result<(), Blocked> {
    let accounts = ServiceAccount::api(&ctx.client, wanted.namespace().as_deref());
    let name = wanted.name_any();
    let Some(live) = accounts.get_opt(&name).await.doing("reading the project's ServiceAccount")? else {
        return Ok(());
    };
    let mark = |key: &str| live.annotations().get(key).cloned();
    let (Some(uid), Some(by)) = (mark(labels::OWNER_UID), mark(labels::OWNER)) else { return Ok(()) };
    let ours = live.labels().get(labels::MANAGED_BY).is_some_and(|by| by == labels::OPERATOR);
    let lives = ctx.stores.project(&by).is_some_and(|project| project.uid().as_ref() == Some(&uid));
    if ours && !lives {
        remove::<ServiceAccount>(ctx, &OwnedBy { uid, name: by }, wanted.namespace().as_deref(), &name).await?;
    }
    Ok(())
}

/// The quota as the watch shows it, if it has what is wanted and the quota controller has counted it.
fn in_force(
    ctx: &Context,
    applied: &Object<Applied, ResourceQuota>,
    wanted: Option<&ResourceQuotaSpec>,
) -> Option<Object<Applied, ResourceQuota>> {
    let meta = &applied.live().metadata;
    let key = ObjectRef::new(meta.name.as_deref()?).within(meta.namespace.as_deref()?);
    let live = ctx.stores.quotas.get(&key)?;
    // The very object that was applied, not a namesake of a namespace before this one.
    let same = live.metadata.uid == meta.uid && same_amounts(live.spec.as_ref(), wanted);
    (same && quota_in_force(&live)).then(|| Object::new(applied.live().clone()).applied(ResourceQuota::clone(&live)))
}

/// Baseline policies that an earlier version or spec made.
async fn prune_network_policies(
    ctx: &Context,
    project: &ValidProject,
    kept: &[Object<Applied, NetworkPolicy>],
) -> Result<(), Blocked> {
    let namespace = project.namespace.as_str();
    for name in ctx.ledger.names::<NetworkPolicy>(Some(namespace)) {
        if name.starts_with(BASELINE_PREFIX) && kept.iter().all(|policy| policy.live().name_any() != name) {
            remove::<NetworkPolicy>(ctx, &project.owner, Some(namespace), &name).await?;
        }
    }
    Ok(())
}

/// People's bindings that are not wanted now: of a suspended project, all.
async fn prune_role_bindings(
    ctx: &Context,
    project: &ValidProject,
    kept: &[Object<Applied, RoleBinding>],
) -> Result<(), Blocked> {
    let namespace = project.namespace.as_str();
    let known = ctx.ledger.names::<RoleBinding>(Some(namespace));
    for name in AccessRole::ALL.map(AccessRole::binding_name) {
        if known.contains(&name) && kept.iter().all(|binding| binding.live().name_any() != name) {
            remove::<RoleBinding>(ctx, &project.owner, Some(namespace), &name).await?;
        }
    }
    Ok(())
}
