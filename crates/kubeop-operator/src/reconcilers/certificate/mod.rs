//! Certificate: key and certificate for hosts of an App, in a Secret of its namespace.
//!
//! Invariant: what is in the Secret is judged by itself (names, life, key, signature), so that whatever happens to it or to the CA is made good.

mod apply;
mod dereference;

use super::look_again;
use crate::context::Context;
use crate::failure::Blocked;
use crate::status;
use kube::runtime::controller::Action;
use kube::{Api, ResourceExt};
use kubeop_core::Result;
use kubeop_crds::Certificate;
use kubeop_crds::conditions::reason;
use kubeop_plan::Refusal;
use kubeop_plan::certificate::{Progress, status as plan, validate};
use std::sync::Arc;
use std::time::Duration;

/// Between looks at the Secret, which is not watched: that would take the right to read every Secret of the cluster.
const LOOK: Duration = Duration::from_mins(1);

/// The five steps; building is part of applying, since what is made depends on what is there.
pub(crate) async fn reconcile(certificate: Arc<Certificate>, ctx: Arc<Context>) -> Result<Action> {
    if certificate.metadata.deletion_timestamp.is_some() {
        // The Secret goes with its owner.
        return Ok(Action::await_change());
    }
    let around = match dereference::dereference(&certificate, &ctx) {
        Ok(around) => around,
        Err(refusal) => return report(&certificate, &ctx, &Progress::Refused(&refusal)).await,
    };
    let valid = match validate(&certificate, &around) {
        Ok(valid) => valid,
        Err(refusal) => return report(&certificate, &ctx, &Progress::Refused(&refusal)).await,
    };
    match apply::apply(&ctx, &certificate.name_any(), &valid).await {
        Ok(facts) => {
            let issued =
                Progress::Issued { not_before: facts.not_before, not_after: facts.not_after, renewal: facts.renewal() };
            report(&certificate, &ctx, &issued).await
        }
        Err(Blocked::Refused(refusal)) => report(&certificate, &ctx, &Progress::Refused(&refusal)).await,
        Err(Blocked::Failed(error)) => {
            let refusal = Refusal::new(reason::FAILED, error.message());
            report(&certificate, &ctx, &Progress::Refused(&refusal)).await?;
            Err(error)
        }
    }
}

/// The status step.
async fn report(certificate: &Certificate, ctx: &Context, progress: &Progress<'_>) -> Result<Action> {
    let api: Api<Certificate> = Api::all(ctx.client.clone());
    let after = plan::status(certificate, progress, ctx.clock.now());
    status::write(ctx, &api, certificate, certificate.status.as_ref(), &after).await?;
    Ok(match progress {
        Progress::Issued { .. } => Action::requeue(ctx.failures.spread(&certificate.name_any(), LOOK)),
        Progress::Refused(refusal) => look_again(ctx, certificate, refusal.may_pass()),
    })
}
