//! Deleting a project, in reverse: people's access, then what is in the namespace with the namespace, then the name.
//!
//! Invariant: only the namespace that carries this Project's uid is deleted, by its own uid; the finalizer goes when it is gone, and so does every
//! ServiceAccount and Secret of the project in `kubeop-access`.

use super::report;
use crate::context::Context;
use crate::finalizer;
use crate::objects::by_uid;
use futures::future::try_join_all;
use k8s_openapi::api::core::v1::{Namespace, Secret, ServiceAccount};
use k8s_openapi::api::rbac::v1::RoleBinding;
use kube::api::ListParams;
use kube::runtime::controller::Action;
use kube::{Api, Resource, ResourceExt};
use kubeop_cluster::error::{Doing, is_conflict, is_forbidden, is_gone};
use kubeop_core::Result;
use kubeop_core::name::ACCESS_NAMESPACE;
use kubeop_crds::{Project, labels};
use kubeop_plan::identity::{OwnedBy, id};
use kubeop_plan::project::Progress;
use kubeop_plan::project::build::OPERATOR_BINDING;
use serde::de::DeserializeOwned;
use std::fmt::Debug;

pub(super) async fn delete(project: &Project, api: &Api<Project>, ctx: &Context) -> Result<Action> {
    if !finalizer::is_set(project) {
        return Ok(Action::await_change());
    }
    let Ok(owner) = OwnedBy::of(&project.metadata) else { return Ok(Action::await_change()) };
    remove_accounts(project, ctx).await?;
    if let Some(namespace) = own_namespace(project, &owner, ctx).await? {
        if namespace.metadata.deletion_timestamp.is_none() {
            remove_bindings(&project.spec.namespace, ctx).await?;
            remove_namespace(&namespace, ctx).await?;
        }
        let apps = ctx.stores.apps_in(&project.spec.namespace).len();
        let message = if apps == 0 {
            format!("namespace {} is being removed", project.spec.namespace)
        } else {
            format!("namespace {} is being removed with {apps} apps", project.spec.namespace)
        };
        return report(project, api, ctx, None, None, &Progress::Deleting(message)).await;
    }
    // Once more: a kubeconfig that was being issued while the first sweep ran.
    remove_accounts(project, ctx).await?;
    finalizer::remove(ctx, api, project).await?;
    Ok(Action::await_change())
}

/// The namespace, read live: it is ours if it carries the Project's uid.
async fn own_namespace(project: &Project, owner: &OwnedBy, ctx: &Context) -> Result<Option<Namespace>> {
    let namespaces: Api<Namespace> = Api::all(ctx.client.clone());
    let name = &project.spec.namespace;
    let live = namespaces.get_opt(name).await.doing(format_args!("reading namespace {name}"))?;
    Ok(live.filter(|namespace| owner.owns(&namespace.metadata)))
}

/// The accounts behind the project's kubeconfigs and the Secrets their tokens are bound to: whoever holds one is locked out.
async fn remove_accounts(project: &Project, ctx: &Context) -> Result<()> {
    let Ok(id) = id(project, labels::PROJECT_ID) else { return Ok(()) };
    let of_project = format!("{}={id}", labels::PROJECT_ID);
    let accounts: Api<ServiceAccount> = Api::namespaced(ctx.client.clone(), ACCESS_NAMESPACE);
    let secrets: Api<Secret> = Api::namespaced(ctx.client.clone(), ACCESS_NAMESPACE);
    futures::try_join!(sweep(accounts, &of_project, ctx), sweep(secrets, &of_project, ctx)).map(drop)
}

/// Everybody's bindings in the namespace but the operator's own, which goes with the namespace.
async fn remove_bindings(namespace: &str, ctx: &Context) -> Result<()> {
    let bindings: Api<RoleBinding> = Api::namespaced(ctx.client.clone(), namespace);
    let all = bindings
        .list_metadata(&ListParams::default())
        .await
        .doing(format_args!("listing RoleBindings of {namespace}"))?;
    let others = all.items.iter().filter(|binding| binding.name_any() != OPERATOR_BINDING);
    let removals = others.map(|binding| remove(&bindings, binding.meta(), ctx));
    try_join_all(removals).await.map(drop)
}

async fn remove_namespace(namespace: &Namespace, ctx: &Context) -> Result<()> {
    let namespaces: Api<Namespace> = Api::all(ctx.client.clone());
    remove(&namespaces, namespace.meta(), ctx).await
}

async fn sweep<K>(api: Api<K>, selector: &str, ctx: &Context) -> Result<()>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    let found = api
        .list_metadata(&ListParams::default().labels(selector))
        .await
        .doing(format_args!("listing {}s", K::kind(&())))?;
    try_join_all(found.items.iter().map(|object| remove(&api, object.meta(), ctx))).await.map(drop)
}

async fn remove<K>(api: &Api<K>, meta: &kube::api::ObjectMeta, ctx: &Context) -> Result<()>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    let name = meta.name.clone().unwrap_or_default();
    ctx.metrics.wrote("Object", "delete");
    match api.delete(&name, &by_uid(meta)).await {
        Err(error) if is_gone(&error) || is_conflict(&error) => Ok(()),
        Err(error) if is_forbidden(&error) => Err(error).doing(format_args!("removing {} {name}", K::kind(&()))),
        other => other.doing(format_args!("removing {} {name}", K::kind(&()))).map(drop),
    }
}
