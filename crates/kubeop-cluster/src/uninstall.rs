//! Taking an installation away again.
//!
//! Invariant: exactly what was installed goes, the last step first; definitions stay while a resource of theirs is there, and a namespace while it
//! holds anything that is not kubeOP's.

use crate::bootstrap::{CRD, NAMESPACE, api, describe, kind, managed_by};
use crate::error::{Doing, is_gone};
use crate::{cluster_dns, hpa};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, Preconditions};
use kube::core::{ApiResource, DynamicObject, GroupVersionKind, PartialObjectMeta};
use kube::{Api, Client, ResourceExt};
use kubeop_core::Result;
use kubeop_crds::labels;
use kubeop_plan::install::{Item, names};

/// What may be somebody else's in our namespaces.
const CONTENTS: [(&str, &str); 13] = [
    ("", "Pod"),
    ("", "Service"),
    ("", "ConfigMap"),
    ("", "Secret"),
    ("", "ServiceAccount"),
    ("", "PersistentVolumeClaim"),
    ("apps", "Deployment"),
    ("apps", "StatefulSet"),
    ("apps", "DaemonSet"),
    ("batch", "Job"),
    ("batch", "CronJob"),
    ("networking.k8s.io", "Ingress"),
    ("rbac.authorization.k8s.io", "RoleBinding"),
];

/// Removes the items in reverse order, and tells what stays because others use it: `Kind name`.
///
/// # Errors
/// What the API server refused; a second run goes on where this one ended.
pub async fn uninstall(client: &Client, items: &[Item]) -> Result<Vec<String>> {
    hpa::autoscale(client, None).await?;
    let mut stays = Vec::new();
    for item in items.iter().rev() {
        let (kind, object) = (kind(&item.object)?, &item.object);
        let what = describe(&kind, object);
        let Some(live) =
            api(client, &kind, object).get_opt(&object.name_any()).await.doing(format_args!("reading {what}"))?
        else {
            continue;
        };
        let ours = matches!(managed_by(&live), Some(labels::INSTALLER | labels::MANAGER));
        let used = match kind.kind.as_str() {
            CRD => ours && is_used(client, &object.name_any()).await?,
            NAMESPACE => !ours || holds_others(client, &object.name_any()).await?,
            _ => false,
        };
        if used && kind.kind == NAMESPACE {
            empty(client, &object.name_any()).await?;
        }
        if used || !ours {
            stays.extend(used.then_some(what));
            continue;
        }
        let params = DeleteParams {
            preconditions: Some(Preconditions { uid: live.uid(), resource_version: None }),
            ..DeleteParams::background()
        };
        match api(client, &kind, object).delete(&object.name_any(), &params).await {
            Err(error) if is_gone(&error) => {}
            other => drop(other.doing(format_args!("removing {what}"))?),
        }
    }
    // Now that the operator has no right to it any more.
    cluster_dns::withdraw(client).await?;
    Ok(stays)
}

/// Removes from a namespace that stays what our processes made there, and the mark that says whose the cluster is.
async fn empty(client: &Client, namespace: &str) -> Result<()> {
    let ours = ListParams::default().labels(&format!("{} in ({})", labels::MANAGED_BY, ours()));
    for kind in ["Secret", "ServiceAccount"] {
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("", "v1", kind));
        let made: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, &resource);
        made.delete_collection(&DeleteParams::background(), &ours).await.doing("removing what kubeOP made")?;
    }
    let leases: Api<Lease> = Api::namespaced(client.clone(), namespace);
    match leases.delete(names::OPERATOR_LEASE, &DeleteParams::default()).await {
        Err(error) if is_gone(&error) => {}
        other => drop(other.doing("removing the operator's lease")?),
    }
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let patch = serde_json::json!({ "metadata": { "annotations": { labels::INSTANCE: null } } });
    match namespaces.patch(namespace, &PatchParams::default(), &Patch::Merge(&patch)).await {
        Err(error) if is_gone(&error) => Ok(()),
        other => other.doing(format_args!("unmarking namespace {namespace}")).map(drop),
    }
}

fn ours() -> String {
    [labels::INSTALLER, labels::MANAGER, labels::OPERATOR].join(",")
}

/// Whether a resource of the definition is there.
async fn is_used(client: &Client, definition: &str) -> Result<bool> {
    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    let what = format!("looking for resources of {definition}");
    let Some(found) = definitions.get_opt(definition).await.doing(&what)? else { return Ok(false) };
    let Some(served) = found.spec.versions.iter().find(|version| version.served) else { return Ok(false) };
    let resource = ApiResource {
        group: found.spec.group.clone(),
        version: served.name.clone(),
        api_version: format!("{}/{}", found.spec.group, served.name),
        kind: found.spec.names.kind.clone(),
        plural: found.spec.names.plural.clone(),
    };
    any(&Api::all_with(client.clone(), &resource), &ListParams::default(), |_| true).await
}

/// Whether the namespace holds what neither kubeOP nor Kubernetes itself put there.
async fn holds_others(client: &Client, namespace: &str) -> Result<bool> {
    let others = ListParams::default().labels(&format!("{} notin ({})", labels::MANAGED_BY, ours()));
    for (group, kind) in CONTENTS {
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, "v1", kind));
        let contents: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, &resource);
        let foreign = |object: &PartialObjectMeta<DynamicObject>| {
            let built_in = matches!(
                (kind, object.name_any().as_str()),
                ("ConfigMap", "kube-root-ca.crt") | ("ServiceAccount", "default")
            );
            // What has an owner goes with it.
            !built_in && object.owner_references().is_empty()
        };
        if any(&contents, &others, foreign).await? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether one of what is listed is so; page by page.
async fn any(
    api: &Api<DynamicObject>,
    params: &ListParams,
    so: impl Fn(&PartialObjectMeta<DynamicObject>) -> bool,
) -> Result<bool> {
    let mut page = params.clone().limit(200);
    loop {
        let list = api.list_metadata(&page).await.doing("looking for what others use")?;
        if list.items.iter().any(&so) {
            return Ok(true);
        }
        match list.metadata.continue_ {
            Some(token) if !token.is_empty() => page = page.continue_token(&token),
            _ => return Ok(false),
        }
    }
}
