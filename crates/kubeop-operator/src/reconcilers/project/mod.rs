//! Project: one fenced namespace.
//!
//! Invariant: the order is namespace → quota in force → limits → network fence → access; deleting runs in reverse, people's
//! access first.

mod apply;
mod delete;
mod dereference;
mod validate;

use super::look_again;
use crate::context::Context;
use crate::failure::Blocked;
use crate::{finalizer, status};
use apply::Reached;
use kube::Api;
use kube::runtime::controller::Action;
use kubeop_core::Result;
use kubeop_crds::Project;
use kubeop_plan::project::Resources;
use kubeop_plan::project::{Progress, ValidProject, build, status as plan};
use kubeop_plan::{Applied, Prepared, Refusal};
use std::sync::Arc;

/// The five steps.
pub(crate) async fn reconcile(project: Arc<Project>, ctx: Arc<Context>) -> Result<Action> {
    let api: Api<Project> = Api::all(ctx.client.clone());
    if project.metadata.deletion_timestamp.is_some() {
        return delete::delete(&project, &api, &ctx).await;
    }
    finalizer::set(&ctx, &api, &*project).await?;
    let around = match dereference::dereference(&project, &ctx) {
        Ok(around) => around,
        Err(refusal) => return report(&project, &api, &ctx, None, None, &Progress::Refused(refusal)).await,
    };
    let version = Some(around.policy.version.as_str());
    let valid = match validate::validate(&project, &around, &ctx) {
        Ok(valid) => valid,
        Err(refusal) => return report(&project, &api, &ctx, None, version, &Progress::Refused(refusal)).await,
    };
    let wanted: Resources<Prepared> = build(&valid);
    match Box::pin(apply::apply(&ctx, &valid, wanted)).await {
        Ok(Reached::All(applied)) => {
            report(&project, &api, &ctx, Some(&valid), version, &Progress::Applied(&applied)).await
        }
        Ok(Reached::Waiting(step, refusal)) | Err((step, Blocked::Refused(refusal))) => {
            report(&project, &api, &ctx, Some(&valid), version, &Progress::Waiting(step, refusal)).await
        }
        Err((step, Blocked::Failed(error))) => {
            let refusal = Refusal::new(kubeop_crds::conditions::reason::FAILED, error.message());
            report(&project, &api, &ctx, Some(&valid), version, &Progress::Waiting(step, refusal)).await?;
            Err(error)
        }
    }
}

/// The status step: only what the API server answered counts as applied.
async fn report(
    project: &Project,
    api: &Api<Project>,
    ctx: &Context,
    valid: Option<&ValidProject>,
    policy_version: Option<&str>,
    progress: &Progress<'_>,
) -> Result<Action> {
    let after = plan::status(project, valid, progress, policy_version, ctx.clock.now());
    status::write(ctx, api, project, project.status.as_ref(), &after).await?;
    Ok(match progress {
        Progress::Applied(_) | Progress::Deleting(_) => Action::await_change(),
        Progress::Waiting(_, refusal) | Progress::Refused(refusal) => look_again(ctx, project, refusal.may_pass()),
    })
}

/// What `apply` hands on.
type AppliedResources = Resources<Applied>;
