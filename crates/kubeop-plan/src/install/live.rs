//! What a repeated installation keeps of the objects that are there.
//!
//! Invariant: the CA and the failure policy that the operator set, and replicas that an autoscaler or an administrator added, outlive it; what the API
//! server lets nobody change is not tried.

use super::webhook;
use k8s_openapi::api::admissionregistration::v1::ValidatingWebhookConfiguration;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::scheduling::v1::PriorityClass;
use kube::core::DynamicObject;
use kubeop_core::{Error, Result};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Kinds of which something is kept.
pub const KEPT: [&str; 3] = ["Deployment", "PriorityClass", "ValidatingWebhookConfiguration"];

/// The object `wanted`, with what is kept of the live one.
///
/// # Errors
/// Only a defect: an object that is not what its kind says.
pub fn keep_live(wanted: &DynamicObject, live: &DynamicObject) -> Result<DynamicObject> {
    match wanted.types.as_ref().map(|types| types.kind.as_str()) {
        Some("ValidatingWebhookConfiguration") => {
            let live: ValidatingWebhookConfiguration = convert(live)?;
            convert(&webhook::keep_live(convert(wanted)?, &live))
        }
        Some("Deployment") => convert(&keep_replicas(convert(wanted)?, &convert(live)?)),
        Some("PriorityClass") => convert(&keep_priority(convert(wanted)?, &convert(live)?)),
        _ => Ok(wanted.clone()),
    }
}

/// Applying fewer replicas would take away pods that are needed right now.
fn keep_replicas(mut wanted: Deployment, live: &Deployment) -> Deployment {
    let there = live.spec.as_ref().and_then(|spec| spec.replicas);
    if let Some(spec) = &mut wanted.spec {
        spec.replicas = spec.replicas.max(there);
    }
    wanted
}

/// A chart's values, or an earlier release, may have said another priority.
fn keep_priority(mut wanted: PriorityClass, live: &PriorityClass) -> PriorityClass {
    wanted.value = live.value;
    wanted.preemption_policy.clone_from(&live.preemption_policy);
    wanted
}

fn convert<T: DeserializeOwned>(object: &impl Serialize) -> Result<T> {
    serde_json::to_value(object).and_then(serde_json::from_value).map_err(Error::internal)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::install::{Home, Options, Pods, objects};
    use kubeop_core::policy::RawPolicy;
    use serde_json::json;

    fn of(kind: &str, name: &str) -> DynamicObject {
        let home = Home::Pods(Pods { image: "kubeop".to_owned(), admission: true });
        let (version, policy) = ("1".to_owned(), RawPolicy::default());
        let options = Options { version, home, policy, metrics_server: None, mocks: false };
        let is_it = |object: &DynamicObject| {
            object.types.as_ref().unwrap().kind == kind && object.metadata.name.as_deref() == Some(name)
        };
        objects(&options).unwrap().into_iter().map(|item| item.object).find(is_it).unwrap()
    }

    #[test]
    fn a_priority_that_cannot_be_changed_stays() {
        let wanted = of("PriorityClass", "kubeop-platform");
        let mut live = wanted.clone();
        live.data["value"] = json!(1_000_000);
        live.data["preemptionPolicy"] = json!("Never");
        let kept = keep_live(&wanted, &live).unwrap();
        assert_eq!(kept.data["value"], 1_000_000);
        assert_eq!(kept.data["preemptionPolicy"], "Never");
        assert_eq!(kept.data["description"], wanted.data["description"]);
        assert_eq!((kept.metadata, kept.types), (wanted.metadata, wanted.types));
    }

    #[test]
    fn replicas_only_grow() {
        let wanted = of("Deployment", "kubeop-admission");
        for (there, expected) in [(0, 2), (2, 2), (5, 5)] {
            let mut live = wanted.clone();
            live.data["spec"]["replicas"] = json!(there);
            assert_eq!(keep_live(&wanted, &live).unwrap().data["spec"]["replicas"], json!(expected));
        }
    }
}
