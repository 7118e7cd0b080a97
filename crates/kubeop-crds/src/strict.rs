//! Strict reading of a spec by the schema of its kind.
//!
//! Invariant: what the API server would prune, or refuse for its type, is an error here that names the field by its path.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use kube::CustomResourceExt;
use kubeop_core::id::shorten;
use kubeop_core::{Error, Result};
use serde::de::DeserializeOwned;
use serde_json::Value;

/// The schema of kind `K`. Costs milliseconds: keep it.
pub(crate) fn schema_of<K: CustomResourceExt>() -> Option<JSONSchemaProps> {
    K::crd().spec.versions.into_iter().next()?.schema?.open_api_v3_schema
}

/// Reads `value` as the part at path `field` (`spec`), which `schema` describes.
///
/// # Errors
/// 400 that names the field which is unknown (and the nearest known one), missing, or of the wrong type.
pub(crate) fn parse_strict<T: DeserializeOwned>(schema: &JSONSchemaProps, value: &Value, field: &str) -> Result<T> {
    let mut value = value.clone();
    drop_nulls(schema, &mut value);
    check(schema, &value, field)?;
    T::deserialize(value).map_err(|error| Error::invalid(format!("{field}: {error}")))
}

/// Takes a null in a known field as its absence, as the API server does.
fn drop_nulls(schema: &JSONSchemaProps, value: &mut Value) {
    match (value, &schema.properties, &schema.items) {
        (Value::Object(fields), Some(known), _) => {
            fields.retain(|name, value| !(value.is_null() && known.contains_key(name)));
            for (name, value) in fields {
                if let Some(property) = known.get(name) {
                    drop_nulls(property, value);
                }
            }
        }
        (Value::Array(items), _, Some(JSONSchemaPropsOrArray::Schema(item))) => {
            for value in items {
                drop_nulls(item, value);
            }
        }
        _ => {}
    }
}

fn check(schema: &JSONSchemaProps, value: &Value, path: &str) -> Result<()> {
    check_type(schema, value, path)?;
    if let (Value::Array(items), Some(JSONSchemaPropsOrArray::Schema(item))) = (value, &schema.items) {
        for (index, value) in items.iter().enumerate() {
            check(item, value, &format!("{path}[{index}]"))?;
        }
    }
    let Value::Object(fields) = value else { return Ok(()) };
    let known = schema.properties.as_ref();
    for name in schema.required.iter().flatten() {
        if fields.get(name).is_none_or(Value::is_null) {
            return Err(Error::invalid(format!("{path}.{name} is missing")));
        }
    }
    for (name, value) in fields {
        let path = format!("{path}.{}", shorten(name));
        if let Some(property) = known.and_then(|known| known.get(name)) {
            check(property, value, &path)?;
        } else if let Some(known) = known {
            return Err(Error::invalid(format!("{path} is not a known field{}", hint(name, known.keys()))));
        } else if let Some(JSONSchemaPropsOrBool::Schema(entry)) = &schema.additional_properties {
            check(entry, value, &path)?;
        } else if schema.x_kubernetes_preserve_unknown_fields != Some(true) {
            return Err(Error::invalid(format!("{path} is not a known field")));
        }
    }
    Ok(())
}

fn check_type(schema: &JSONSchemaProps, value: &Value, path: &str) -> Result<()> {
    let found = match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    };
    let (fits, wanted) = match schema.type_.as_deref() {
        Some("string") => (value.is_string(), "a text"),
        Some("integer") => (value.is_i64() || value.is_u64(), "a whole number"),
        Some("number") => (value.is_number(), "a number"),
        Some("boolean") => (value.is_boolean(), "true or false"),
        Some("array") => (value.is_array(), "a list"),
        Some("object") => (value.is_object(), "an object"),
        _ if schema.x_kubernetes_int_or_string == Some(true) => {
            (value.is_number() || value.is_string(), "a number or a text")
        }
        _ if schema.properties.is_some() => (value.is_object() || value.is_string(), "a text or an object"),
        _ => (true, ""),
    };
    if !fits {
        return Err(Error::invalid(format!("{path} is {found}: {wanted} is needed")));
    }
    if let (Value::String(text), Some(allowed)) = (value, &schema.enum_) {
        let allowed: Vec<&str> = allowed.iter().filter_map(|json| json.0.as_str()).collect();
        if !allowed.contains(&text.as_str()) {
            return Err(Error::invalid(format!("{path} is {:?}: {} is needed", shorten(text), allowed.join(", "))));
        }
    }
    check_bounds(schema, value, path)
}

fn check_bounds(schema: &JSONSchemaProps, value: &Value, path: &str) -> Result<()> {
    let fail = |why: String| Err(Error::invalid(format!("{path}: {why}")));
    let outside =
        |number: f64| schema.minimum.is_some_and(|l| number < l) || schema.maximum.is_some_and(|m| number > m);
    if value.as_f64().is_some_and(outside) {
        let (least, most) = (schema.minimum.unwrap_or(f64::MIN), schema.maximum.unwrap_or(f64::MAX));
        return fail(format!("{value} is out of range: {least} to {most} is allowed"));
    }
    let (size, least, most, noun) = match value {
        Value::String(text) => (text.chars().count(), schema.min_length, schema.max_length, "characters"),
        Value::Array(items) => (items.len(), schema.min_items, schema.max_items, "entries"),
        Value::Object(fields) => (fields.len(), schema.min_properties, schema.max_properties, "entries"),
        _ => return Ok(()),
    };
    let size = i64::try_from(size).unwrap_or(i64::MAX);
    if let Some(least) = least.filter(|least| size < *least) {
        return fail(format!("{size} {noun} are too few: at least {least} are needed"));
    }
    if let Some(most) = most.filter(|most| size > *most) {
        return fail(format!("{size} {noun} are too many: at most {most} are allowed"));
    }
    Ok(())
}

/// The known name nearest to an unknown one, if it is near enough to be a slip.
fn hint<'a>(name: &str, known: impl Iterator<Item = &'a String>) -> String {
    let folded = fold(name);
    let nearest = known.map(|candidate| (distance(&folded, &fold(candidate)), candidate)).min();
    match nearest {
        Some((steps, candidate)) if steps <= 2.max(candidate.len() / 3) => format!(": did you mean {candidate}?"),
        _ => String::new(),
    }
}

fn fold(name: &str) -> Vec<char> {
    name.chars().filter(|c| !matches!(c, '_' | '-')).flat_map(char::to_lowercase).take(64).collect()
}

/// Levenshtein distance, row by row.
fn distance(a: &[char], b: &[char]) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut next = vec![i + 1];
        for ((y, window), left) in b.iter().zip(row.windows(2)).zip(1..) {
            let &[diagonal, above] = window else { continue };
            let before = next.get(left - 1).copied().unwrap_or(usize::MAX - 1);
            next.push((diagonal + usize::from(x != y)).min(above + 1).min(before + 1));
        }
        row = next;
    }
    row.last().copied().unwrap_or(a.len())
}

#[cfg(test)]
mod tests {
    use crate::AppSpec;
    use serde_json::json;

    #[test]
    fn the_contract_s_example_parses_and_comes_back() {
        let spec = json!({
            "delivery": {"kind": "Image", "image": {
                "ref": "docker.io/library/nginx:1.25", "replicas": 2,
                "ports": [{"name": "http", "containerPort": 8080, "servicePort": 80}],
                "command": ["a"], "args": ["b"],
                "env": [{"name": "A", "value": "b"}, {"name": "C", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}],
                "resources": {"preset": "small", "limits": {"cpu": 2, "memory": "1Gi"}},
                "probes": {"readiness": {"httpGet": {"path": "/", "port": "http"}}},
                "rollout": {"maxSurge": "25%", "maxUnavailable": 0, "progressDeadlineSeconds": 600},
                "configMaps": [{"name": "c", "mountPath": "/etc/c"}], "secrets": [{"name": "s"}], "volumes": [{"claim": "d", "mountPath": "/d"}],
            }},
            "host": "web.local", "hosts": ["www.web.local", "web.local"],
            "hooks": {"pre": [{"name": "migrate", "image": "nginx", "command": ["x"], "timeoutSeconds": 600, "backoffLimit": 0}], "post": []},
        });
        let parsed = AppSpec::parse_strict(&spec).unwrap();
        assert_eq!(parsed.host_texts(), ["web.local", "www.web.local"]);
        let again = AppSpec::parse_strict(&serde_json::to_value(&parsed).unwrap()).unwrap();
        assert_eq!(again, parsed);
    }

    #[test]
    fn helm_values_and_raw_manifests_are_free() {
        for good in [
            json!({"delivery": {"image": "nginx"}}),
            json!({"delivery": {"helm": {"oci": "oci://x/y", "values": {"any": {"thing": [1, null]}}}}}),
            json!({"delivery": {"raw": {"manifests": [{"kind": "ConfigMap", "x": 1}, "kind: Secret"]}}}),
            json!({"delivery": {"git": {"url": "https://x/y", "ref": {"tag": "v1"}, "kind": "Kustomize"}}, "hooks": null, "hosts": null}),
            json!({"delivery": {"kind": null, "image": {"ref": "nginx", "ports": null, "env": [{"name": "A", "value": null}]}}}),
        ] {
            AppSpec::parse_strict(&good).unwrap_or_else(|error| panic!("{good}: {error}"));
        }
    }

    #[test]
    fn the_field_at_fault_is_named() {
        let block = |field: serde_json::Value| {
            let mut block = json!({"ref": "nginx"});
            block.as_object_mut().unwrap().extend(field.as_object().unwrap().clone());
            json!({"delivery": {"image": block}})
        };
        for (bad, message) in [
            (json!({"delivery": {"image": "a"}, "hostz": []}), "spec.hostz is not a known field: did you mean host?"),
            (json!({"delivery": {"imagen": "a"}}), "spec.delivery.imagen is not a known field: did you mean image?"),
            (
                block(json!({"Replicas": 2})),
                "spec.delivery.image.Replicas is not a known field: did you mean replicas?",
            ),
            (block(json!({"zzzzzzzzzzz": 2})), "spec.delivery.image.zzzzzzzzzzz is not a known field"),
            (block(json!({"replicas": "2"})), "spec.delivery.image.replicas is a text: a whole number is needed"),
            (
                block(json!({"replicas": 1001})),
                "spec.delivery.image.replicas: 1001 is out of range: 0 to 1000 is allowed",
            ),
            (block(json!({"ports": [{"name": "http"}]})), "spec.delivery.image.ports[0].containerPort is missing"),
            (
                block(json!({"resources": {"preset": "huge"}})),
                "spec.delivery.image.resources.preset is \"huge\": nano, small, medium, large is needed",
            ),
            (json!({"delivery": {"image": {"replicas": 1}}}), "spec.delivery.image.ref is missing"),
            (json!({"delivery": {"image": 5}}), "spec.delivery.image is a number: a text or an object is needed"),
            (json!({}), "spec.delivery is missing"),
            (json!([]), "spec is a list: an object is needed"),
        ] {
            assert_eq!(AppSpec::parse_strict(&bad).unwrap_err().message(), message, "{bad}");
        }
    }
}
