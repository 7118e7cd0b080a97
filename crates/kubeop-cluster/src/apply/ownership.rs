//! Whose the fields of an object are: what the manager made is taken over for server-side apply, what others added to its own part is taken out.
//!
//! Invariant: fields outside the spec and the reserved marks are never touched.

use super::Live;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry;
use kube::ResourceExt;
use kube::core::DynamicObject;
use kubeop_crds::labels;
use serde_json::Value;

/// The live object as it has to be before an apply can take away what is no longer wanted; `None` if it is.
pub(super) fn prepared(live: &Live, wanted: &DynamicObject) -> Option<DynamicObject> {
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
pub(super) fn hand_over(entries: &mut Vec<ManagedFieldsEntry>) -> bool {
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
pub(super) fn strip(after: &DynamicObject, wanted: &DynamicObject) -> Option<DynamicObject> {
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
