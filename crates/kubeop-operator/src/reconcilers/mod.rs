//! One reconciler a kind, each a pipeline of five steps: dereference → validate → build → apply → status.
//!
//! Invariant: only `apply` and `status` (and `delete`) write to the cluster; the other steps read stores and compute.

mod app;
mod certificate;
mod dns_record;
mod project;
mod tenant;

use crate::context::Context;
use crate::metrics::Outcome;
use crate::queues::{Receivers, stream};
use futures::{Stream, StreamExt};
use k8s_openapi::serde::de::DeserializeOwned;
use kube::runtime::Controller;
use kube::runtime::controller::{Action, Config};
use kube::runtime::reflector::{ObjectRef, Store};
use kube::{Resource, ResourceExt};
use kubeop_core::{Error, Result};
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Resources of one kind that are reconciled at the same time.
const CONCURRENCY: u16 = 16;
/// When something that no watch shows may have changed (a foreign object in the way).
const LOOK_AGAIN: Duration = Duration::from_secs(30);

/// Runs all reconcilers until `over`; work in hand is finished.
pub(crate) async fn run(ctx: &Arc<Context>, receivers: Receivers, over: &CancellationToken) {
    let stores = &ctx.stores;
    tokio::join!(
        control(ctx, stores.tenants.clone(), stream(receivers.tenants), over, tenant::reconcile),
        control(ctx, stores.projects.clone(), stream(receivers.projects), over, project::reconcile),
        control(ctx, stores.apps.clone(), stream(receivers.apps), over, app::reconcile),
        control(ctx, stores.records.clone(), stream(receivers.records), over, dns_record::reconcile),
        control(ctx, stores.certificates.clone(), stream(receivers.certificates), over, certificate::reconcile),
    );
}

async fn control<K, F>(
    ctx: &Arc<Context>,
    store: Store<K>,
    triggers: impl Stream<Item = ObjectRef<K>> + Send + 'static,
    over: &CancellationToken,
    reconcile: impl Fn(Arc<K>, Arc<Context>) -> F + Clone + Send + Sync + 'static,
) where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
    F: Future<Output = Result<Action>> + Send + 'static,
{
    let over = over.clone().cancelled_owned();
    Controller::for_shared_stream(futures::stream::pending(), store)
        .with_config(Config::default().concurrency(CONCURRENCY))
        .reconcile_on(triggers)
        .graceful_shutdown_on(over)
        .run(move |object, ctx| measured(reconcile.clone(), object, ctx), pause::<K>, ctx.clone())
        // What is reconciled is logged where it happens; an object that is gone needs nothing.
        .for_each(|_| futures::future::ready(()))
        .await;
}

async fn measured<K, F>(
    reconcile: impl Fn(Arc<K>, Arc<Context>) -> F,
    object: Arc<K>,
    ctx: Arc<Context>,
) -> Result<Action>
where
    K: Resource<DynamicType = ()>,
    F: Future<Output = Result<Action>>,
{
    let started = Instant::now();
    let key = key(&*object);
    let ended = reconcile(object, ctx.clone()).await;
    let outcome = if ended.is_ok() { Outcome::Ok } else { Outcome::Error };
    ctx.metrics.reconciled(kind::<K>(), outcome, started.elapsed());
    match &ended {
        Ok(_) => ctx.failures.succeeded(&key),
        Err(error) => tracing::warn!(%key, error = %error.chain(), "reconcile failed"),
    }
    ended
}

/// How long to wait after a failure.
#[expect(clippy::needless_pass_by_value, reason = "the controller hands over values")]
fn pause<K: Resource<DynamicType = ()>>(object: Arc<K>, _: &Error, ctx: Arc<Context>) -> Action {
    Action::requeue(ctx.failures.failed(&key(&*object)))
}

fn key<K: Resource<DynamicType = ()>>(object: &K) -> String {
    format!("{} {}/{}", kind::<K>(), object.namespace().unwrap_or_default(), object.name_any())
}

fn kind<K: Resource<DynamicType = ()>>() -> &'static str {
    match K::kind(&()) {
        std::borrow::Cow::Borrowed(kind) => kind,
        std::borrow::Cow::Owned(_) => "other",
    }
}

/// Nothing more to do, or a look later where no watch would tell.
fn look_again<K: Resource<DynamicType = ()>>(ctx: &Context, object: &K, may_pass: bool) -> Action {
    if may_pass { Action::requeue(ctx.failures.spread(&key(object), LOOK_AGAIN)) } else { Action::await_change() }
}
