//! App: an image as Deployment, Service and Ingress under hosts that are its own.
//!
//! Invariant: hosts are claimed before anything answers under them; what the App no longer wants is removed by what is known to be its own.

mod apply;
mod delete;
mod dereference;

use super::look_again;
use crate::context::Context;
use crate::failure::Blocked;
use crate::{finalizer, status};
use kube::runtime::controller::Action;
use kube::{Api, ResourceExt};
use kubeop_core::Result;
use kubeop_crds::App;
use kubeop_crds::conditions::reason;
use kubeop_plan::app::{Progress, Resources, Surroundings, build, status as plan, validate};
use kubeop_plan::{Prepared, Refusal};
use std::sync::Arc;

/// The five steps.
pub(crate) async fn reconcile(app: Arc<App>, ctx: Arc<Context>) -> Result<Action> {
    let api: Api<App> = Api::namespaced(ctx.client.clone(), &app.namespace().unwrap_or_default());
    if app.metadata.deletion_timestamp.is_some() {
        return delete::delete(&app, &api, &ctx).await;
    }
    let around = match dereference::dereference(&app, &ctx) {
        Ok(around) => around,
        Err(refusal) => return report(&app, &api, &ctx, &Progress::Refused(refusal)).await,
    };
    let surroundings = Surroundings {
        project: &around.identity,
        project_uid: &around.project_uid,
        pod_security: around.pod_security,
        suspended: around.suspended,
        policy: &around.policy.policy,
        issuer: around.issuer,
    };
    let valid = match validate(&app, &surroundings) {
        Ok(valid) => valid,
        Err(refusal) => return report(&app, &api, &ctx, &Progress::Refused(refusal)).await,
    };
    finalizer::set(&ctx, &api, &*app).await?;
    let wanted: Resources<Prepared> = build(&valid);
    match Box::pin(apply::apply(&ctx, &valid, wanted)).await {
        Ok(applied) => report(&app, &api, &ctx, &Progress::Applied(&valid, &applied)).await,
        Err(Blocked::Refused(refusal)) => report(&app, &api, &ctx, &Progress::Refused(refusal)).await,
        Err(Blocked::Failed(error)) => {
            let refusal = Refusal::new(reason::FAILED, error.message());
            report(&app, &api, &ctx, &Progress::Refused(refusal)).await?;
            Err(error)
        }
    }
}

/// The status step.
async fn report(app: &App, api: &Api<App>, ctx: &Context, progress: &Progress<'_>) -> Result<Action> {
    let after = plan::status(app, progress, ctx.clock.now());
    status::write(ctx, api, app, app.status.as_ref(), &after).await?;
    Ok(match progress {
        Progress::Applied(..) | Progress::Deleting(_) => Action::await_change(),
        Progress::Refused(refusal) => look_again(ctx, app, refusal.may_pass()),
    })
}
