//! Taking an installation away again.
//!
//! Invariant: exactly what was installed goes, the last step first; definitions stay while a resource of theirs is there, and a namespace while it
//! holds anything that is not kubeOP's; a cluster whose operator or admission is Helm's keeps all that these live on.

use crate::bootstrap::{CRD, NAMESPACE, api, describe, kind, managed_by};
use crate::contents::{any, holds_others, ours};
use crate::error::{Doing, is_conflict, is_gone};
use crate::{cluster_dns, hpa};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, Preconditions};
use kube::core::{ApiResource, DynamicObject, GroupVersionKind};
use kube::{Api, Client, ResourceExt};
use kubeop_core::Result;
use kubeop_core::name::{ACCESS_NAMESPACE, SYSTEM_NAMESPACE};
use kubeop_crds::labels;
use kubeop_plan::install::{Item, names};
use serde_json::json;

/// Removes the items in reverse order, and tells what stays because others use it: `Kind name`.
///
/// # Errors
/// What the API server refused; a second run goes on where this one ended.
pub async fn uninstall(client: &Client, items: &[Item]) -> Result<Vec<String>> {
    hpa::autoscale(client, None).await?;
    if let Some(deployment) = of_helm(client, items).await? {
        tracing::info!(
            deployment,
            "Helm runs kubeOP in this cluster: what was installed stays, and goes with its release"
        );
        made(client, ACCESS_NAMESPACE).await?;
        unmark(client, SYSTEM_NAMESPACE, None).await?;
        unmark(client, ACCESS_NAMESPACE, None).await?;
        return Ok(vec![format!("what belongs to the Helm release of {deployment}")]);
    }
    let (mut stays, mut going) = (Vec::new(), Vec::new());
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
        if kind.kind == NAMESPACE {
            going.push((object.name_any(), live.uid()));
        }
    }
    former(client).await?;
    // Now that the operator has no right to it any more.
    cluster_dns::withdraw(client).await?;
    // Namespaces take a while to go; the cluster is nobody's from now on.
    for (namespace, uid) in going {
        unmark(client, &namespace, uid.as_deref()).await?;
    }
    Ok(stays)
}

/// Removes rights and guards that an earlier version installed and this one knows nothing of: what carries our labels by our own hand, no copies.
async fn former(client: &Client) -> Result<()> {
    let ours = format!("{}={},{}={}", labels::MANAGED_BY, labels::INSTALLER, labels::PART_OF, labels::PART_OF_KUBEOP);
    let ours = ListParams::default().labels(&ours);
    for (group, kind) in [
        ("rbac.authorization.k8s.io", "ClusterRoleBinding"),
        ("rbac.authorization.k8s.io", "ClusterRole"),
        ("admissionregistration.k8s.io", "ValidatingAdmissionPolicyBinding"),
        ("admissionregistration.k8s.io", "ValidatingAdmissionPolicy"),
    ] {
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, "v1", kind));
        let all: Api<DynamicObject> = Api::all_with(client.clone(), &resource);
        let what = format!("looking for what is left of kind {kind}");
        for left in all.list_metadata(&ours).await.doing(what)? {
            if !left.managed_fields().iter().any(|entry| entry.manager.as_deref() == Some(labels::INSTALLER)) {
                continue;
            }
            let params = DeleteParams {
                preconditions: Some(Preconditions { uid: left.uid(), resource_version: None }),
                ..DeleteParams::background()
            };
            match all.delete(&left.name_any(), &params).await {
                Err(error) if is_gone(&error) => {}
                other => drop(other.doing(format_args!("removing {kind} {}", left.name_any()))?),
            }
        }
    }
    Ok(())
}

/// A Deployment of ours that Helm manages. Whatever is taken from under it, from policy to certificate, makes a webhook that stays deny everything.
async fn of_helm(client: &Client, items: &[Item]) -> Result<Option<String>> {
    for item in items {
        let (kind, object) = (kind(&item.object)?, &item.object);
        if kind.kind != "Deployment" {
            continue;
        }
        let what = describe(&kind, object);
        let live =
            api(client, &kind, object).get_opt(&object.name_any()).await.doing(format_args!("reading {what}"))?;
        if live.is_some_and(|live| managed_by(&live) == Some(labels::HELM)) {
            return Ok(Some(what));
        }
    }
    Ok(None)
}

/// Removes from a namespace that stays what our processes made there, and the mark that says whose the cluster is.
async fn empty(client: &Client, namespace: &str) -> Result<()> {
    made(client, namespace).await?;
    let leases: Api<Lease> = Api::namespaced(client.clone(), namespace);
    match leases.delete(names::OPERATOR_LEASE, &DeleteParams::default()).await {
        Err(error) if is_gone(&error) => {}
        other => drop(other.doing("removing the operator's lease")?),
    }
    unmark(client, namespace, None).await
}

/// Removes Secrets and accounts that our processes made: with them, access that was given out ends.
async fn made(client: &Client, namespace: &str) -> Result<()> {
    let ours = ListParams::default().labels(&format!("{} in ({})", labels::MANAGED_BY, ours()));
    for kind in ["Secret", "ServiceAccount"] {
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("", "v1", kind));
        let made: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, &resource);
        made.delete_collection(&DeleteParams::background(), &ours).await.doing("removing what kubeOP made")?;
    }
    Ok(())
}

/// Removes the mark; with a uid, only from that namespace, and not from one of the same name that somebody made since.
async fn unmark(client: &Client, namespace: &str, uid: Option<&str>) -> Result<()> {
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let mark = json!({ labels::INSTANCE: null });
    let patch = match uid {
        Some(uid) => json!({ "metadata": { "uid": uid, "annotations": mark } }),
        None => json!({ "metadata": { "annotations": mark } }),
    };
    match namespaces.patch(namespace, &PatchParams::default(), &Patch::Merge(&patch)).await {
        Err(error) if is_gone(&error) || (uid.is_some() && is_conflict(&error)) => Ok(()),
        other => other.doing(format_args!("unmarking namespace {namespace}")).map(drop),
    }
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
