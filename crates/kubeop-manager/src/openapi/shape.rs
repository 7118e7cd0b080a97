//! What the generator cannot say by itself, put into the document as JSON: enumerations, bodies per operation, merge patches.
//!
//! Invariant: a pure function of the document; whatever a body's schema refuses the operation refuses too.

use serde_json::{Map, Value, json};
use std::collections::BTreeSet;

const SCHEMAS: &str = "#/components/schemas/";
const JSON: &str = "application/json";
const MERGE_PATCH: &str = "application/merge-patch+json";

/// The end of the name of a change that names its item.
const BY_ID: &str = "ById";

/// What is created by POST: input, name of the schema of a new one, what has to be given.
const NEW: [(&str, &str, &[&str]); 4] = [
    ("ClusterInput", "NewCluster", &["name", "kubeconfig"]),
    ("TenantInput", "NewTenant", &["name", "cluster_id"]),
    ("ProjectInput", "NewProject", &["name", "tenant_id"]),
    ("AppInput", "NewApp", &["name", "project_id"]),
];

/// Completes the document.
pub(super) fn complete(document: &mut Value) {
    fold_constants(document);
    let Some(schemas) = document.pointer("/components/schemas").and_then(Value::as_object) else { return };
    let mut schemas = schemas.clone();
    share_spec(&mut schemas);
    split_image(&mut schemas);
    schemas.values_mut().for_each(plain);
    for (input, new, required) in NEW {
        if let Some(schema) = schemas.get(input).cloned() {
            schemas.insert(new.to_owned(), new_of(schema.clone(), required));
            let patch = patch_of(schema.clone(), &schemas);
            schemas.insert(format!("{}{BY_ID}", patch_name(input)), by_id(patch.clone()));
            schemas.insert(patch_name(input), patch);
            schemas.insert(format!("{input}{BY_ID}"), by_id(schema));
        }
    }
    if let Some(paths) = document.get_mut("paths").and_then(Value::as_object_mut) {
        for (path, item) in paths {
            for (method, operation) in item.as_object_mut().into_iter().flatten() {
                describe_body(method, path, operation);
            }
        }
    }
    if let Some(place) = document.pointer_mut("/components/schemas") {
        *place = Value::Object(schemas);
    }
    while drop_unused(document) {}
}

/// `oneOf` constants, as which an enumeration with described members comes out, is an `enum`: clients are made of that.
fn fold_constants(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(fold_constants),
        Value::Object(fields) => {
            fields.values_mut().for_each(fold_constants);
            let Some(members) = fields.get("oneOf").and_then(Value::as_array).cloned() else { return };
            let constants: Vec<Value> = members.iter().filter_map(|member| member.get("const").cloned()).collect();
            if constants.len() != members.len() || !constants.iter().all(Value::is_string) {
                return;
            }
            let told: Vec<String> = members.iter().filter_map(member_told).collect();
            let about = fields.get("description").and_then(Value::as_str).unwrap_or_default().to_owned();
            fields.remove("oneOf");
            fields.insert("type".to_owned(), "string".into());
            fields.insert("enum".to_owned(), constants.into());
            fields.insert("description".to_owned(), format!("{about}\n\n{}", told.join("\n")).trim().into());
        }
        _ => {}
    }
}

fn member_told(member: &Value) -> Option<String> {
    Some(format!("- `{}`: {}", member.get("const")?.as_str()?, member.get("description")?.as_str()?))
}

/// The spec of an App is one schema, wherever it is.
fn share_spec(schemas: &mut Map<String, Value>) {
    let spec = schemas.get_mut("App").and_then(|app| app.pointer_mut("/properties/spec"));
    let Some(spec) = spec else { return };
    let reference = json!({"$ref": format!("{SCHEMAS}AppSpec")});
    let told = "The App resource's spec.";
    let shared = std::mem::replace(spec, json!({"description": told, "allOf": [reference]}));
    schemas.insert("AppSpec".to_owned(), shared);
    if let Some(spec) = schemas.get_mut("AppInput").and_then(|input| input.pointer_mut("/properties/spec")) {
        *spec = json!({"description": told, "anyOf": [reference, {"type": "null"}]});
    }
}

/// What Kubernetes says in words of its own, in those that everybody reads.
fn plain(schema: &mut Value) {
    match schema {
        Value::Array(items) => items.iter_mut().for_each(plain),
        Value::Object(fields) => {
            fields.values_mut().for_each(plain);
            if fields.contains_key("x-kubernetes-int-or-string") {
                fields.insert("anyOf".to_owned(), json!([{"type": "integer"}, {"type": "string"}]));
            }
            fields.retain(|key, _| !key.starts_with("x-kubernetes-"));
        }
        _ => {}
    }
}

/// An image is a reference or a block, which the custom resource's schema cannot say.
fn split_image(schemas: &mut Map<String, Value>) {
    let Some(mut block) = schemas.get("ImageSource").cloned() else { return };
    if let Some(fields) = block.as_object_mut() {
        fields.insert("type".to_owned(), "object".into());
    }
    schemas.insert("ImageBlock".to_owned(), block);
    let either = json!({
        "description": "A reference, or a block.",
        "oneOf": [{"type": "string"}, {"$ref": format!("{SCHEMAS}ImageBlock")}],
    });
    schemas.insert("ImageSource".to_owned(), either);
}

/// The schema of a new one: what has to be given is required and not null; the id is the server's.
fn new_of(mut input: Value, required: &[&str]) -> Value {
    let Some(fields) = input.as_object_mut() else { return input };
    fields.insert("required".to_owned(), json!(required));
    if let Some(properties) = fields.get_mut("properties").and_then(Value::as_object_mut) {
        properties.remove("id");
        for name in required {
            if let Some(property) = properties.get_mut(*name) {
                not_null(property);
            }
        }
    }
    input
}

/// The schema of a change that names its item.
fn by_id(mut change: Value) -> Value {
    if let Some(id) = change.pointer_mut("/properties/id") {
        not_null(id);
    }
    if let Some(fields) = change.as_object_mut() {
        fields.insert("required".to_owned(), json!(["id"]));
    }
    change
}

fn patch_name(input: &str) -> String {
    format!("{}Patch", input.trim_end_matches("Input"))
}

/// The schema of a merge patch (RFC 7386): nothing is required, and null removes.
fn patch_of(mut input: Value, schemas: &Map<String, Value>) -> Value {
    let Some(fields) = input.as_object_mut() else { return input };
    fields.remove("required");
    fields.insert(
        "description".to_owned(),
        "A JSON merge patch (RFC 7386): what is absent stays, `null` removes.".into(),
    );
    if let Some(properties) = fields.get_mut("properties").and_then(Value::as_object_mut) {
        for property in properties.values_mut() {
            let told = property.get("description").cloned();
            *property = patched(resolved(property, schemas));
            if let (Some(told), Some(fields)) = (told, property.as_object_mut()) {
                fields.insert("description".to_owned(), told);
            }
        }
    }
    input
}

/// What a property means, behind a reference and behind "or null".
fn resolved(property: &Value, schemas: &Map<String, Value>) -> Value {
    let inner = ["anyOf", "allOf"].iter().find_map(|key| property.get(*key)?.as_array()?.first()).unwrap_or(property);
    let referred = inner.get("$ref").and_then(Value::as_str).and_then(|name| schemas.get(name.strip_prefix(SCHEMAS)?));
    referred.unwrap_or(inner).clone()
}

fn patched(schema: Value) -> Value {
    match schema.get("additionalProperties") {
        Some(values) if values.is_object() => {
            let mut values = values.clone();
            or_null(&mut values);
            json!({"type": ["object", "null"], "additionalProperties": values})
        }
        // Whatever is in it may be left out or null.
        _ if schema.get("properties").is_some() => json!({"type": ["object", "null"], "additionalProperties": true}),
        _ => {
            let mut schema = schema;
            or_null(&mut schema);
            schema
        }
    }
}

fn or_null(schema: &mut Value) {
    let Some(kind) = schema.get_mut("type") else { return };
    match kind {
        Value::String(one) if one != "null" => *kind = json!([one, "null"]),
        Value::Array(all) if !all.iter().any(|one| one == "null") => all.push("null".into()),
        _ => {}
    }
}

/// Takes null away from what a schema allows.
pub(crate) fn not_null(schema: &mut Value) {
    let Some(fields) = schema.as_object_mut() else { return };
    if let Some(Value::Array(all)) = fields.get_mut("type") {
        all.retain(|one| one != "null");
        if let [one] = all.as_slice() {
            let one = one.clone();
            fields.insert("type".to_owned(), one);
        }
    }
    if let Some(Value::Array(all)) = fields.get_mut("anyOf") {
        all.retain(|one| one.get("type").and_then(Value::as_str) != Some("null"));
        if let [one] = all.as_slice() {
            let one = one.clone();
            fields.remove("anyOf");
            // Beside a reference nothing may stand for every reader.
            fields.insert("allOf".to_owned(), json!([one]));
        }
    }
}

/// Of what is sent: a member that is not always there is absent when there is nothing, never null.
pub(crate) fn absent_not_null(schema: &mut Value) {
    match schema {
        Value::Array(items) => items.iter_mut().for_each(absent_not_null),
        Value::Object(fields) => {
            let required = fields.get("required").cloned().unwrap_or_default();
            let is_required = |name: &str| required.as_array().is_some_and(|all| all.iter().any(|one| one == name));
            if let Some(properties) = fields.get_mut("properties").and_then(Value::as_object_mut) {
                properties
                    .iter_mut()
                    .filter(|(name, _)| !is_required(name))
                    .for_each(|(_, property)| not_null(property));
            }
            fields.values_mut().for_each(absent_not_null);
        }
        _ => {}
    }
}

/// Gives the body of an operation the schema of just this operation.
fn describe_body(method: &str, path: &str, operation: &mut Value) {
    let Some(content) = operation.pointer_mut("/requestBody/content").and_then(Value::as_object_mut) else { return };
    let Some(body) = content.get_mut(JSON) else { return };
    let Some(input) = body.pointer("/schema/$ref").and_then(Value::as_str).and_then(|name| name.strip_prefix(SCHEMAS))
    else {
        return;
    };
    let Some((input, new, _)) = NEW.iter().find(|(name, ..)| *name == input) else { return };
    let name = match method {
        "post" => (*new).to_owned(),
        "patch" => patch_name(input),
        _ => (*input).to_owned(),
    };
    // In the collection the body says which one.
    let suffix = if method != "post" && !path.ends_with("/{id}") { BY_ID } else { "" };
    let schema = json!({"$ref": format!("{SCHEMAS}{name}{suffix}")});
    if let Some(fields) = body.as_object_mut() {
        fields.insert("schema".to_owned(), schema);
    }
    if method == "patch" {
        let same = body.clone();
        content.insert(MERGE_PATCH.to_owned(), same);
    }
}

/// Drops the schemas that nothing refers to; whether there were any.
fn drop_unused(document: &mut Value) -> bool {
    let mut used = BTreeSet::new();
    note_references(document, &mut used);
    let Some(schemas) = document.pointer_mut("/components/schemas").and_then(Value::as_object_mut) else {
        return false;
    };
    let before = schemas.len();
    schemas.retain(|name, _| used.contains(name));
    schemas.len() < before
}

fn note_references(value: &Value, used: &mut BTreeSet<String>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| note_references(item, used)),
        Value::Object(fields) => {
            let name = fields.get("$ref").and_then(Value::as_str).and_then(|name| name.strip_prefix(SCHEMAS));
            used.extend(name.map(ToOwned::to_owned));
            fields.values().for_each(|inner| note_references(inner, used));
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_enumeration_with_described_members_was_no_enumeration() {
        let mut schema = json!({"description": "About.", "oneOf": [
            {"type": "string", "const": "a", "description": "One."}, {"type": "string", "const": "b"},
        ]});
        fold_constants(&mut schema);
        assert_eq!(schema, json!({"description": "About.\n\n- `a`: One.", "type": "string", "enum": ["a", "b"]}));
        let other = json!({"oneOf": [{"type": "string", "const": "a"}, {"type": "integer"}]});
        let mut same = other.clone();
        fold_constants(&mut same);
        assert_eq!(same, other);
    }

    #[test]
    fn a_patch_may_say_null_wherever_it_removes() {
        let schemas = json!({
            "Map": {"type": "object", "additionalProperties": {"type": "string"}},
            "Spec": {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]},
        });
        let input = json!({"type": "object", "required": ["name"], "properties": {
            "name": {"type": "string", "description": "Told."},
            "map": {"anyOf": [{"$ref": "#/components/schemas/Map"}, {"type": "null"}]},
            "spec": {"anyOf": [{"$ref": "#/components/schemas/Spec"}, {"type": "null"}]},
        }});
        let patch = patch_of(input, schemas.as_object().unwrap());
        assert_eq!(
            patch["properties"],
            json!({
                "name": {"type": ["string", "null"], "description": "Told."},
                "map": {"type": ["object", "null"], "additionalProperties": {"type": ["string", "null"]}},
                "spec": {"type": ["object", "null"], "additionalProperties": true},
            })
        );
        assert!(patch.get("required").is_none());
    }
}
