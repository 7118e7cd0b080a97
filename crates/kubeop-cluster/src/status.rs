//! What can be observed of kubeOP's parts on a cluster, live.
//!
//! Invariant: `true` is said only of what was seen working in this call: the operator by a lease renewed within twice its duration by the API
//! server's own clock, admission by a canary that was answered in a known way. Whatever failed is said in `messages`.

use crate::clock;
use crate::error::{Doing, from_kube};
use crate::probe;
use futures::future::try_join_all;
use jiff::Timestamp;
use k8s_openapi::api::admissionregistration::v1::{
    ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding, ValidatingWebhookConfiguration,
};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry;
use kube::api::{GetParams, ObjectMeta, PostParams};
use kube::core::Request;
use kube::{Api, Client, Resource};
use kubeop_core::name::SYSTEM_NAMESPACE;
use kubeop_core::{Error, Result};
use kubeop_crds::labels;
use kubeop_plan::install::names;
use std::collections::BTreeMap;
use std::time::Duration;
use uuid::Uuid;

/// The operator's lease in `kubeop-system`.
pub const OPERATOR_LEASE: &str = "kubeop-operator";
/// The `ValidatingWebhookConfiguration` of admission.
pub const WEBHOOK_CONFIGURATION: &str = "kubeop-admission";
/// How long a look at one cluster may take.
pub const LIMIT: Duration = Duration::from_secs(8);

/// What was observed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "independent observations, reported as such")]
pub struct ClusterStatus {
    /// Whether the API server answered.
    pub reachable: bool,
    /// Its version.
    pub version: Option<String>,
    /// How many nodes there are.
    pub nodes: Option<u64>,
    /// Whether the operator's lease is fresh.
    pub operator: bool,
    /// Whether the webhook configuration is there, a canary request was answered by our webhook, and every guard of the API server is bound.
    pub admission: bool,
    /// Whether every webhook of the configuration has a CA bundle.
    pub webhook_ca_bundle: bool,
    /// When it was seen, if it answered.
    pub last_seen: Option<Timestamp>,
    /// Why something is not true, a sentence each.
    pub messages: Vec<String>,
}

/// Looks at everything at once. Never fails: what cannot be seen is false, with the reason.
pub async fn observe(client: &Client, nonce: Uuid, now: Timestamp) -> ClusterStatus {
    let mut status = ClusterStatus::default();
    let looking = async {
        tokio::join!(
            probe::version(client),
            probe::nodes(client),
            lease(client),
            webhook(client),
            canary(client, nonce),
            guards(client)
        )
    };
    let Ok((version, nodes, lease, webhook, canary, guards)) = tokio::time::timeout(LIMIT, looking).await else {
        status.messages.push(format!("the API server does not answer within {} s", LIMIT.as_secs()));
        return status;
    };
    match version {
        Ok(version) => {
            (status.reachable, status.version, status.last_seen) = (true, Some(version), Some(now));
        }
        Err(error) => {
            // The other answers say the same.
            status.messages.push(error.message().to_owned());
            return status;
        }
    }
    let mut note = |what: std::result::Result<(), String>| match what {
        Ok(()) => true,
        Err(why) => {
            status.messages.push(why);
            false
        }
    };
    let nodes = nodes.map_err(|e| e.message().to_owned());
    let counted = nodes.as_ref().ok().copied();
    note(nodes.map(drop));
    let operator = note(lease.map_err(|e| e.message().to_owned()).and_then(|age| age.judge()));
    let bundle = note(webhook.map_err(|e| e.message().to_owned()).and_then(|found| found));
    let answered = note(match canary {
        Ok(Canary::Ours) => Ok(()),
        Ok(Canary::Unanswered) => Err("admission: no webhook answered the canary request".to_owned()),
        Ok(Canary::Failing(why)) => Err(format!("admission: the webhook cannot be called: {why}")),
        Err(error) => Err(error.message().to_owned()),
    });
    let guarded = match guards {
        Ok(Guards::Bound) => true,
        Ok(Guards::Missing(why)) => note(Err(why)),
        Ok(Guards::Unseen) => {
            note(Err(
                "the guards cannot be looked at until POST /v1/platform/bootstrap upgrades the cluster".to_owned()
            ));
            true
        }
        Err(error) => note(Err(error.message().to_owned())),
    };
    status.nodes = counted;
    status.operator = operator;
    status.webhook_ca_bundle = bundle;
    status.admission = answered && guarded;
    status
}

/// A lease's age by the API server's clock.
struct LeaseAge {
    holder: Option<String>,
    seconds: Option<i64>,
    duration: i64,
}

impl LeaseAge {
    fn judge(&self) -> std::result::Result<(), String> {
        let Some(holder) = self.holder.as_deref().filter(|holder| !holder.is_empty()) else {
            return Err("operator: nobody holds its lease".to_owned());
        };
        match self.seconds {
            Some(age) if age <= 2 * self.duration => Ok(()),
            Some(age) => {
                Err(format!("operator: {holder} renewed its lease {age} s ago; {} s are allowed", 2 * self.duration))
            }
            None => Err(format!("operator: {holder} never renewed its lease")),
        }
    }
}

async fn lease(client: &Client) -> Result<LeaseAge> {
    let what = "reading the operator's lease";
    let url = Lease::url_path(&(), Some(SYSTEM_NAMESPACE));
    let request = Request::new(url).get(OPERATOR_LEASE, &GetParams::default()).map_err(Error::internal)?;
    let answer = client.send(request.map(kube::client::Body::from)).await.doing(what)?;
    let date = clock::date(answer.headers());
    if answer.status() == http::StatusCode::NOT_FOUND {
        return Ok(LeaseAge { holder: None, seconds: None, duration: 0 });
    }
    if !answer.status().is_success() {
        return Err(Error::unavailable(format!("{what}: the cluster answers {}", answer.status())));
    }
    let bytes = answer.into_body().collect_bytes().await.doing(what)?;
    let lease = serde_json::from_slice::<Lease>(&bytes).map_err(|e| Error::unavailable(what).caused_by(e))?;
    let seconds = match (renewed(&lease.metadata), date) {
        (Some(renewed), Some(date)) => Some(date.duration_since(renewed).as_secs().max(0)),
        _ => None,
    };
    let spec = lease.spec.unwrap_or_default();
    Ok(LeaseAge {
        holder: spec.holder_identity,
        seconds,
        duration: i64::from(spec.lease_duration_seconds.unwrap_or(15)),
    })
}

/// When `spec.renewTime` was last written, as the API server stamped it: what the holder wrote there is its own clock's time.
fn renewed(metadata: &ObjectMeta) -> Option<Timestamp> {
    let wrote = |entry: &&ManagedFieldsEntry| {
        entry.fields_v1.as_ref().is_some_and(|fields| fields.0.pointer("/f:spec/f:renewTime").is_some())
    };
    metadata
        .managed_fields
        .iter()
        .flatten()
        .filter(wrote)
        .filter_map(|entry| entry.time.as_ref())
        .map(|time| time.0)
        .max()
}

/// Whether the webhook configuration has its CA bundles.
async fn webhook(client: &Client) -> Result<std::result::Result<(), String>> {
    let api: Api<ValidatingWebhookConfiguration> = Api::all(client.clone());
    let Some(found) = api.get_opt(WEBHOOK_CONFIGURATION).await.doing("reading the webhook configuration")? else {
        return Ok(Err("admission: its webhook configuration is not installed".to_owned()));
    };
    let webhooks = found.webhooks.unwrap_or_default();
    let complete = !webhooks.is_empty()
        && webhooks.iter().all(|w| w.client_config.ca_bundle.as_ref().is_some_and(|ca| !ca.0.is_empty()));
    Ok(if complete { Ok(()) } else { Err("admission: its webhook configuration has no CA bundle yet".to_owned()) })
}

/// What was seen of the guards in the API server.
enum Guards {
    Bound,
    Missing(String),
    /// An installation of an earlier release does not let the manager look.
    Unseen,
}

/// Whether every ValidatingAdmissionPolicy of ours is there and bound.
async fn guards(client: &Client) -> Result<Guards> {
    let policies: Api<ValidatingAdmissionPolicy> = Api::all(client.clone());
    let bindings: Api<ValidatingAdmissionPolicyBinding> = Api::all(client.clone());
    let reading = names::GUARDS.map(|name| {
        let (policies, bindings) = (policies.clone(), bindings.clone());
        async move {
            let (policy, binding) = tokio::join!(policies.get_metadata_opt(name), bindings.get_metadata_opt(name));
            Ok::<_, kube::Error>((name, policy?.is_some(), binding?.is_some()))
        }
    });
    let found = match try_join_all(reading).await {
        Err(kube::Error::Api(status)) if status.code == 403 => return Ok(Guards::Unseen),
        found => found.doing("reading the guards")?,
    };
    for (name, policy, binding) in found {
        let missing = match (policy, binding) {
            (true, true) => continue,
            (false, _) => "ValidatingAdmissionPolicy",
            (true, false) => "ValidatingAdmissionPolicyBinding",
        };
        let why = format!("admission: {missing} {name:?} is missing; POST /v1/platform/bootstrap restores it");
        return Ok(Guards::Missing(why));
    }
    Ok(Guards::Bound)
}

/// What became of a canary request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Canary {
    /// Our webhook denied it in the known way.
    Ours,
    /// It went through: no webhook judged it.
    Unanswered,
    /// The API server could not call the webhook, in its own words.
    Failing(String),
}

/// Asks whether our webhook answers: a dry-run create of a ConfigMap labelled with `nonce`, which kubeop-admission denies with
/// `kubeop canary <nonce>`. Nothing is stored.
pub async fn canary(client: &Client, nonce: Uuid) -> Result<Canary> {
    let api: Api<ConfigMap> = Api::namespaced(client.clone(), SYSTEM_NAMESPACE);
    let map = ConfigMap {
        metadata: ObjectMeta {
            name: Some(format!("kubeop-canary-{nonce}")),
            labels: Some(BTreeMap::from([(labels::CANARY.to_owned(), nonce.to_string())])),
            ..ObjectMeta::default()
        },
        ..ConfigMap::default()
    };
    let params = PostParams { dry_run: true, field_manager: Some(labels::MANAGER.to_owned()) };
    match api.create(&params, &map).await {
        Ok(_) => Ok(Canary::Unanswered),
        Err(kube::Error::Api(status)) if status.message.contains(&format!("kubeop canary {nonce}")) => Ok(Canary::Ours),
        Err(kube::Error::Api(status)) if status.message.contains("failed calling webhook") => {
            Ok(Canary::Failing(status.message.clone()))
        }
        Err(error) => Err(from_kube(error, "asking admission by a canary request")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_lease_is_dated_by_the_server_and_not_by_its_holder() {
        let entry =
            |fields, time| json!({"manager": "kubeop", "operation": "Update", "fieldsV1": fields, "time": time});
        let lease: Lease = serde_json::from_value(json!({
            "metadata": {"managedFields": [
                entry(json!({"f:metadata": {"f:labels": {}}}), "2026-01-01T00:00:09Z"),
                entry(json!({"f:spec": {"f:renewTime": {}, "f:holderIdentity": {}}}), "2026-01-01T00:00:05Z"),
            ]},
            "spec": {"renewTime": "2025-12-31T22:00:00.000000Z"},
        }))
        .unwrap();
        assert_eq!(renewed(&lease.metadata), Some("2026-01-01T00:00:05Z".parse().unwrap()));
        assert_eq!(renewed(&ObjectMeta::default()), None);
    }

    #[test]
    fn a_lease_is_fresh_within_twice_its_duration() {
        let age = |holder: Option<&str>, seconds| {
            LeaseAge { holder: holder.map(ToOwned::to_owned), seconds, duration: 15 }.judge()
        };
        assert!(age(Some("a"), Some(0)).is_ok());
        assert!(age(Some("a"), Some(30)).is_ok());
        assert!(age(Some("a"), Some(31)).unwrap_err().contains("31 s ago"));
        assert!(age(Some("a"), None).is_err());
        assert!(age(None, Some(0)).unwrap_err().contains("nobody"));
        assert!(age(Some(""), Some(0)).is_err());
    }
}
