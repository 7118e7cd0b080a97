//! Events as they are sent to webhooks, and the deliveries that were given up.
//!
//! Invariant: an event is a CloudEvent (CloudEvents 1.0, JSON format) and holds no secret; fields are added, never renamed or removed.

use jiff::Timestamp;
use kubeop_core::id::{ClusterId, ProjectId, TenantId};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// What happened, as a CloudEvent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Event {
    /// The version of CloudEvents: `1.0`.
    pub specversion: String,
    /// The event's id, the same whenever and wherever it is sent. Of a change through the API it is the id of its audit record.
    pub id: Uuid,
    /// The installation: `urn:uuid:` and its id.
    pub source: String,
    /// What happened to what, as `io.kubeop.project.created`.
    #[serde(rename = "type")]
    pub kind: String,
    /// To which object: its kind and id, as `project/01988c9e-0c5a-7d43-9c59-3f1f0c6d8a11`.
    pub subject: String,
    /// When it happened.
    pub time: Timestamp,
    /// What `data` is: `application/json`.
    pub datacontenttype: String,
    /// Of two events of one subject sent to one hook, the one with the greater (as text) `sequence` happened later.
    pub sequence: String,
    /// What else there is to tell.
    pub data: EventData,
}

/// What an event tells of a change. The object itself is to be asked for: by then it may have changed again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EventData {
    /// What was done, as in the audit log.
    pub action: String,
    /// To what kind of object.
    pub kind: String,
    /// To which object; empty if it has no id.
    pub id: String,
    /// Its name, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The cluster it is on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster_id: Option<ClusterId>,
    /// The tenant it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant_id: Option<TenantId>,
    /// The project it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project_id: Option<ProjectId>,
    /// Who did it.
    pub actor: EventActor,
    /// The request it was done by; absent if it was kubeOP itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// What else is worth knowing, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

/// Who did something.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EventActor {
    /// The `sub` claim of the caller's token, or `kubeop`.
    pub subject: String,
    /// The caller's role.
    pub role: String,
}

/// A delivery that was given up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DeadDelivery {
    /// Its id, as the receiver saw it in `X-KubeOP-Delivery`.
    pub id: Uuid,
    /// Where it was to go: `events` or `cluster-ready`.
    pub hook: String,
    /// The event.
    pub event: Event,
    /// How often it was tried.
    pub attempts: i64,
    /// The status that was last answered; absent if nothing was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_status: Option<i64>,
    /// Why the last attempt failed.
    pub last_error: String,
    /// When it was given up; absent once it is on its way again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dead_at: Option<Timestamp>,
}

/// Parameters of the list of deliveries that were given up.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
pub struct DeadQuery {
    /// How many at most: 1 to 1000, default 100.
    #[schemars(with = "Option<i32>", range(min = 1, max = 1000))]
    pub limit: Option<String>,
    /// Where to go on: from the `Link` of the page before.
    pub cursor: Option<String>,
    /// Only of this hook: `events` or `cluster-ready`.
    pub hook: Option<String>,
    /// Only of this type of event, as `io.kubeop.project.created`.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// Only about this tenant.
    #[schemars(extend("format" = "uuid"))]
    pub tenant_id: Option<String>,
}
