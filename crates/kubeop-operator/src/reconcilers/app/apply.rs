//! Making an App's objects, in order, and removing what it no longer wants.
//!
//! Invariant: a host that another App holds stops everything after it; the Ingress comes last and goes first.

use crate::context::Context;
use crate::failure::Blocked;
use crate::ledger::Tracked;
use crate::objects::{Served, ensure, remove};
use futures::future::try_join_all;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::networking::v1::Ingress;
use kube::ResourceExt;
use kube::runtime::reflector::ObjectRef;
use kubeop_crds::{Certificate, DnsRecord, labels};
use kubeop_plan::app::{Resources, ValidApp};
use kubeop_plan::identity::OwnedBy;
use kubeop_plan::{Applied, Object, Prepared};
use std::collections::BTreeMap;

pub(super) async fn apply(
    ctx: &Context,
    app: &ValidApp,
    wanted: Resources<Prepared>,
) -> Result<Resources<Applied>, Blocked> {
    let owner = &app.owner;
    let dns_records = try_join_all(wanted.dns_records.into_iter().map(|record| ensure(ctx, owner, record))).await?;
    let certificate = optional(ctx, owner, wanted.certificate).await?;
    let deployment = Box::pin(ensure(ctx, owner, wanted.deployment)).await?;
    let deployment = as_watched(ctx, deployment);
    let service = optional(ctx, owner, wanted.service).await?;
    let ingress = optional(ctx, owner, wanted.ingress).await?;
    let applied = Resources { dns_records, certificate, deployment, service, ingress };
    prune(ctx, app, &applied).await?;
    Ok(applied)
}

async fn optional<K: Served>(
    ctx: &Context,
    owner: &OwnedBy,
    object: Option<Object<Prepared, K>>,
) -> Result<Option<Object<Applied, K>>, Blocked> {
    match object {
        Some(object) => Ok(Some(ensure(ctx, owner, object).await?)),
        None => Ok(None),
    }
}

/// The Deployment with the status that the watch shows, if the watch has reached what we applied.
fn as_watched(ctx: &Context, applied: Object<Applied, Deployment>) -> Object<Applied, Deployment> {
    let meta = &applied.live().metadata;
    let key =
        ObjectRef::new(meta.name.as_deref().unwrap_or_default()).within(meta.namespace.as_deref().unwrap_or_default());
    match ctx.stores.deployments.get(&key) {
        // A spared apply has no generation: then the watch shows what was applied.
        Some(live) if live.metadata.generation >= meta.generation => {
            Object::new(applied.live().clone()).applied(Deployment::clone(&live))
        }
        _ => applied,
    }
}

/// Removes what is ours and no longer wanted: the Ingress first, the claims of hosts last.
async fn prune(ctx: &Context, app: &ValidApp, kept: &Resources<Applied>) -> Result<(), Blocked> {
    let (owner, namespace) = (&app.owner, app.namespace.as_str());
    if kept.ingress.is_none() {
        drop_if_known::<Ingress>(ctx, owner, namespace, app.name.as_str()).await?;
    }
    if kept.service.is_none()
        && let Ok(name) = kubeop_plan::app::ports::service_name(&app.name)
    {
        drop_if_known::<Service>(ctx, owner, namespace, &name).await?;
    }
    for name in certificates_of(ctx, &owner.uid) {
        if kept.certificate.as_ref().is_none_or(|kept| kept.live().name_any() != name) {
            remove::<Certificate>(ctx, owner, None, &name).await?;
        }
    }
    for host in hosts_held(ctx, &owner.uid) {
        if kept.dns_records.iter().all(|record| record.live().name_any() != host) {
            remove::<DnsRecord>(ctx, owner, None, &host).await?;
        }
    }
    Ok(())
}

async fn drop_if_known<K: Served + Tracked>(
    ctx: &Context,
    owner: &OwnedBy,
    namespace: &str,
    name: &str,
) -> Result<(), Blocked> {
    if ctx.ledger.names::<K>(Some(namespace)).iter().any(|known| known == name) {
        remove::<K>(ctx, owner, Some(namespace), name).await?;
    }
    Ok(())
}

/// Whether the operator made it: what others made in an App's name is theirs to take away.
fn is_made(marks: &BTreeMap<String, String>) -> bool {
    marks.get(labels::MANAGED_BY).is_some_and(|by| by == labels::OPERATOR)
}

/// The Certificates made for an App, by name.
pub(super) fn certificates_of(ctx: &Context, app_uid: &str) -> Vec<String> {
    let held = ctx.stores.certificates.state_filter(|one| one.spec.owner.app_uid == app_uid && is_made(one.labels()));
    held.iter().map(|certificate| certificate.name_any()).collect()
}

/// The hosts held for an App.
pub(super) fn hosts_held(ctx: &Context, app_uid: &str) -> Vec<String> {
    let held = ctx.stores.records.state_filter(|one| one.spec.owner.app_uid == app_uid && is_made(one.labels()));
    held.iter().map(|record| record.name_any()).collect()
}
