//! Reading what an App depends on: the project of its namespace and the platform policy.
//!
//! Invariant: the namespace tells the project only if it carries the uid of a live Project that names it back.

use crate::context::Context;
use kube::ResourceExt;
use kubeop_crds::conditions::{NETWORK_READY, is_true, reason};
use kubeop_crds::{App, PodSecurity, labels};
use kubeop_plan::policy::Published;
use kubeop_plan::providers::Issuer;
use kubeop_plan::{Identity, Refusal, Validated};

/// What was found.
pub(super) struct Around {
    pub(super) identity: Identity,
    pub(super) project_uid: String,
    pub(super) pod_security: PodSecurity,
    pub(super) suspended: bool,
    pub(super) policy: Published,
    pub(super) issuer: Option<Issuer>,
}

pub(super) fn dereference(app: &App, ctx: &Context) -> Validated<Around> {
    let name = app.namespace().unwrap_or_default();
    let nobodys = |why: &str| Refusal::new(reason::PROJECT_NOT_FOUND, format!("namespace {name:?} {why}"));
    let namespace = ctx
        .stores
        .namespace(&name)
        .ok_or_else(|| nobodys("is no project's: an App is delivered in the namespace of a Project"))?;
    let identity = Identity::of_namespace(&namespace.metadata)?;
    let resource = identity.project_resource();
    let project = ctx
        .stores
        .project(&resource)
        .ok_or_else(|| nobodys(&format!("belongs to project {resource}, which does not exist")))?;
    let owner = namespace.annotations().get(labels::OWNER_UID);
    if project.spec.namespace != name || owner.is_none() || owner != project.metadata.uid.as_ref() {
        return Err(nobodys(&format!("does not belong to project {resource} as it is now")));
    }
    let waiting = |why: &str| Refusal::new(reason::WAITING_FOR_PROJECT, format!("project {resource} {why}"));
    if project.metadata.deletion_timestamp.is_some() || namespace.metadata.deletion_timestamp.is_some() {
        return Err(waiting("is being deleted"));
    }
    // Nothing runs before the fence stands; a project that is suspended or being changed still delivers.
    let fenced = project.status.as_ref().is_some_and(|status| is_true(&status.conditions, NETWORK_READY, None));
    if !fenced {
        return Err(waiting("is not ready yet"));
    }
    let policy =
        ctx.stores.published_policy().map_err(|error| Refusal::new(reason::POLICY_UNREADABLE, error.message()))?;
    let providers = ctx.stores.configured_providers();
    let providers = providers.map_err(|error| Refusal::new(reason::PROVIDERS_UNREADABLE, error.message()))?;
    let tenant_suspended = ctx.stores.tenant(&project.spec.tenant).is_some_and(|tenant| tenant.spec.suspended);
    Ok(Around {
        identity,
        project_uid: project.uid().unwrap_or_default(),
        pod_security: project.spec.pod_security.unwrap_or_default(),
        suspended: project.spec.suspended || tenant_suspended,
        policy,
        issuer: providers.issuer,
    })
}
