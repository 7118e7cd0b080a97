//! The finalizer `kubeop.io/cleanup`: set before anything is made, removed when everything is gone.
//!
//! Invariant: each write carries the version it was decided on, so that it never brings back or drops somebody else's finalizer.

use crate::context::Context;
use kube::api::{Patch, PatchParams};
use kube::{Api, Resource, ResourceExt};
use kubeop_cluster::error::{Doing, is_gone};
use kubeop_core::Result;
use kubeop_crds::labels::FINALIZER;
use serde::de::DeserializeOwned;
use serde_json::json;
use std::fmt::Debug;

/// Whether the resource carries ours.
pub(crate) fn is_set<K: Resource>(object: &K) -> bool {
    object.meta().finalizers.iter().flatten().any(|finalizer| finalizer == FINALIZER)
}

/// Sets it, if need be.
pub(crate) async fn set<K>(ctx: &Context, api: &Api<K>, object: &K) -> Result<()>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    if is_set(object) {
        return Ok(());
    }
    let mut all = object.finalizers().to_vec();
    all.push(FINALIZER.to_owned());
    write(ctx, api, object, &all).await
}

/// Removes it, if need be; the resource may be gone afterwards.
pub(crate) async fn remove<K>(ctx: &Context, api: &Api<K>, object: &K) -> Result<()>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    if !is_set(object) {
        return Ok(());
    }
    let rest: Vec<String> = object.finalizers().iter().filter(|finalizer| *finalizer != FINALIZER).cloned().collect();
    write(ctx, api, object, &rest).await
}

async fn write<K>(ctx: &Context, api: &Api<K>, object: &K, all: &[String]) -> Result<()>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    let patch = json!({ "metadata": { "uid": object.uid(), "resourceVersion": object.resource_version(), "finalizers": all } });
    ctx.metrics.wrote("Finalizer", "patch");
    match api.patch(&object.name_any(), &PatchParams::default(), &Patch::Merge(&patch)).await {
        Ok(_) => Ok(()),
        Err(error) if is_gone(&error) => Ok(()),
        Err(error) => Err(error).doing(format_args!("writing the finalizer of {} {}", K::kind(&()), object.name_any())),
    }
}
