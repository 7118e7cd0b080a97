//! Tenant: the quota ledger, and a name that stays while projects bear it.
//!
//! Invariant: a Tenant makes no objects; its finalizer goes when its last Project is gone.

use crate::context::Context;
use crate::{finalizer, status};
use kube::runtime::controller::Action;
use kube::{Api, ResourceExt};
use kubeop_core::Result;
use kubeop_crds::{Project, Tenant};
use kubeop_plan::tenant::{Ledger, ledger};
use std::sync::Arc;

/// dereference → build → status; there is nothing to apply.
pub(crate) async fn reconcile(tenant: Arc<Tenant>, ctx: Arc<Context>) -> Result<Action> {
    let api: Api<Tenant> = Api::all(ctx.client.clone());
    let projects = dereference(&tenant, &ctx);
    if tenant.metadata.deletion_timestamp.is_some() && projects.is_empty() {
        finalizer::remove(&ctx, &api, &*tenant).await?;
        return Ok(Action::await_change());
    }
    if tenant.metadata.deletion_timestamp.is_none() {
        finalizer::set(&ctx, &api, &*tenant).await?;
    }
    let found: Ledger = ledger(&tenant, &projects);
    let after = found.status(&tenant, ctx.clock.now());
    status::write(&ctx, &api, &*tenant, tenant.status.as_ref(), &after).await?;
    Ok(Action::await_change())
}

/// The projects that name the tenant.
fn dereference(tenant: &Tenant, ctx: &Context) -> Vec<Project> {
    ctx.stores.projects_of(&tenant.name_any()).iter().map(|project| Project::clone(project)).collect()
}
