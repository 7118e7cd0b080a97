//! The OpenAPI 3.1 document, from the handlers' types.
//!
//! Invariant: the only module that knows the generator; the document is made once and served as bytes.

pub(crate) mod headers;
mod hooks;
pub(crate) mod shape;
mod words;

use crate::router;
use aide::openapi::{Components, Info, License, OpenApi, ReferenceOr, SecurityScheme};
use indexmap::IndexMap;

const ABOUT: &str = "Clusters, tenants, projects and apps; policy, access, usage and invoices. Field names of requests are read ignoring case, \
`_` and `-`; an unknown one is a 400, read-only ones are ignored, so that the body of a GET can be PUT back. Every error is \
`{\"error\": sentence}`. Lists are arrays, newest last; `Link` with rel=next leads on. Every answer carries `X-Request-Id`.";

/// The document of the whole API, as the generator makes it.
fn document() -> OpenApi {
    aide::generate::infer_responses(true);
    aide::generate::extract_schemas(true);
    let mut api = OpenApi {
        info: Info {
            title: "kubeOP".to_owned(),
            summary: Some("Multi-tenant application platform for Kubernetes".to_owned()),
            version: "v1".to_owned(),
            description: Some(ABOUT.to_owned()),
            license: Some(License {
                name: "Apache-2.0".to_owned(),
                identifier: Some("Apache-2.0".to_owned()),
                ..License::default()
            }),
            ..Info::default()
        },
        components: Some(Components::default()),
        ..OpenApi::default()
    };
    let _ = router::routes().finish_api(&mut api);
    let components = api.components.get_or_insert_with(Components::default);
    components.security_schemes.insert(
        "bearer".to_owned(),
        ReferenceOr::Item(SecurityScheme::Http {
            scheme: "bearer".to_owned(),
            bearer_format: Some("JWT".to_owned()),
            description: Some("A token signed by the manager (HS256) with a `role` claim.".to_owned()),
            extensions: IndexMap::default(),
        }),
    );
    headers::describe(&mut api);
    words::add(&mut api);
    hooks::add(&mut api);
    api.security = vec![IndexMap::from_iter([("bearer".to_owned(), Vec::new())])];
    api
}

/// The document as JSON.
///
/// # Errors
/// `Internal` if it cannot be written, which a test excludes.
pub fn json() -> kubeop_core::Result<String> {
    let mut document = serde_json::to_value(document()).map_err(kubeop_core::Error::internal)?;
    shape::complete(&mut document);
    let mut text = serde_json::to_string_pretty(&document).map_err(kubeop_core::Error::internal)?;
    text.push('\n');
    Ok(text)
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    fn references<'a>(value: &'a Value, found: &mut Vec<&'a str>) {
        match value {
            Value::Object(map) => {
                found.extend(map.get("$ref").and_then(Value::as_str));
                map.values().for_each(|inner| references(inner, found));
            }
            Value::Array(items) => items.iter().for_each(|inner| references(inner, found)),
            _ => {}
        }
    }

    #[test]
    fn every_reference_resolves_and_every_operation_has_an_id() {
        let document: Value = serde_json::from_str(&super::json().unwrap()).unwrap();
        assert_eq!(document["openapi"], "3.1.0");
        let mut found = Vec::new();
        references(&document, &mut found);
        assert!(!found.is_empty());
        for reference in found {
            let pointer = reference.strip_prefix('#').unwrap();
            assert!(document.pointer(pointer).is_some(), "{reference} dangles");
        }
        assert_eq!(document["webhooks"]["event"]["post"]["operationId"], "event");
        let mut ids = std::collections::BTreeSet::new();
        for (path, item) in document["paths"].as_object().unwrap() {
            for (method, operation) in item.as_object().unwrap() {
                let id = operation["operationId"].as_str().unwrap_or_else(|| panic!("{method} {path} has no id"));
                assert!(ids.insert(id.to_owned()), "{id} twice");
                let statuses = operation["responses"].as_object().unwrap();
                assert!(statuses.keys().any(|status| status.starts_with('2')), "{method} {path}");
                let told = operation["description"].as_str().unwrap_or_default();
                assert!(told.ends_with('.'), "{id} is not described in words.rs");
                let body = &operation["requestBody"]["content"]["application/json"];
                assert!(body.is_null() || body.get("example").is_some(), "{id} has no example in words.rs");
                let tag = &operation["tags"][0];
                assert!(document["tags"].as_array().unwrap().iter().any(|known| known["name"] == *tag), "{tag}");
            }
        }
    }

    #[test]
    fn headers_are_described_where_they_are_sent() {
        let document: Value = serde_json::from_str(&super::json().unwrap()).unwrap();
        for (path, item) in document["paths"].as_object().unwrap() {
            for (method, operation) in item.as_object().unwrap() {
                let asks = |name: &str| {
                    let all = operation["parameters"].as_array().map(Vec::as_slice).unwrap_or_default();
                    all.iter().any(|parameter| parameter["in"] == "header" && parameter["name"] == name)
                };
                let sends = |status: &str, name: &str| !operation["responses"][status]["headers"][name].is_null();
                assert_eq!(asks("Idempotency-Key"), method == "post", "{method} {path}");
                for status in operation["responses"].as_object().unwrap().keys() {
                    let waits = matches!(status.as_str(), "429" | "503") || (status == "409" && method == "post");
                    assert_eq!(sends(status, "Retry-After"), waits, "{method} {path} {status}");
                    assert_eq!(sends(status, "WWW-Authenticate"), status == "401", "{method} {path} {status}");
                    assert_eq!(sends(status, "Location"), status == "201", "{method} {path} {status}");
                    assert!(sends(status, "X-Request-Id"), "{method} {path} {status}");
                }
            }
        }
    }
}
