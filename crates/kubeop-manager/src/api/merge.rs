//! PUT and PATCH of an item: what a change asks for, as one complete input.
//!
//! Invariant: PATCH is JSON merge patch (RFC 7386) on the item's mutable fields, read by the same code as PUT and POST.

use kubeop_api::tolerant;
use kubeop_core::{Error, Result};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

/// Applies a merge patch to the current input form of an item.
pub fn patched<T: Serialize + DeserializeOwned>(current: &T, patch: Value) -> Result<T> {
    let patch = tolerant::canonical_keys::<T>(patch)?;
    let mut target = serde_json::to_value(current).map_err(Error::internal)?;
    merge(&mut target, patch);
    tolerant::from_value(target)
}

/// RFC 7386 §2.
fn merge(target: &mut Value, patch: Value) {
    let Value::Object(patch) = patch else {
        *target = patch;
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Value::Object(fields) = target else { return };
    for (key, value) in patch {
        if value.is_null() {
            fields.remove(&key);
        } else {
            merge(fields.entry(key).or_insert(Value::Null), value);
        }
    }
}

/// Takes the id that a change of the collection names in its body.
pub fn id_in_body(id: Option<&String>) -> Result<String> {
    id.cloned().ok_or_else(|| Error::invalid("id: is required on a change of the collection"))
}

/// Refuses to change what cannot be changed; absent means unchanged.
pub fn unchanged(field: &str, asked: Option<&str>, current: &str) -> Result<()> {
    match asked {
        Some(asked) if asked != current => Err(Error::invalid(format!(
            "{field}: cannot be changed from {current:?} to {:?}",
            kubeop_core::id::shorten(asked)
        ))),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kubeop_api::tenant::TenantInput;
    use serde_json::json;

    #[test]
    fn the_examples_of_the_rfc() {
        for (mut target, patch, expected) in [
            (json!({"a": "b"}), json!({"a": "c"}), json!({"a": "c"})),
            (json!({"a": "b"}), json!({"a": null}), json!({})),
            (json!({"a": {"b": "c"}}), json!({"a": {"b": "d", "c": null}}), json!({"a": {"b": "d"}})),
            (json!({"a": [1]}), json!({"a": "c"}), json!({"a": "c"})),
            (json!(["a"]), json!({"a": {"b": null}}), json!({"a": {}})),
        ] {
            merge(&mut target, patch);
            assert_eq!(target, expected);
        }
    }

    #[test]
    fn a_patch_is_read_as_tolerantly_as_a_body() {
        let current: TenantInput =
            tolerant::from_value(json!({"name": "a", "quotas": {"cpu": "1", "memory": "1Gi"}})).unwrap();
        let changed = patched(&current, json!({"Quotas": {"cpu": null}, "labels": {"x": "y"}})).unwrap();
        assert_eq!(changed.quotas.unwrap().0.into_keys().collect::<Vec<_>>(), ["memory"]);
        assert!(patched(&current, json!({"quota": {}})).is_err());
    }
}
