//! The manager's writes of custom resources: claim by POST, change by server-side apply with a precondition, delete by uid.
//!
//! Invariant: nothing is written to an object that is going away, that carries another entity id or that the manager did not write, and nothing
//! is deleted that is not the very object that was read (docs/adr/0003-level-triggered-sync.md).

use crate::error::{Doing, is_conflict, is_gone};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions};
use kube::core::{ApiResource, DynamicObject};
use kube::{Api, Client, ResourceExt};
use kubeop_core::{Error, Result};
use kubeop_crds::labels;
use kubeop_crds::v1alpha1::{App, Project, Tenant};
use serde_json::Value;

/// The kinds the manager writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A tenant.
    Tenant,
    /// A project.
    Project,
    /// An app.
    App,
}

impl Kind {
    /// All of them, parents first.
    pub const ALL: [Self; 3] = [Self::Tenant, Self::Project, Self::App];

    /// As Kubernetes spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tenant => "Tenant",
            Self::Project => "Project",
            Self::App => "App",
        }
    }

    /// The label that holds the entity's id.
    pub fn id_label(self) -> &'static str {
        match self {
            Self::Tenant => labels::TENANT_ID,
            Self::Project => labels::PROJECT_ID,
            Self::App => labels::APP_ID,
        }
    }

    /// How the API server serves it.
    pub fn resource(self) -> ApiResource {
        match self {
            Self::Tenant => ApiResource::erase::<Tenant>(&()),
            Self::Project => ApiResource::erase::<Project>(&()),
            Self::App => ApiResource::erase::<App>(&()),
        }
    }
}

/// Which object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Target {
    /// Its kind.
    pub kind: Kind,
    /// Its namespace; none for cluster-scoped kinds.
    pub namespace: Option<String>,
    /// Its name.
    pub name: String,
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(f, "{} {namespace}/{}", self.kind.as_str(), self.name),
            None => write!(f, "{} {}", self.kind.as_str(), self.name),
        }
    }
}

/// An object as it was read, with what the manager decides by.
#[derive(Clone, Debug)]
pub struct Live {
    /// Where it was found.
    pub target: Target,
    /// Its uid.
    pub uid: String,
    /// Its version, the precondition of a write.
    pub resource_version: String,
    /// The generation of its spec.
    pub generation: Option<i64>,
    /// Whether it is being deleted.
    pub deleting: bool,
    /// Whether the manager wrote it (`app.kubernetes.io/managed-by`).
    pub managed: bool,
    /// The entity's id (the kind's id label).
    pub entity: Option<String>,
    /// The instance of the manager that wrote it.
    pub instance: Option<String>,
    /// The version of the desired state it was written from.
    pub wanted: Option<i64>,
    /// The whole object.
    pub object: DynamicObject,
}

impl Live {
    /// Reads the marks of an object.
    pub fn new(kind: Kind, object: DynamicObject) -> Result<Self> {
        let meta = &object.metadata;
        let (Some(uid), Some(resource_version), Some(name)) =
            (meta.uid.clone(), meta.resource_version.clone(), meta.name.clone())
        else {
            return Err(Error::unavailable(format!(
                "the cluster's {} has no name, uid or resourceVersion",
                kind.as_str()
            )));
        };
        let label = |key: &str| object.labels().get(key).cloned();
        let annotation = |key: &str| object.annotations().get(key).cloned();
        Ok(Self {
            target: Target { kind, namespace: meta.namespace.clone(), name },
            uid,
            resource_version,
            generation: meta.generation,
            deleting: meta.deletion_timestamp.is_some(),
            managed: label(labels::MANAGED_BY).as_deref() == Some(labels::MANAGER),
            entity: label(kind.id_label()),
            instance: label(labels::INSTANCE).or_else(|| annotation(labels::INSTANCE)),
            wanted: annotation(labels::WANTED).and_then(|text| text.parse().ok()),
            object,
        })
    }

    /// Its status, `null` when there is none.
    pub fn status(&self) -> &Value {
        self.object.data.get("status").unwrap_or(&Value::Null)
    }
}

/// What became of a write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Written {
    /// It is there as asked.
    Applied {
        /// The object's uid.
        uid: String,
        /// Its version after the write.
        resource_version: String,
    },
    /// Something changed since it was read (or somebody was faster with the name): read again.
    Conflict,
    /// The name belongs to somebody else; says to whom.
    NotOurs(String),
    /// The object is going away; its name is free when it is gone.
    BeingDeleted,
    /// The namespace is not there (yet), or is going away.
    NoNamespace,
}

/// What became of a delete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deleted {
    /// Accepted; finalizers are at work.
    Deleting,
    /// That object is gone.
    Gone,
}

fn api(client: &Client, target: &Target) -> Api<DynamicObject> {
    match &target.namespace {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &target.kind.resource()),
        None => Api::all_with(client.clone(), &target.kind.resource()),
    }
}

/// Reads one object.
pub async fn live(client: &Client, target: &Target) -> Result<Option<Live>> {
    let found = api(client, target).get_opt(&target.name).await.doing(format_args!("reading {target}"))?;
    found.map(|object| Live::new(target.kind, object)).transpose()
}

/// Objects of a page: some MiB, and far from what the client reads at most also where each is as large as a cluster stores any.
pub(crate) const PAGE: u32 = 50;

/// Reads a page of the objects of a kind that a manager wrote, beginning at the `token` of the page before; with the token of the next.
pub async fn list(client: &Client, kind: Kind, token: Option<&str>) -> Result<(Vec<Live>, Option<String>)> {
    let api: Api<DynamicObject> = Api::all_with(client.clone(), &kind.resource());
    let mut params = ListParams::default().labels(&format!("{}={}", labels::MANAGED_BY, labels::MANAGER)).limit(PAGE);
    if let Some(token) = token {
        params = params.continue_token(token);
    }
    let page = api.list(&params).await.doing(format_args!("listing {}s", kind.as_str()))?;
    let objects = page.items.into_iter().map(|object| Live::new(kind, object)).collect::<Result<_>>()?;
    Ok((objects, page.metadata.continue_.filter(|token| !token.is_empty())))
}

/// Whether an object is not (any more) what was applied: somebody changed or removed what we set, or put in what is not theirs to set.
pub fn differs(live: &Live, wanted: &DynamicObject) -> bool {
    let spec = |object: &DynamicObject| object.data.get("spec").cloned().unwrap_or(Value::Null);
    let marked = wanted.labels().iter().all(|(key, value)| live.object.labels().get(key) == Some(value))
        && wanted.annotations().iter().all(|(key, value)| live.object.annotations().get(key) == Some(value));
    !marked || !holds(&spec(&live.object), &spec(wanted)) || strip(&live.object, wanted).is_some()
}

/// Whether all that is wanted is there. A null is nothing; what is there beside it may be a default of the schema.
fn holds(there: &Value, wanted: &Value) -> bool {
    match (there, wanted) {
        (_, Value::Null) => true,
        (Value::Object(there), Value::Object(wanted)) => {
            wanted.iter().all(|(key, wanted)| holds(there.get(key).unwrap_or(&Value::Null), wanted))
        }
        (Value::Array(there), Value::Array(wanted)) => {
            there.len() == wanted.len() && there.iter().zip(wanted).all(|(there, wanted)| holds(there, wanted))
        }
        (Value::Null, Value::Object(wanted)) => wanted.values().all(Value::is_null),
        _ => there == wanted,
    }
}

/// Creates an object that was not there. The API server lets one claim a name.
pub async fn claim(client: &Client, target: &Target, object: &DynamicObject) -> Result<Written> {
    let params = PostParams { field_manager: Some(labels::MANAGER.to_owned()), ..PostParams::default() };
    match api(client, target).create(&params, object).await {
        Ok(made) => applied(target, made),
        Err(error) => refused(target, error),
    }
}

/// Changes an object that was read before the rows were read: `resourceVersion` and `uid` are the precondition, so that a stale writer gets
/// `Conflict`. What others added to the spec and to reserved labels and annotations is removed.
pub async fn apply(client: &Client, live: &Live, object: &DynamicObject) -> Result<Written> {
    let target = &live.target;
    if let Some(why) = foreign(live, object.labels().get(target.kind.id_label())) {
        return Ok(Written::NotOurs(why));
    }
    if live.deleting {
        return Ok(Written::BeingDeleted);
    }
    let mut wanted = object.clone();
    wanted.metadata.resource_version = Some(live.resource_version.clone());
    wanted.metadata.uid = Some(live.uid.clone());
    wanted.metadata.managed_fields = None;
    let api = api(client, target);
    let replacing = PostParams { field_manager: Some(labels::MANAGER.to_owned()), ..PostParams::default() };
    if let Some(prepared) = prepared(live, object) {
        match api.replace(&target.name, &replacing, &prepared).await {
            Ok(after) => wanted.metadata.resource_version = after.metadata.resource_version,
            Err(error) => return refused(target, error),
        }
    }
    let params = PatchParams::apply(labels::MANAGER).force();
    let after = match api.patch(&target.name, &params, &Patch::Apply(&wanted)).await {
        Ok(after) => after,
        Err(error) => return refused(target, error),
    };
    let Some(stripped) = strip(&after, object) else { return applied(target, after) };
    match api.replace(&target.name, &replacing, &stripped).await {
        Ok(after) => applied(target, after),
        Err(error) => refused(target, error),
    }
}

/// Deletes this very object (by uid); a namesake that came later is left alone.
pub async fn delete(client: &Client, target: &Target, uid: &str) -> Result<Deleted> {
    let params = DeleteParams {
        preconditions: Some(Preconditions { uid: Some(uid.to_owned()), resource_version: None }),
        ..DeleteParams::default()
    };
    match api(client, target).delete(&target.name, &params).await {
        // The answer is the object while finalizers are at work, else a status.
        Ok(answer) => Ok(answer.either(|_| Deleted::Deleting, |_| Deleted::Gone)),
        // 409: the name is another object's now.
        Err(error) if is_gone(&error) || is_conflict(&error) => Ok(Deleted::Gone),
        Err(error) => Err(error).doing(format_args!("deleting {target}")),
    }
}

/// Why an object is not the manager's to write, if so.
fn foreign(live: &Live, entity: Option<&String>) -> Option<String> {
    if !live.managed {
        return Some(format!("{} was not made by kubeOP's manager", live.target));
    }
    if live.entity.as_ref() != entity || entity.is_none() {
        return Some(format!("{} belongs to another id ({})", live.target, live.entity.as_deref().unwrap_or("none")));
    }
    None
}

fn applied(target: &Target, object: DynamicObject) -> Result<Written> {
    let live = Live::new(target.kind, object)?;
    Ok(Written::Applied { uid: live.uid, resource_version: live.resource_version })
}

fn refused(target: &Target, error: kube::Error) -> Result<Written> {
    if let kube::Error::Api(status) = &error {
        let details = status.details.as_ref();
        let terminating = details.is_some_and(|d| d.causes.iter().any(|cause| cause.reason == "NamespaceTerminating"));
        // 404 of a namespaced write names the namespace; of a cluster-scoped one the kind, which is not installed.
        let no_namespace = status.code == 404 && details.is_some_and(|d| d.kind == "namespaces");
        if terminating || no_namespace {
            return Ok(Written::NoNamespace);
        }
        if status.code == 409 {
            return Ok(Written::Conflict);
        }
    }
    Err(error).doing(format_args!("writing {target}"))
}

/// The live object as it has to be before an apply can take away what is no longer wanted; `None` if it is.
fn prepared(live: &Live, wanted: &DynamicObject) -> Option<DynamicObject> {
    let mut object = live.object.clone();
    let handed_over = hand_over(object.managed_fields_mut());
    // An apply that takes the last field out of a map and names the map all the same leaves null in its place, which the API server then refuses.
    let fields = |object: &DynamicObject| object.data.get("spec").and_then(Value::as_object).map(serde_json::Map::len);
    let emptied = fields(wanted) == Some(0) && fields(&object).is_some_and(|count| count > 0);
    if emptied && let Some(data) = object.data.as_object_mut() {
        data.insert("spec".to_owned(), Value::Object(serde_json::Map::new()));
    }
    (handed_over || emptied).then_some(object)
}

/// What we created or replaced belongs, for server-side apply, to another manager of our name ("Update" instead of "Apply"), so an apply would never
/// remove a field of it. The entries are made one, as client-go's `csaupgrade` does; whether there was anything to do.
fn hand_over(entries: &mut Vec<ManagedFieldsEntry>) -> bool {
    let ours = |entry: &ManagedFieldsEntry, operation: &str| {
        entry.manager.as_deref() == Some(labels::MANAGER)
            && entry.operation.as_deref() == Some(operation)
            && entry.subresource.as_deref().unwrap_or_default().is_empty()
    };
    let Some(at) = entries.iter().position(|entry| ours(entry, "Update")) else { return false };
    let mut updated = entries.remove(at);
    let applied = entries.iter_mut().find(|entry| ours(entry, "Apply")).and_then(|entry| entry.fields_v1.as_mut());
    if let Some(applied) = applied {
        if let Some(fields) = updated.fields_v1 {
            unite(&mut applied.0, fields.0);
        }
    } else {
        updated.operation = Some("Apply".to_owned());
        entries.push(updated);
    }
    true
}

/// A set of fields with another added: nested maps, whose keys are the fields.
fn unite(fields: &mut Value, more: Value) {
    let (Value::Object(fields), Value::Object(more)) = (fields, more) else { return };
    for (key, below) in more {
        unite(fields.entry(key).or_insert_with(|| Value::Object(serde_json::Map::new())), below);
    }
}

/// The object without what others put into its spec and reserved marks; `None` if nobody did.
fn strip(after: &DynamicObject, wanted: &DynamicObject) -> Option<DynamicObject> {
    let others_in_spec = after.managed_fields().iter().any(|entry| {
        entry.manager.as_deref() != Some(labels::MANAGER)
            && entry.subresource.as_deref().unwrap_or_default().is_empty()
            && entry.fields_v1.as_ref().is_some_and(|fields| fields.0.get("f:spec").is_some())
    });
    let reserved = |key: &String| {
        [labels::APP_PREFIX, labels::PREFIX].iter().any(|prefix| key.starts_with(prefix)) || key == labels::MANAGED_BY
    };
    let foreign_label = after.labels().keys().any(|key| reserved(key) && !wanted.labels().contains_key(key));
    let foreign_annotation =
        after.annotations().keys().any(|key| reserved(key) && !wanted.annotations().contains_key(key));
    let foreign_spec = others_in_spec && wanted.data.get("spec") != after.data.get("spec");
    if !(foreign_label || foreign_annotation || foreign_spec) {
        return None;
    }
    let mut stripped = after.clone();
    stripped.labels_mut().retain(|key, _| !reserved(key) || wanted.labels().contains_key(key));
    stripped.annotations_mut().retain(|key, _| !reserved(key) || wanted.annotations().contains_key(key));
    if let (Some(spec), Some(data)) = (wanted.data.get("spec"), stripped.data.as_object_mut()) {
        data.insert("spec".to_owned(), spec.clone());
    }
    Some(stripped)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn object(labels: &Value, annotations: &Value, spec: &Value, manager: &str) -> DynamicObject {
        serde_json::from_value(json!({
            "apiVersion": "platform.kubeop.io/v1alpha1", "kind": "Tenant",
            "metadata": {
                "name": "a", "uid": "u", "resourceVersion": "7", "labels": labels, "annotations": annotations,
                "managedFields": [{"manager": manager, "operation": "Update", "apiVersion": "v1", "fieldsType": "FieldsV1", "fieldsV1": {"f:spec": {}}}],
            },
            "spec": spec,
        }))
        .unwrap()
    }

    #[test]
    fn what_others_added_is_stripped_and_the_rest_stays() {
        let wanted = object(
            &json!({"app.kubeop.io/tenant-id": "1", "mine": "x"}),
            &json!({}),
            &json!({"displayName": "A"}),
            "kubeop-manager",
        );
        assert!(strip(&wanted, &wanted).is_none());
        let after = object(
            &json!({"app.kubeop.io/tenant-id": "1", "mine": "x", "theirs": "y", "app.kubeop.io/project-id": "evil"}),
            &json!({"kubeop.io/owner-uid": "evil", "note": "z"}),
            &json!({"displayName": "A", "suspended": true}),
            "kubectl-edit",
        );
        let stripped = strip(&after, &wanted).unwrap();
        assert_eq!(stripped.labels().keys().collect::<Vec<_>>(), ["app.kubeop.io/tenant-id", "mine", "theirs"]);
        assert_eq!(stripped.annotations().keys().collect::<Vec<_>>(), ["note"]);
        assert_eq!(stripped.data["spec"], json!({"displayName": "A"}));
        assert_eq!(stripped.metadata.resource_version.as_deref(), Some("7"));
    }

    #[test]
    fn what_was_created_is_handed_over_and_a_spec_that_becomes_empty_emptied() {
        let of = |spec: Value, manager: &str| object(&json!({}), &json!({}), &spec, manager);
        let prepared = |live: DynamicObject, wanted: Value| {
            prepared(&Live::new(Kind::Tenant, live).unwrap(), &of(wanted, "kubeop-manager"))
        };
        let full = || json!({"quotas": {"cpu": "1"}});
        let emptied = prepared(of(full(), "kubectl-edit"), json!({})).unwrap();
        assert_eq!(emptied.data["spec"], json!({}));
        for (live, wanted) in [(full(), full()), (json!({}), json!({})), (json!({}), full())] {
            assert!(prepared(of(live, "kubectl-edit"), wanted).is_none());
        }

        let created = prepared(of(full(), "kubeop-manager"), full()).unwrap();
        assert_eq!(created.managed_fields()[0].operation.as_deref(), Some("Apply"));
        assert_eq!(created.data["spec"], full());
        assert!(prepared(created, full()).is_none(), "once is enough");

        let entry = |operation: &str, fields: Value| -> ManagedFieldsEntry {
            serde_json::from_value(json!({
                "manager": "kubeop-manager", "operation": operation, "fieldsType": "FieldsV1", "fieldsV1": fields,
            }))
            .unwrap()
        };
        let mut both = vec![
            entry("Update", json!({"f:spec": {"f:a": {}, "f:b": {"f:c": {}}}})),
            entry("Apply", json!({"f:spec": {"f:b": {"f:d": {}}}})),
        ];
        assert!(hand_over(&mut both));
        assert_eq!(both, [entry("Apply", json!({"f:spec": {"f:a": {}, "f:b": {"f:c": {}, "f:d": {}}}}))]);
    }

    #[test]
    fn defaults_of_the_schema_are_nobodys() {
        let wanted = object(&json!({}), &json!({}), &json!({"a": 1}), "kubeop-manager");
        let after = object(&json!({}), &json!({}), &json!({"a": 1, "replicas": 1}), "kubeop-manager");
        assert!(strip(&after, &wanted).is_none());
    }

    #[test]
    fn an_edit_behind_our_back_is_told_from_defaults() {
        let ours = json!({"app.kubeop.io/tenant-id": "1"});
        let wanted = object(
            &ours,
            &json!({"kubeop.io/wanted": "3"}),
            &json!({"a": {"b": [1, {"c": 2}]}, "none": null}),
            "kubeop-manager",
        );
        let live = |labels: &Value, annotations: &Value, spec: &Value, by: &str| {
            Live::new(Kind::Tenant, object(labels, annotations, spec, by)).unwrap()
        };
        let (marks, spec) =
            (json!({"kubeop.io/wanted": "3"}), json!({"a": {"b": [1, {"c": 2, "default": true}]}, "d": 4}));
        assert!(!differs(&live(&ours, &marks, &spec, "kubeop-manager"), &wanted));
        for (labels, annotations, spec, by) in [
            (&json!({}), &marks, &spec, "kubeop-manager"),
            (&ours, &json!({"kubeop.io/wanted": "2"}), &spec, "kubeop-manager"),
            (&ours, &marks, &json!({"a": {"b": [1, {"c": 3}]}}), "kubeop-manager"),
            (&ours, &marks, &json!({"a": {"b": [1]}}), "kubeop-manager"),
            (&ours, &marks, &json!({}), "kubeop-manager"),
            // Added by somebody else, and so not a default.
            (&ours, &marks, &spec, "kubectl-edit"),
        ] {
            assert!(differs(&live(labels, annotations, spec, by), &wanted), "{labels} {annotations} {spec} {by}");
        }
    }

    #[test]
    fn only_our_own_entity_is_written() {
        let mark = |labels: Value| Live::new(Kind::Tenant, object(&labels, &json!({}), &json!({}), "x")).unwrap();
        let id = "1".to_owned();
        assert!(
            foreign(
                &mark(json!({"app.kubernetes.io/managed-by": "kubeop-manager", "app.kubeop.io/tenant-id": "1"})),
                Some(&id)
            )
            .is_none()
        );
        assert!(
            foreign(
                &mark(json!({"app.kubernetes.io/managed-by": "kubeop-manager", "app.kubeop.io/tenant-id": "2"})),
                Some(&id)
            )
            .is_some()
        );
        assert!(foreign(&mark(json!({"app.kubeop.io/tenant-id": "1"})), Some(&id)).is_some());
        assert!(foreign(&mark(json!({"app.kubernetes.io/managed-by": "kubeop-manager"})), None).is_some());
    }
}
