//! The finalizer `kubeop.io/cleanup`: set before anything is made, removed when everything is gone.
//!
//! Invariant: each write carries the version it was decided on, so that it never brings back or drops somebody else's finalizer.

use crate::context::Context;
use kube::api::{Patch, PatchParams};
use kube::{Api, Resource, ResourceExt};
use kubeop_cluster::error::{Doing, is_conflict, is_gone};
use kubeop_core::{Error, Result};
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
    write(ctx, api, object, true).await
}

/// Removes it, if need be; the resource may be gone afterwards.
pub(crate) async fn remove<K>(ctx: &Context, api: &Api<K>, object: &K) -> Result<()>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    write(ctx, api, object, false).await
}

/// How often a version that moved on is read anew.
const TRIES: usize = 5;

async fn write<K>(ctx: &Context, api: &Api<K>, object: &K, wanted: bool) -> Result<()>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    let name = object.name_any();
    let what = || format!("writing the finalizer of {} {name}", K::kind(&()));
    let mut current = object.clone();
    for _ in 0..TRIES {
        if is_set(&current) == wanted {
            return Ok(());
        }
        let mut all: Vec<String> =
            current.finalizers().iter().filter(|finalizer| *finalizer != FINALIZER).cloned().collect();
        if wanted {
            all.push(FINALIZER.to_owned());
        }
        let patch = json!({ "metadata": { "uid": current.uid(), "resourceVersion": current.resource_version(), "finalizers": all } });
        ctx.metrics.wrote("Finalizer", "patch");
        match api.patch(&name, &PatchParams::default(), &Patch::Merge(&patch)).await {
            Ok(_) => return Ok(()),
            Err(error) if is_gone(&error) => return Ok(()),
            Err(error) if is_conflict(&error) => {}
            Err(error) => return Err(error).doing(what()),
        }
        // The store was behind.
        match api.get_opt(&name).await.doing(what())? {
            Some(live) if live.uid() == object.uid() => current = live,
            _ => return Ok(()),
        }
    }
    Err(Error::unavailable(format!("{}: it keeps changing", what())))
}
