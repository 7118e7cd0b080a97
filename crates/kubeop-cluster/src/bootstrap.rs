//! Setting up a cluster: the objects of the install table, applied in order, again and again if need be.
//!
//! Invariant: idempotent at every step (a run that was cut off is completed by the next, and a newer table upgrades); what the operator owns
//! (`caBundle`, `failurePolicy`) is never reset; nothing of another instance of kubeOP, nor of Helm, is touched.

use crate::error::{Doing, is_conflict, is_gone};
use futures::future::BoxFuture;
use k8s_openapi::api::admissionregistration::v1::ValidatingWebhookConfiguration;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{DeleteParams, ObjectMeta, Patch, PatchParams, PostParams};
use kube::core::{ApiResource, DynamicObject, GroupVersionKind, TypeMeta};
use kube::runtime::wait::{await_condition, conditions};
use kube::{Api, Client, ResourceExt};
use kubeop_core::id::InstanceId;
use kubeop_core::name::SYSTEM_NAMESPACE;
use kubeop_core::{Error, Result};
use kubeop_crds::labels;
use kubeop_plan::install::{Item, Mode, keep_live, names};
use std::time::Duration;

/// How long a definition may take to be served.
const ESTABLISHED: Duration = Duration::from_secs(30);
/// How long an object that is being removed is waited for.
const GOING: Duration = Duration::from_secs(30);

pub(crate) const CRD: &str = "CustomResourceDefinition";
pub(crate) const NAMESPACE: &str = "Namespace";

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
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// How many objects were applied.
    pub applied: usize,
    /// What Helm manages and was left to it: `Kind namespace/name`.
    pub left: Vec<String>,
}

/// Who serves the resource metrics of a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricsApi {
    /// Nobody.
    Missing,
    /// The metrics server that was installed with [`install`].
    Ours,
    /// Somebody else.
    Foreign,
}

/// Looks who serves the resource metrics.
pub async fn metrics_server(client: &Client) -> Result<MetricsApi> {
    let kind = ApiResource::from_gvk(&GroupVersionKind::gvk("apiregistration.k8s.io", "v1", "APIService"));
    let api: Api<DynamicObject> = Api::all_with(client.clone(), &kind);
    let live = api.get_opt(names::METRICS_API).await.doing("reading the APIService of resource metrics")?;
    Ok(match live {
        None => MetricsApi::Missing,
        Some(live) if managed_by(&live) == Some(labels::INSTALLER) => MetricsApi::Ours,
        Some(_) => MetricsApi::Foreign,
    })
}

/// Whether admission runs there as pods: whoever put it there, it is kept up to date with the rest.
pub async fn has_admission(client: &Client) -> Result<bool> {
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), SYSTEM_NAMESPACE);
    let live = deployments.get_metadata_opt(names::ADMISSION_ACCOUNT).await.doing("reading admission's Deployment")?;
    Ok(live.is_some())
}

pub(crate) fn managed_by(object: &impl ResourceExt) -> Option<&str> {
    object.labels().get(labels::MANAGED_BY).map(String::as_str)
}

/// Applies the items in the order given, waiting for definitions before what comes after them, and marks the cluster as `instance`'s.
pub async fn install(client: &Client, items: &[Item], instance: InstanceId) -> Result<Report> {
    install_while(client, items, instance, || Box::pin(async { Ok(()) })).await
}

/// The same as long as `is_wanted` says so, which is asked before each object: none is written after its first error, which is returned.
pub async fn install_while<'a>(
    client: &Client,
    items: &[Item],
    instance: InstanceId,
    is_wanted: impl Fn() -> BoxFuture<'a, Result<()>>,
) -> Result<Report> {
    let mut report = Report::default();
    let mut unserved: Vec<String> = Vec::new();
    for item in items {
        is_wanted().await?;
        let kind = kind(&item.object)?;
        if kind.kind != CRD && !unserved.is_empty() {
            established(client, &std::mem::take(&mut unserved)).await?;
        }
        let mut object = item.object.clone();
        if kind.kind == NAMESPACE {
            object.annotations_mut().insert(labels::INSTANCE.to_owned(), instance.to_string());
        }
        let live = match item.mode {
            Mode::Apply => standing(client, &kind, &object).await?,
            Mode::CreateIfMissing => None,
        };
        match (item.mode, live) {
            (Mode::Apply, Some(live)) if managed_by(&live) == Some(labels::HELM) => {
                if kind.kind == NAMESPACE {
                    apply(client, &kind, mark(&object)).await?;
                }
                report.left.push(describe(&kind, &object));
                continue;
            }
            (Mode::Apply, Some(live)) => apply(client, &kind, keep_live(&object, &live)?).await?,
            (Mode::Apply, None) => apply(client, &kind, object).await?,
            (Mode::CreateIfMissing, _) => create_if_missing(client, &kind, &object).await?,
        }
        if kind.kind == CRD {
            unserved.push(item.object.name_any());
        }
        report.applied += 1;
    }
    established(client, &unserved).await?;
    Ok(report)
}

/// Removes the webhook configuration, so that nothing that fails closed is left behind when the process that answers it stops (`kubeop dev`).
pub async fn remove_webhook(client: &Client) -> Result<()> {
    let api: Api<ValidatingWebhookConfiguration> = Api::all(client.clone());
    match api.delete(names::WEBHOOK, &DeleteParams::default()).await {
        Err(error) if is_gone(&error) => Ok(()),
        other => other.doing("removing the webhook configuration").map(drop),
    }
}

/// A namespace with nothing but the mark of whose the cluster is.
fn mark(namespace: &DynamicObject) -> DynamicObject {
    let instance = namespace.annotations().get_key_value(labels::INSTANCE);
    DynamicObject {
        types: namespace.types.clone(),
        metadata: ObjectMeta {
            name: namespace.metadata.name.clone(),
            annotations: Some(instance.map(|(key, value)| (key.clone(), value.clone())).into_iter().collect()),
            ..ObjectMeta::default()
        },
        data: serde_json::Value::Null,
    }
}

async fn apply(client: &Client, kind: &TypeMeta, object: DynamicObject) -> Result<()> {
    let what = describe(kind, &object);
    let api = api(client, kind, &object);
    let name = object.name_any();
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

/// The live object. One that is going, as after an uninstallation a moment ago, is waited for: nothing can be made in it, and it would take what is
/// applied to it along.
async fn standing(client: &Client, kind: &TypeMeta, object: &DynamicObject) -> Result<Option<DynamicObject>> {
    let (api, what) = (api(client, kind, object), describe(kind, object));
    let start = tokio::time::Instant::now();
    loop {
        let live = api.get_opt(&object.name_any()).await.doing(format!("reading {what}"))?;
        if live.as_ref().is_none_or(|live| live.metadata.deletion_timestamp.is_none()) {
            return Ok(live);
        }
        if start.elapsed() >= GOING {
            let seconds = GOING.as_secs();
            return Err(Error::unavailable(format!(
                "{what} is still being removed after {seconds} s: try again later"
            )));
        }
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
}

async fn create_if_missing(client: &Client, kind: &TypeMeta, object: &DynamicObject) -> Result<()> {
    let params = PostParams { field_manager: Some(labels::INSTALLER.to_owned()), ..PostParams::default() };
    match api(client, kind, object).create(&params, object).await {
        Err(error) if is_conflict(&error) => Ok(()),
        other => other.doing(format_args!("creating {}", describe(kind, object))).map(drop),
    }
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

pub(crate) fn kind(object: &DynamicObject) -> Result<TypeMeta> {
    object.types.clone().ok_or_else(|| Error::internal("an object of the install table has no kind"))
}

pub(crate) fn describe(kind: &TypeMeta, object: &DynamicObject) -> String {
    match object.namespace() {
        Some(namespace) => format!("{} {namespace}/{}", kind.kind, object.name_any()),
        None => format!("{} {}", kind.kind, object.name_any()),
    }
}

pub(crate) fn api(client: &Client, kind: &TypeMeta, object: &DynamicObject) -> Api<DynamicObject> {
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
            ("admissionregistration.k8s.io/v1", "ValidatingWebhookConfiguration", "validatingwebhookconfigurations"),
            ("admissionregistration.k8s.io/v1", "ValidatingAdmissionPolicy", "validatingadmissionpolicies"),
            (
                "admissionregistration.k8s.io/v1",
                "ValidatingAdmissionPolicyBinding",
                "validatingadmissionpolicybindings",
            ),
            ("policy/v1", "PodDisruptionBudget", "poddisruptionbudgets"),
            ("scheduling.k8s.io/v1", "PriorityClass", "priorityclasses"),
            ("apiregistration.k8s.io/v1", "APIService", "apiservices"),
            ("rbac.authorization.k8s.io/v1", "ClusterRole", "clusterroles"),
            ("apiextensions.k8s.io/v1", CRD, "customresourcedefinitions"),
        ] {
            let (group, version) = version.split_once('/').unwrap_or(("", version));
            assert_eq!(ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind)).plural, plural);
        }
    }
}
