//! PUT and PATCH of an item: what a change asks for, as one complete input.
//!
//! Invariant: PATCH is JSON merge patch (RFC 7386) on the item's mutable fields, read by the same code as PUT and POST.

use crate::http::body::{DEFAULT_LIMIT, read_value};
use crate::http::error::{ApiError, refuses};
use aide::OperationInput;
use aide::generate::GenContext;
use aide::openapi::Operation;
use axum::Json;
use axum::extract::{FromRequest, Request};
use axum::http::Method;
use kubeop_api::tolerant;
use kubeop_core::quota::canonical_key;
use kubeop_core::{Error, Result};
use schemars::JsonSchema;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use uuid::Uuid;

/// What a change of an item is: all of its mutable fields (PUT), or some (PATCH).
pub enum Change<T, const LIMIT: usize = DEFAULT_LIMIT> {
    /// Replaces.
    Replace(Box<T>),
    /// Patches.
    Patch(Value),
}

impl<T: DeserializeOwned, const LIMIT: usize> Change<T, LIMIT> {
    /// The fields that a patch speaks of, by canonical name; `None` for a replacement, which speaks of all.
    pub fn stated(&self) -> Result<Option<Value>> {
        match self {
            Self::Replace(_) => Ok(None),
            Self::Patch(patch) => tolerant::canonical_keys::<T>(patch.clone()).map(Some),
        }
    }

    /// The id that a change of the collection names in its body.
    pub fn id(&self, of_input: impl Fn(&T) -> Option<String>) -> Result<String> {
        let id = match self {
            Self::Replace(input) => of_input(input),
            Self::Patch(_) => self.stated()?.and_then(|fields| Some(fields.get("id")?.as_str()?.to_owned())),
        };
        id.ok_or_else(|| Error::invalid("id: is required on a change of the collection"))
    }

    /// The complete input that the change asks for, given the current one.
    pub fn onto(self, current: &T) -> Result<T>
    where
        T: Serialize,
    {
        match self {
            Self::Replace(input) => Ok(*input),
            Self::Patch(patch) => patched(current, patch),
        }
    }
}

impl<S: Send + Sync, T: DeserializeOwned, const LIMIT: usize> FromRequest<S> for Change<T, LIMIT> {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> Result<Self, ApiError> {
        if request.method() == Method::PATCH {
            let types = ["application/json", "application/merge-patch+json"];
            return Ok(Self::Patch(read_value(request, LIMIT, &types).await?));
        }
        let value = read_value(request, LIMIT, &["application/json"]).await?;
        Ok(Self::Replace(Box::new(tolerant::from_value(value)?)))
    }
}

impl<T: JsonSchema, const LIMIT: usize> OperationInput for Change<T, LIMIT> {
    refuses!(400, 404, 408, 413, 415);

    fn operation_input(ctx: &mut GenContext, operation: &mut Operation) {
        Json::<T>::operation_input(ctx, operation);
    }
}

/// Applies a merge patch to the current input form of an item.
fn patched<T: Serialize + DeserializeOwned>(current: &T, patch: Value) -> Result<T> {
    let mut patch = tolerant::canonical_keys::<T>(patch)?;
    let mut target = serde_json::to_value(current).map_err(Error::internal)?;
    if let (Some(Value::Object(held)), Some(Value::Object(asked))) = (target.get_mut("quotas"), patch.get_mut("quotas"))
    {
        one_spelling(held, asked);
    }
    merge(&mut target, patch);
    tolerant::from_value(target)
}

/// Spells the quota keys that are there as the patch does: `cpu` and `requests.cpu` are one key.
fn one_spelling(held: &mut Map<String, Value>, asked: &Map<String, Value>) {
    for key in asked.keys() {
        let same = held.keys().find(|held| *held != key && canonical_key(held) == canonical_key(key)).cloned();
        if let Some(value) = same.and_then(|same| held.remove(&same)) {
            held.entry(key.clone()).or_insert(value);
        }
    }
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

/// The same of an id, which can be written in several ways.
pub fn unchanged_id(field: &str, asked: Option<&str>, current: Uuid) -> Result<()> {
    match asked {
        Some(asked) if Uuid::try_parse(asked) == Ok(current) => Ok(()),
        other => unchanged(field, other, &current.to_string()),
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
    fn an_id_in_upper_case_was_taken_for_another() {
        let id = Uuid::from_u128(0x0198_8c9d_2b1e_7f00_8a11_1d5c_2f9e_4a21);
        for same in [None, Some(id.to_string()), Some(id.to_string().to_uppercase()), Some(id.simple().to_string())] {
            unchanged_id("id", same.as_deref(), id).unwrap();
        }
        for other in ["", "x", "01988c9d-2b1e-7f00-8a11-1d5c2f9e4a22"] {
            let told = unchanged_id("id", Some(other), id).unwrap_err();
            assert!(told.message().starts_with("id: cannot be changed from \"01988c9d-"), "{told}");
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

    #[test]
    fn a_quota_key_is_one_key_in_any_spelling() {
        let current: TenantInput =
            tolerant::from_value(json!({"name": "a", "quotas": {"cpu": "1", "requests.memory": "1Gi"}})).unwrap();
        let quotas =
            |patch: Value| serde_json::to_value(patched(&current, json!({"quotas": patch})).unwrap().quotas).unwrap();
        assert_eq!(quotas(json!({"requests.cpu": "2"})), json!({"requests.cpu": "2", "requests.memory": "1Gi"}));
        assert_eq!(quotas(json!({"requests.cpu": null, "memory": null})), json!({}));
    }
}
