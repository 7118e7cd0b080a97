//! What is taken away, taken over and left alone.

use super::ownership::hand_over;
use super::*;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry;
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
    let (marks, spec) = (json!({"kubeop.io/wanted": "3"}), json!({"a": {"b": [1, {"c": 2, "default": true}]}, "d": 4}));
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
