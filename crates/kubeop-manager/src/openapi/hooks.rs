//! What the manager itself sends: the webhooks of the document (OpenAPI 3.1, Webhooks).
//!
//! Invariant: the schema is the one of the events that dead letters show, so that both cannot drift apart.

use aide::openapi::{
    MediaType, OpenApi, Operation, PathItem, ReferenceOr, RequestBody, Response, Responses, SchemaObject, StatusCode,
};
use indexmap::IndexMap;
use schemars::json_schema;

/// Adds the webhooks.
pub(super) fn add(api: &mut OpenApi) {
    let json_schema = json_schema!({"$ref": "#/components/schemas/Event"});
    let schema = Some(SchemaObject { json_schema, external_docs: None, example: None });
    let content = IndexMap::from_iter([(
        "application/cloudevents+json".to_owned(),
        MediaType { schema, ..MediaType::default() },
    )]);
    let answer =
        |description: &str| ReferenceOr::Item(Response { description: description.to_owned(), ..Response::default() });
    let responses = Responses {
        responses: IndexMap::from_iter([
            (StatusCode::Range(2), answer("The receiver has it.")),
            (StatusCode::Code(410), answer("The receiver will never take it: it is given up at once.")),
            (StatusCode::Code(503), answer("Anything else is tried again for a day, later if `Retry-After` says so.")),
        ]),
        ..Responses::default()
    };
    let post = Operation {
        operation_id: Some("event".to_owned()),
        summary: Some("Something happened".to_owned()),
        description: Some(
            "Sent to `KUBEOP_HOOK_URL`, and to `KUBEOP_CLUSTER_READY_HOOK` when a cluster became ready. `X-KubeOP-Signature` is `sha256=` and \
             the HMAC-SHA256 of the raw body with the hook's secret, in hexadecimal digits."
                .to_owned(),
        ),
        request_body: Some(ReferenceOr::Item(RequestBody { content, required: true, ..RequestBody::default() })),
        responses: Some(responses),
        ..Operation::default()
    };
    let item = PathItem { post: Some(post), ..PathItem::default() };
    api.webhooks.insert("event".to_owned(), ReferenceOr::Item(item));
}
