//! Setting up a cluster: the objects of the install table, applied in order, again and again if need be.
//!
//! Invariant: idempotent at every step (a run that was cut off is completed by the next, and a newer table upgrades); what the operator owns
//! (`caBundle`, `failurePolicy`) is never reset; nothing of another instance of kubeOP is touched.

use crate::error::{Doing, is_conflict, is_gone};
use k8s_openapi::api::admissionregistration::v1::ValidatingWebhookConfiguration;
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::core::{ApiResource, DynamicObject, GroupVersionKind, TypeMeta};
use kube::runtime::wait::{await_condition, conditions};
use kube::{Api, Client, ResourceExt};
use kubeop_core::id::InstanceId;
use kubeop_core::name::{ACCESS_NAMESPACE, SYSTEM_NAMESPACE};
use kubeop_core::{Error, Result};
use kubeop_crds::labels;
use kubeop_plan::install::{Item, Mode, keep_live, names};
use std::time::Duration;

/// How long a definition may take to be served.
const ESTABLISHED: Duration = Duration::from_secs(30);

const CRD: &str = "CustomResourceDefinition";
const NAMESPACE: &str = "Namespace";
const WEBHOOK: &str = "ValidatingWebhookConfiguration";

/// Refuses a cluster that another instance of kubeOP manages (its mark on namespace `kubeop-system`).
pub async fn foreign_instance(client: &Client, ours: InstanceId) -> Result<()> {
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let Some(system) = namespaces.get_opt(SYSTEM_NAMESPACE).await.doing("reading namespace kubeop-system")? else {
        return Ok(());
    };
    match instance(&system) {
        Some(other) if *other != ours.to_string() => Err(Error::conflict(format!(
            "another kubeOP instance ({other}) manages this cluster: its mark {} is on namespace {SYSTEM_NAMESPACE}",
            labels::INSTANCE
        ))),
        _ => Ok(()),
    }
}

fn instance(object: &impl ResourceExt) -> Option<&String> {
    object.annotations().get(labels::INSTANCE).or_else(|| object.labels().get(labels::INSTANCE))
}

/// What a run did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// How many objects were applied.
    pub applied: usize,
}

/// Applies the items in the order given, waiting for definitions before what comes after them, and marks the cluster as `instance`'s.
pub async fn install(client: &Client, items: &[Item], instance: InstanceId) -> Result<Report> {
    let mut report = Report::default();
    let mut unserved: Vec<String> = Vec::new();
    for item in items {
        let kind = kind(&item.object)?;
        if kind.kind != CRD && !unserved.is_empty() {
            established(client, &std::mem::take(&mut unserved)).await?;
        }
        let mut object = item.object.clone();
        if kind.kind == NAMESPACE {
            object.annotations_mut().insert(labels::INSTANCE.to_owned(), instance.to_string());
        }
        match item.mode {
            Mode::Apply => apply(client, &kind, object).await?,
            Mode::CreateIfMissing => create_if_missing(client, &kind, &object).await?,
        }
        if kind.kind == CRD {
            unserved.push(item.object.name_any());
        }
        report.applied += 1;
    }
    established(client, &unserved).await?;
    Ok(report)
}

/// Removes the items in reverse order, except those that are to be kept (with the definitions every resource of every tenant would go). Only what
/// carries the mark of the installer, or is written by the manager, is removed.
pub async fn uninstall(client: &Client, items: &[Item]) -> Result<()> {
    for item in items.iter().rev().filter(|item| !item.keep) {
        let (kind, object) = (kind(&item.object)?, &item.object);
        let what = describe(&kind, object);
        let api = api(client, &kind, object);
        let Some(live) = api.get_opt(&object.name_any()).await.doing(format_args!("reading {what}"))? else { continue };
        let by = live.labels().get(labels::MANAGED_BY).map(String::as_str);
        if !matches!(by, Some(labels::INSTALLER | labels::MANAGER)) {
            continue;
        }
        let params = DeleteParams {
            preconditions: Some(Preconditions { uid: live.uid(), resource_version: None }),
            ..DeleteParams::default()
        };
        match api.delete(&object.name_any(), &params).await {
            Err(error) if is_gone(&error) => {}
            other => drop(other.doing(format_args!("removing {what}"))?),
        }
    }
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let unmark = serde_json::json!({ "metadata": { "annotations": { labels::INSTANCE: null } } });
    for name in [SYSTEM_NAMESPACE, ACCESS_NAMESPACE] {
        match namespaces.patch(name, &PatchParams::default(), &Patch::Merge(&unmark)).await {
            Err(error) if is_gone(&error) => {}
            other => drop(other.doing(format_args!("unmarking namespace {name}"))?),
        }
    }
    Ok(())
}

/// Removes the webhook configuration, so that nothing that fails closed is left behind when the process that answers it stops (`kubeop dev`).
pub async fn remove_webhook(client: &Client) -> Result<()> {
    let api: Api<ValidatingWebhookConfiguration> = Api::all(client.clone());
    match api.delete(names::WEBHOOK, &DeleteParams::default()).await {
        Err(error) if is_gone(&error) => Ok(()),
        other => other.doing("removing the webhook configuration").map(drop),
    }
}

async fn apply(client: &Client, kind: &TypeMeta, mut object: DynamicObject) -> Result<()> {
    let what = describe(kind, &object);
    let api = api(client, kind, &object);
    let name = object.name_any();
    if kind.kind == WEBHOOK
        && let Some(live) = api.get_opt(&name).await.doing(format_args!("reading {what}"))?
    {
        object = dynamic(&keep_live(typed(&object)?, &typed(&live)?))?;
    }
    let params = PatchParams::apply(labels::INSTALLER).force();
    let mut tries = 0_u32;
    loop {
        match api.patch(&name, &params, &Patch::Apply(&object)).await {
            Ok(_) => return Ok(()),
            // The namespace, or a definition's endpoint, is a moment behind what was just made.
            Err(error) if is_gone(&error) && tries < 50 => {
                tries += 1;
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            Err(error) => return Err(error).doing(format_args!("applying {what}")),
        }
    }
}

async fn create_if_missing(client: &Client, kind: &TypeMeta, object: &DynamicObject) -> Result<()> {
    let params = PostParams { field_manager: Some(labels::INSTALLER.to_owned()), ..PostParams::default() };
    match api(client, kind, object).create(&params, object).await {
        Err(error) if is_conflict(&error) => Ok(()),
        other => other.doing(format_args!("creating {}", describe(kind, object))).map(drop),
    }
}

fn typed(object: &DynamicObject) -> Result<ValidatingWebhookConfiguration> {
    serde_json::to_value(object).and_then(serde_json::from_value).map_err(Error::internal)
}

fn dynamic(object: &ValidatingWebhookConfiguration) -> Result<DynamicObject> {
    serde_json::to_value(object).and_then(serde_json::from_value).map_err(Error::internal)
}

async fn established(client: &Client, names: &[String]) -> Result<()> {
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    for name in names {
        let waiting = await_condition(api.clone(), name, conditions::is_crd_established());
        match tokio::time::timeout(ESTABLISHED, waiting).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => return Err(Error::unavailable(format!("waiting for definition {name}")).caused_by(error)),
            Err(_) => {
                return Err(Error::unavailable(format!(
                    "definition {name} is not served after {} s",
                    ESTABLISHED.as_secs()
                )));
            }
        }
    }
    Ok(())
}

fn kind(object: &DynamicObject) -> Result<TypeMeta> {
    object.types.clone().ok_or_else(|| Error::internal("an object of the install table has no kind"))
}

fn describe(kind: &TypeMeta, object: &DynamicObject) -> String {
    match object.namespace() {
        Some(namespace) => format!("{} {namespace}/{}", kind.kind, object.name_any()),
        None => format!("{} {}", kind.kind, object.name_any()),
    }
}

fn api(client: &Client, kind: &TypeMeta, object: &DynamicObject) -> Api<DynamicObject> {
    let (group, version) = kind.api_version.split_once('/').unwrap_or(("", &kind.api_version));
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, &kind.kind));
    match object.namespace().filter(|_| kind.kind != NAMESPACE) {
        Some(namespace) => Api::namespaced_with(client.clone(), &namespace, &resource),
        None => Api::all_with(client.clone(), &resource),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_of_the_table_get_the_right_plurals() {
        for (version, kind, plural) in [
            ("v1", "Namespace", "namespaces"),
            ("networking.k8s.io/v1", "NetworkPolicy", "networkpolicies"),
            ("admissionregistration.k8s.io/v1", WEBHOOK, "validatingwebhookconfigurations"),
            ("admissionregistration.k8s.io/v1", "ValidatingAdmissionPolicy", "validatingadmissionpolicies"),
            (
                "admissionregistration.k8s.io/v1",
                "ValidatingAdmissionPolicyBinding",
                "validatingadmissionpolicybindings",
            ),
            ("policy/v1", "PodDisruptionBudget", "poddisruptionbudgets"),
            ("rbac.authorization.k8s.io/v1", "ClusterRole", "clusterroles"),
            ("apiextensions.k8s.io/v1", CRD, "customresourcedefinitions"),
        ] {
            let (group, version) = version.split_once('/').unwrap_or(("", version));
            assert_eq!(ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind)).plural, plural);
        }
    }
}
