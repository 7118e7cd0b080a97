//! What an installation has put on a cluster.

use crate::api_server::ApiServer;
use crate::scenario::PATIENCE;
use crate::wait::{Seen, until};
use anyhow::{Context, Result};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// Where an installation's kinds are.
const KINDS: [&str; 17] = [
    "/api/v1/namespaces",
    "/api/v1/configmaps",
    "/api/v1/serviceaccounts",
    "/api/v1/services",
    "/apis/apiextensions.k8s.io/v1/customresourcedefinitions",
    "/apis/rbac.authorization.k8s.io/v1/clusterroles",
    "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings",
    "/apis/rbac.authorization.k8s.io/v1/roles",
    "/apis/rbac.authorization.k8s.io/v1/rolebindings",
    "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies",
    "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicybindings",
    "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations",
    "/apis/apps/v1/deployments",
    "/apis/policy/v1/poddisruptionbudgets",
    "/apis/networking.k8s.io/v1/networkpolicies",
    "/apis/scheduling.k8s.io/v1/priorityclasses",
    "/apis/apiregistration.k8s.io/v1/apiservices",
];
/// What an API server and its controllers add to an object, different with each that is made.
const OF_ONE_LIFE: [&str; 6] =
    ["uid", "resourceVersion", "creationTimestamp", "generation", "managedFields", "deletionTimestamp"];

/// Everything that carries the mark of an installation, by `Kind namespace/name`, with what it says: two installations that are alike are equal.
pub async fn contents(server: &ApiServer) -> Result<BTreeMap<String, Value>> {
    let mut all = BTreeMap::new();
    for path in KINDS {
        let list = server.get(&format!("{path}?labelSelector=app.kubernetes.io%2Fpart-of%3Dkubeop")).await?;
        let text = |value: &Value, pointer: &str| value.pointer(pointer).and_then(Value::as_str).map(ToOwned::to_owned);
        let kind = text(&list, "/kind").context("a list without a kind")?;
        let kind = kind.trim_end_matches("List");
        for item in list.pointer("/items").and_then(Value::as_array).into_iter().flatten() {
            let name = text(item, "/metadata/name").context("an object without a name")?;
            let key = text(item, "/metadata/namespace")
                .map_or_else(|| format!("{kind} {name}"), |namespace| format!("{kind} {namespace}/{name}"));
            all.insert(key, lasting(item.clone()));
        }
    }
    Ok(all)
}

/// The same without what it says.
pub async fn installed(server: &ApiServer) -> Result<BTreeSet<String>> {
    Ok(contents(server).await?.into_keys().collect())
}

/// Waits until nothing of an installation is left.
pub async fn gone(server: &ApiServer) -> Result<()> {
    until("nothing of the installation", PATIENCE, async || {
        // What goes last is looked at first, since it is asked for often.
        let namespace = server.get("/api/v1/namespaces?labelSelector=app.kubernetes.io%2Fpart-of%3Dkubeop").await?;
        if namespace.pointer("/items/0").is_some() {
            return Ok(Seen::Yet(namespace.to_string()));
        }
        let left = installed(server).await?;
        Ok(Seen::when(left.is_empty(), (), format!("{left:?}")))
    })
    .await
}

/// Without what is of one life of the object alone.
fn lasting(mut object: Value) -> Value {
    if let Some(fields) = object.as_object_mut() {
        fields.remove("status");
    }
    if let Some(metadata) = object.pointer_mut("/metadata").and_then(Value::as_object_mut) {
        metadata.retain(|key, _| !OF_ONE_LIFE.contains(&key.as_str()));
    }
    if let Some(notes) = object.pointer_mut("/metadata/annotations").and_then(Value::as_object_mut) {
        // Whose the cluster is belongs to the installation, how often a Deployment rolled out does not.
        notes.remove("deployment.kubernetes.io/revision");
    }
    if let Some(spec) = object.pointer_mut("/spec").and_then(Value::as_object_mut) {
        spec.retain(|key, _| !matches!(key.as_str(), "clusterIP" | "clusterIPs"));
    }
    object
}
