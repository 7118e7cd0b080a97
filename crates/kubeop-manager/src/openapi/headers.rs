//! The headers of requests and answers in the document: what follows from the method and the status is added to all at once.
//!
//! Invariant: a header that the layers or answers send is described here, with an example.

use aide::openapi::{
    Header, HeaderStyle, OpenApi, Operation, Parameter, ParameterData, ParameterSchemaOrContent, ReferenceOr, Response,
    SchemaObject, StatusCode,
};
use indexmap::IndexMap;
use schemars::json_schema;

/// Adds the headers of every operation.
pub(super) fn describe(api: &mut OpenApi) {
    let Some(paths) = &mut api.paths else { return };
    for item in paths.paths.values_mut().filter_map(ReferenceOr::as_item_mut) {
        if let Some(post) = &mut item.post {
            post.parameters.push(ReferenceOr::Item(idempotency_key()));
        }
        let all = [(&mut item.get, false), (&mut item.put, false), (&mut item.post, true), (&mut item.patch, false)];
        for (operation, is_post) in all.into_iter().chain([(&mut item.delete, false)]) {
            if let Some(operation) = operation {
                describe_answers(operation, is_post);
            }
        }
    }
}

fn describe_answers(operation: &mut Operation, is_post: bool) {
    let Some(responses) = &mut operation.responses else { return };
    for (status, response) in &mut responses.responses {
        if let (StatusCode::Code(code), ReferenceOr::Item(response)) = (status, response) {
            describe_answer(response, *code, is_post);
        }
    }
}

fn describe_answer(response: &mut Response, code: u16, is_post: bool) {
    let mut add = |name: &str, description: &str, example: &str| {
        response.headers.insert(name.to_owned(), ReferenceOr::Item(header(description, example)));
    };
    add(
        "X-Request-Id",
        "The request's id, as the log and the audit log have it.",
        "01988c9e-0c5a-7d43-9c59-3f1f0c6d8a11",
    );
    if is_post && (200..300).contains(&code) {
        add(
            "Idempotency-Replayed",
            "`true` when this answer was given before, for the same `Idempotency-Key`; nothing was done again.",
            "true",
        );
    }
    if matches!(code, 429 | 503) {
        add("Retry-After", "Seconds after which to try again.", "1");
    }
    if is_post && code == 409 {
        add("Retry-After", "Only while the request with the same `Idempotency-Key` is still under way: seconds.", "1");
    }
    if code == 401 {
        add("WWW-Authenticate", "How to authenticate.", "Bearer");
    }
}

fn text() -> ParameterSchemaOrContent {
    ParameterSchemaOrContent::Schema(schema(json_schema!({"type": "string"})))
}

fn schema(json_schema: schemars::Schema) -> SchemaObject {
    SchemaObject { json_schema, external_docs: None, example: None }
}

/// A header of an answer.
pub(crate) fn header(description: &str, example: &str) -> Header {
    Header {
        description: Some(description.to_owned()),
        style: HeaderStyle::Simple,
        required: false,
        deprecated: None,
        format: text(),
        example: Some(example.into()),
        examples: IndexMap::default(),
        extensions: IndexMap::default(),
    }
}

/// `If-Match` of a change.
pub(crate) fn if_match() -> Parameter {
    let parameter_data = ParameterData {
        name: "If-Match".to_owned(),
        description: Some(
            "The `ETag` of the version that the change is based on: if it is not the current one any more, the answer is 412 and nothing \
             is changed. `*`, or none: whatever the version."
                .to_owned(),
        ),
        required: false,
        deprecated: None,
        format: text(),
        example: Some("\"3\"".into()),
        examples: IndexMap::default(),
        explode: None,
        extensions: IndexMap::default(),
    };
    Parameter::Header { parameter_data, style: HeaderStyle::Simple }
}

fn idempotency_key() -> Parameter {
    let allowed = json_schema!({"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$"});
    Parameter::Header {
        parameter_data: ParameterData {
            name: "Idempotency-Key".to_owned(),
            description: Some(
                "Makes the request safe to repeat: within 24 hours the same caller, path, key and request get the same answer, \
                 and it is carried out once. Another body or query with the same key is a 409. A request that was refused leaves the key free."
                    .to_owned(),
            ),
            required: false,
            deprecated: None,
            format: ParameterSchemaOrContent::Schema(schema(allowed)),
            example: Some("8e03978e-40d5-43e8-bc93-6894a57f9324".into()),
            examples: IndexMap::default(),
            explode: None,
            extensions: IndexMap::default(),
        },
        style: HeaderStyle::Simple,
    }
}
