//! The examples of the document against its schemas, and the schemas against what clients can be made of.
//!
//! Invariant: what is shown as an example is one.

use serde_json::{Value, json};

fn document() -> Value {
    serde_json::from_str(&kubeop_manager::openapi::json().unwrap()).unwrap()
}

/// The keywords that the document's schemas use, checked; says what is wrong at which place.
struct Checker<'a>(&'a Value);

impl Checker<'_> {
    fn check(&self, schema: &Value, value: &Value, at: &str) -> Result<(), String> {
        if let Some(name) = schema["$ref"].as_str() {
            return self.check(self.0.pointer(&name[1..]).unwrap(), value, at);
        }
        let wrong = |why: String| Err(format!("{at}: {value} {why}"));
        let all = |key: &str| schema[key].as_array().cloned();
        let kinds = schema["type"].as_array().cloned().unwrap_or_else(|| vec![schema["type"].clone()]);
        if !schema["type"].is_null() && !kinds.iter().any(|kind| is_of(kind.as_str().unwrap(), value)) {
            return wrong(format!("is not of type {}", schema["type"]));
        }
        if all("enum").is_some_and(|members| !members.contains(value))
            || schema.get("const").is_some_and(|one| one != value)
        {
            return wrong(format!("is not among {}", schema["enum"]));
        }
        for part in all("allOf").unwrap_or_default() {
            self.check(&part, value, at)?;
        }
        for (key, most) in [("anyOf", usize::MAX), ("oneOf", 1)] {
            let Some(parts) = all(key) else { continue };
            let fits = parts.iter().filter(|part| self.check(part, value, at).is_ok()).count();
            if fits == 0 || fits > most {
                return wrong(format!("fits {fits} of {key}"));
            }
        }
        match value {
            Value::Object(fields) => self.check_fields(schema, fields, at),
            Value::Array(items) => {
                items.iter().try_for_each(|item| self.check(&schema["items"], item, &format!("{at}[]")))
            }
            Value::Number(number) => {
                let number = number.as_f64().unwrap();
                let too_small = schema["minimum"].as_f64().is_some_and(|least| number < least);
                let too_large = schema["maximum"].as_f64().is_some_and(|most| number > most);
                if too_small || too_large { wrong("is out of range".to_owned()) } else { Ok(()) }
            }
            Value::String(text) => match schema["format"].as_str() {
                Some("uuid") if uuid::Uuid::try_parse(text).is_err() => wrong("is not a UUID".to_owned()),
                Some("date-time") if text.parse::<jiff::Timestamp>().is_err() => wrong("is not a time".to_owned()),
                _ => Ok(()),
            },
            _ => Ok(()),
        }
    }

    fn check_fields(&self, schema: &Value, fields: &serde_json::Map<String, Value>, at: &str) -> Result<(), String> {
        for name in schema["required"].as_array().into_iter().flatten() {
            if !fields.contains_key(name.as_str().unwrap()) {
                return Err(format!("{at}: {name} is missing"));
            }
        }
        for (name, value) in fields {
            let at = format!("{at}.{name}");
            match (schema["properties"].get(name), schema.get("additionalProperties")) {
                (Some(property), _) => self.check(property, value, &at)?,
                (None, Some(values)) if values.is_object() => self.check(values, value, &at)?,
                // Else a misspelt name would pass.
                (None, None) if schema.get("properties").is_some() => return Err(format!("{at}: is unknown")),
                _ => {}
            }
        }
        Ok(())
    }
}

fn is_of(kind: &str, value: &Value) -> bool {
    match kind {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        _ => panic!("unknown type {kind}"),
    }
}

fn walk<'a>(value: &'a Value, at: &str, see: &mut dyn FnMut(&str, &'a Value)) {
    see(at, value);
    match value {
        Value::Object(fields) => fields.iter().for_each(|(key, inner)| walk(inner, &format!("{at}/{key}"), see)),
        Value::Array(items) => items.iter().enumerate().for_each(|(n, inner)| walk(inner, &format!("{at}/{n}"), see)),
        _ => {}
    }
}

#[test]
fn every_example_is_valid_against_its_schema() {
    let document = document();
    let checker = Checker(&document);
    let (mut seen, mut wrong) = (0, Vec::new());
    walk(&document, "", &mut |at, value| {
        let Some(fields) = value.as_object() else { return };
        // Of a media type, parameter or header; of a schema.
        let pairs =
            match (fields.get("example"), fields.get("schema"), fields.get("examples").and_then(Value::as_array)) {
                (Some(example), Some(schema), _) => vec![(schema, example)],
                (_, None, Some(examples)) => examples.iter().map(|example| (value, example)).collect(),
                _ => return,
            };
        for (schema, example) in pairs {
            seen += 1;
            wrong.extend(checker.check(schema, example, at).err());
        }
    });
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(seen > 60, "{seen} examples");
}

/// The Python client of a stock generator could not read `Phase` and `InvoiceStatus`.
#[test]
fn enumerations_came_out_as_choices_of_constants() {
    let document = document();
    walk(&document, "", &mut |at, value| {
        let members = value.get("oneOf").and_then(Value::as_array);
        let constants = members.is_some_and(|members| members.iter().all(|member| member.get("const").is_some()));
        assert!(!constants, "{at} is an enumeration");
    });
    assert_eq!(document["components"]["schemas"]["Phase"]["enum"][0], "Pending");
    assert_eq!(document["components"]["schemas"]["InvoiceStatus"]["enum"], json!(["open", "grace", "closed"]));
}

#[test]
fn bodies_and_answers_say_what_is_required_and_what_may_be_null() {
    let document = document();
    let schema = |name: &str| &document["components"]["schemas"][name];
    let content = |path: &str, method: &str| &document["paths"][path][method]["requestBody"]["content"];
    for (path, name, required) in [
        ("/v1/clusters", "NewCluster", json!(["name", "kubeconfig"])),
        ("/v1/tenants", "NewTenant", json!(["name", "cluster_id"])),
        ("/v1/projects", "NewProject", json!(["name", "tenant_id"])),
        ("/v1/apps", "NewApp", json!(["name", "project_id"])),
    ] {
        let referred = format!("#/components/schemas/{name}");
        assert_eq!(content(path, "post")["application/json"]["schema"]["$ref"], referred);
        assert_eq!(schema(name)["required"], required);
        assert_eq!(schema(name)["properties"]["name"]["type"], "string");
        for path in [path.to_owned(), format!("{path}/{{id}}")] {
            let patch = content(&path, "patch");
            assert_eq!(patch["application/json"], patch["application/merge-patch+json"], "{path}");
        }
    }
    let nullable = |schema: &Value| schema["type"].as_array().is_some_and(|all| all.contains(&json!("null")));
    let labels = &schema("TenantPatch")["properties"]["labels"];
    assert!(nullable(labels) && nullable(&labels["additionalProperties"]), "{labels}");
    assert_eq!(schema("UsageSample")["required"], json!(["ts", "tenant_id", "cpu_milli", "mem_mib"]));
    // Always there, sometimes null; sometimes absent, never null.
    assert!(schema("Cluster")["required"].as_array().unwrap().contains(&json!("public_server")));
    assert!(nullable(&schema("Cluster")["properties"]["public_server"]));
    assert_eq!(schema("Invoice")["properties"]["number"]["type"], "integer");
    assert!(!schema("Invoice")["required"].as_array().unwrap().contains(&json!("number")));
    let served = |path: &str| document["paths"][path]["get"]["responses"]["200"]["content"].clone();
    assert_eq!(served("/openapi.json")["application/json"]["schema"], json!({"type": "object"}));
    assert_eq!(served("/metrics")["application/openmetrics-text"]["schema"], json!({"type": "string"}));
    let bounds = |path: &str, name: &str| {
        let all = document["paths"][path]["get"]["parameters"].as_array().unwrap();
        let found = all.iter().find(|parameter| parameter["name"] == name).unwrap();
        (found["schema"]["minimum"].as_i64().unwrap(), found["schema"]["maximum"].as_i64().unwrap())
    };
    assert_eq!(bounds("/v1/tenants", "limit"), (1, 1000));
    assert_eq!(bounds("/v1/tenants/{id}", "wait"), (0, 60));
    assert_eq!(bounds("/v1/kubeconfigs/project/{id}", "ttl_minutes"), (10, 1440));
}
