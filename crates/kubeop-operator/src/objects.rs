//! Making an object be as it is wanted: claimed by POST, changed by server-side apply, removed by uid.
//!
//! Invariant: what exists and does not carry the owner's uid is never written; every later write and delete carries the live uid, so that it
//! meets the object that was judged (docs/adr/0004-name-as-claim.md).

use crate::context::Context;
use crate::failure::Blocked;
use crate::ledger::Tracked;
use k8s_openapi::ClusterResourceScope;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{LimitRange, Namespace, ResourceQuota, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::{Ingress, NetworkPolicy};
use k8s_openapi::api::rbac::v1::RoleBinding;
use kube::api::{DeleteParams, ObjectMeta, Patch, PatchParams, PostParams, Preconditions};
use kube::core::Status;
use kube::{Api, Client, ResourceExt};
use kubeop_cluster::error::{Doing, is_conflict, is_gone};
use kubeop_core::{Error, Result};
use kubeop_crds::conditions::reason;
use kubeop_crds::{Certificate, DnsRecord, labels};
use kubeop_plan::identity::OwnedBy;
use kubeop_plan::{Applied, Object, Prepared, Refusal};
use serde::de::DeserializeOwned;
use serde_json::json;
use std::fmt::Debug;
use std::time::Duration;

/// A kind the operator makes: where the API server serves it.
pub(crate) trait Served: Tracked + Clone + Debug + DeserializeOwned {
    /// Its API, in the namespace if it has one.
    fn api(client: &Client, namespace: Option<&str>) -> Api<Self>;

    /// Who owns it, where that is told otherwise than by the annotation.
    fn is_owned(&self, owner: &OwnedBy) -> bool {
        owner.owns(self.meta())
    }

    /// A sentence about a name that is somebody else's.
    fn not_ours(&self) -> Refusal {
        Refusal::new(
            reason::NOT_OURS,
            format!("{} exists and is not ours; it is left alone", describe::<Self>(self.meta())),
        )
    }
}

macro_rules! namespaced {
    ($($kind:ty),* $(,)?) => {
        $(impl Served for $kind {
            fn api(client: &Client, namespace: Option<&str>) -> Api<Self> {
                Api::namespaced(client.clone(), namespace.unwrap_or_default())
            }
        })*
    };
}

namespaced!(ResourceQuota, LimitRange, NetworkPolicy, RoleBinding, ServiceAccount, Deployment, Service, Ingress);

fn cluster_scoped<K: Tracked<Scope = ClusterResourceScope>>(client: &Client) -> Api<K> {
    Api::all(client.clone())
}

impl Served for Namespace {
    fn api(client: &Client, _: Option<&str>) -> Api<Self> {
        cluster_scoped(client)
    }
}

impl Served for DnsRecord {
    fn api(client: &Client, _: Option<&str>) -> Api<Self> {
        cluster_scoped(client)
    }

    fn is_owned(&self, owner: &OwnedBy) -> bool {
        self.spec.owner.app_uid == owner.uid
    }

    fn not_ours(&self) -> Refusal {
        let message = format!("host {} is held by another app", self.spec.host);
        Refusal::new(reason::HOST_TAKEN, message)
    }
}

impl Served for Certificate {
    fn api(client: &Client, _: Option<&str>) -> Api<Self> {
        cluster_scoped(client)
    }

    fn is_owned(&self, owner: &OwnedBy) -> bool {
        self.spec.owner.app_uid == owner.uid
    }
}

/// How often a write is tried again while the API server's caches catch up with what we just made (namespace, our rights in it): 10 ms, doubling.
const CATCH_UP: u32 = 8;

/// Makes `object` be as wanted for `owner`.
pub(crate) async fn ensure<K: Served>(
    ctx: &Context,
    owner: &OwnedBy,
    object: Object<Prepared, K>,
) -> std::result::Result<Object<Applied, K>, Blocked> {
    let meta = object.wanted().meta();
    let digest = ctx.ledger.digest(object.wanted());
    if let Some(uid) = ctx.ledger.stands::<K>(meta, digest) {
        // The API server answered to exactly this, and no watch has shown anything else since.
        let mut live = object.wanted().clone();
        live.meta_mut().uid = Some(uid);
        return Ok(object.applied(live));
    }
    let api = K::api(&ctx.client, meta.namespace.as_deref());
    let young = !ctx.ledger.knows::<K>(meta);
    let name = object.wanted().name_any();
    let what = || describe::<K>(object.wanted().meta());
    let mut pause = Duration::from_millis(10);
    for try_ in 0.. {
        // What nobody has ever seen most likely is not there; else it is read first.
        let found = if young && try_ == 0 {
            None
        } else {
            api.get_opt(&name).await.doing(format_args!("reading {}", what()))?
        };
        let written = match found {
            None => create(ctx, &api, object.wanted()).await,
            Some(live) => {
                judge(&live, owner)?;
                change(ctx, &api, object.wanted(), &live).await
            }
        };
        match written {
            Ok(live) => {
                ctx.ledger.applied(digest, &live);
                return Ok(object.applied(live));
            }
            Err(error) if try_ < CATCH_UP && may_catch_up(&error) => {
                if !is_conflict(&error) {
                    tokio::time::sleep(pause).await;
                    pause *= 2;
                }
            }
            Err(error) => return Err(blocked(error, &what())),
        }
    }
    Err(Blocked::Failed(Error::unavailable(format!("{} keeps changing", what()))))
}

/// Whether a live object may be written for `owner`.
fn judge<K: Served>(live: &K, owner: &OwnedBy) -> std::result::Result<(), Blocked> {
    if !live.is_owned(owner) {
        return Err(live.not_ours().into());
    }
    if live.meta().deletion_timestamp.is_some() {
        return Err(Refusal::new(
            reason::DELETING,
            format!("{} is being deleted; it is made again when it is gone", describe::<K>(live.meta())),
        )
        .into());
    }
    Ok(())
}

async fn create<K: Served>(ctx: &Context, api: &Api<K>, wanted: &K) -> std::result::Result<K, kube::Error> {
    ctx.metrics.wrote(K::KIND, "create");
    let made = api
        .create(&PostParams { field_manager: Some(labels::OPERATOR.to_owned()), ..PostParams::default() }, wanted)
        .await?;
    if K::KIND == Namespace::KIND {
        // Of its predecessor nothing is left, whatever the watches have not told yet.
        ctx.ledger.forget_namespace(&made.name_any());
    }
    Ok(made)
}

async fn change<K: Served>(ctx: &Context, api: &Api<K>, wanted: &K, live: &K) -> std::result::Result<K, kube::Error> {
    let name = wanted.name_any();
    adopt_created_fields(api, live).await?;
    let mut wanted = wanted.clone();
    wanted.meta_mut().uid = live.uid();
    ctx.metrics.wrote(K::KIND, "apply");
    api.patch(&name, &PatchParams::apply(labels::OPERATOR).force(), &Patch::Apply(&wanted)).await
}

/// What we created belongs, for server-side apply, to another manager of our name ("Update" instead of "Apply"), so an apply would never remove a
/// field we no longer want. The entry is handed over once, as client-go's `csaupgrade` does.
async fn adopt_created_fields<K: Served>(api: &Api<K>, live: &K) -> std::result::Result<(), kube::Error> {
    let mut ours = live
        .managed_fields()
        .iter()
        .enumerate()
        .filter(|(_, entry)| entry.manager.as_deref() == Some(labels::OPERATOR));
    let (Some((at, entry)), None) = (ours.next(), ours.next()) else { return Ok(()) };
    if entry.operation.as_deref() != Some("Update") || entry.subresource.as_deref().is_some_and(|sub| !sub.is_empty()) {
        return Ok(());
    }
    let mut entries = live.managed_fields().to_vec();
    if let Some(entry) = entries.get_mut(at) {
        entry.operation = Some("Apply".to_owned());
    }
    let patch = json!({ "metadata": { "resourceVersion": live.resource_version(), "managedFields": entries } });
    api.patch(&live.name_any(), &PatchParams::default(), &Patch::Merge(patch)).await.map(drop)
}

/// Whether a refusal may be the API server's caches being a moment behind: a name that appeared meanwhile, a namespace or our own rights in it that
/// were made just now.
fn may_catch_up(error: &kube::Error) -> bool {
    match error {
        kube::Error::Api(status) => match status.code {
            409 | 404 => true,
            403 => !terminating(status) && status.message.contains(" cannot "),
            _ => false,
        },
        _ => false,
    }
}

fn terminating(status: &Status) -> bool {
    status
        .details
        .as_ref()
        .is_some_and(|details| details.causes.iter().any(|cause| cause.reason == "NamespaceTerminating"))
}

/// A failed write as condition or failure.
pub(crate) fn blocked(error: kube::Error, what: &str) -> Blocked {
    if let kube::Error::Api(status) = &error {
        if terminating(status) {
            return Refusal::new(reason::DELETING, format!("the namespace of {what} is being deleted")).into();
        }
        if matches!(status.code, 400 | 403 | 422) {
            return Refusal::new(reason::REFUSED, format!("{what}: {}", status.message)).into();
        }
    }
    Blocked::Failed(kubeop_cluster::error::from_kube(error, format_args!("writing {what}")))
}

/// Removes an object of `owner` by its uid; whether it is gone (or was never ours).
pub(crate) async fn remove<K: Served>(
    ctx: &Context,
    owner: &OwnedBy,
    namespace: Option<&str>,
    name: &str,
) -> Result<bool> {
    let api = K::api(&ctx.client, namespace);
    let what = || format!("{} {name}", K::KIND);
    let Some(live) = api.get_opt(name).await.doing(format_args!("reading {}", what()))? else { return Ok(true) };
    if !live.is_owned(owner) {
        return Ok(true);
    }
    if live.meta().deletion_timestamp.is_some() {
        return Ok(false);
    }
    ctx.metrics.wrote(K::KIND, "delete");
    match api.delete(name, &by_uid(live.meta())).await {
        Ok(answer) => Ok(answer.right().is_some()),
        Err(error) if is_gone(&error) || is_conflict(&error) => Ok(true),
        Err(error) => Err(error).doing(format_args!("removing {}", what())),
    }
}

/// Deletes only the very object that was read; what it owns goes with it, in the background.
pub(crate) fn by_uid(meta: &ObjectMeta) -> DeleteParams {
    DeleteParams {
        preconditions: Some(Preconditions { uid: meta.uid.clone(), resource_version: None }),
        ..DeleteParams::background()
    }
}

fn describe<K: Tracked>(meta: &ObjectMeta) -> String {
    let name = meta.name.as_deref().unwrap_or_default();
    match &meta.namespace {
        Some(namespace) => format!("{} {namespace}/{name}", K::KIND),
        None => format!("{} {name}", K::KIND),
    }
}
