//! Writing the status of a resource, and telling its turns as Events.
//!
//! Invariant: nothing is written when nothing changed; the write carries the uid, so that a namesake never gets it.

use crate::context::Context;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::api::{Patch, PatchParams};
use kube::{Api, Resource, ResourceExt};
use kubeop_cluster::error::{Doing, is_gone};
use kubeop_core::Result;
use kubeop_crds::conditions::{READY, find, reason};
use kubeop_crds::labels;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use std::fmt::Debug;

/// A status with conditions.
pub(crate) trait Conditioned: Serialize + PartialEq + Sync {
    /// Its conditions.
    fn conditions(&self) -> &[Condition];
}

macro_rules! conditioned {
    ($($status:ty),*) => { $(impl Conditioned for $status { fn conditions(&self) -> &[Condition] { &self.conditions } })* };
}
conditioned!(
    kubeop_crds::TenantStatus,
    kubeop_crds::ProjectStatus,
    kubeop_crds::AppStatus,
    kubeop_crds::DnsRecordStatus,
    kubeop_crds::CertificateStatus
);

/// Writes `after` where it differs from `before`.
pub(crate) async fn write<K, S>(ctx: &Context, api: &Api<K>, object: &K, before: Option<&S>, after: &S) -> Result<()>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
    S: Conditioned,
{
    if before == Some(after) {
        return Ok(());
    }
    let patch = json!({
        "apiVersion": K::api_version(&()),
        "kind": K::kind(&()),
        "metadata": { "name": object.name_any(), "uid": object.uid() },
        "status": after,
    });
    ctx.metrics.wrote("Status", "apply");
    match api
        .patch_status(&object.name_any(), &PatchParams::apply(labels::OPERATOR).force(), &Patch::Apply(&patch))
        .await
    {
        Ok(_) => {}
        Err(error) if is_gone(&error) => return Ok(()),
        Err(error) => {
            return Err(error).doing(format_args!("writing the status of {} {}", K::kind(&()), object.name_any()));
        }
    }
    tell(ctx, object, before.map_or(&[], Conditioned::conditions), after.conditions());
    Ok(())
}

/// An Event where `Ready` turned or has another reason.
fn tell<K: Resource<DynamicType = ()>>(ctx: &Context, object: &K, before: &[Condition], after: &[Condition]) {
    let Some(ready) = find(after, READY) else { return };
    let turned = find(before, READY).is_none_or(|old| (&old.status, &old.reason) != (&ready.status, &ready.reason));
    // Steps on the way that take milliseconds are no news.
    let passing = [reason::RECONCILING, reason::WAITING_FOR_QUOTA, reason::WAITING_FOR_NAMESPACE];
    if !turned || passing.contains(&ready.reason.as_str()) {
        return;
    }
    let calm = [
        reason::DELETING,
        reason::SUSPENDED,
        reason::ROLLING_OUT,
        reason::WAITING_FOR_PROJECT,
        reason::NO_PROVIDER,
        reason::TARGET_NOT_FOUND,
    ];
    let good = ready.status == "True" || calm.contains(&ready.reason.as_str());
    let note = if ready.message.is_empty() { format!("{} is ready", K::kind(&())) } else { ready.message.clone() };
    ctx.events.tell(object.object_ref(&()), good, "Reconcile", &ready.reason, &note);
}
