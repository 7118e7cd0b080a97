//! Answers: 200 with `ETag`, 201 with `Location`, 202 or 204 of a delete, and pages with `Link`.
//!
//! Invariant: what an operation answers is in its return type, so that the OpenAPI document cannot drift.

use aide::OperationOutput;
use aide::generate::GenContext;
use aide::openapi::{Operation, Response as DocResponse, StatusCode as DocStatus};
use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use schemars::JsonSchema;
use serde::Serialize;

/// 200 with a value.
pub struct Found<T>(pub T);

/// 200 with a versioned item and its `ETag`.
pub struct Item<T>(pub T, pub i64);

/// 201 with a versioned item, its `ETag` and its `Location`.
pub struct Created<T> {
    /// The item.
    pub item: T,
    /// Its version.
    pub version: i64,
    /// Its path.
    pub location: String,
}

/// What became of a delete.
pub enum Deleted<T> {
    /// 204: it is gone.
    Done,
    /// 202: it is on its way; this is how it looks.
    UnderWay(T),
}

/// 200 with a page of a list; the next page is in `Link`.
pub struct Page<T> {
    /// The page.
    pub items: Vec<T>,
    /// Path and query of the next page.
    pub next: Option<String>,
}

/// 200 with a secret that no cache may keep.
pub struct Secret<T>(pub T);

fn etag(response: &mut Response, version: i64) {
    if let Ok(value) = HeaderValue::from_str(&format!("\"{version}\"")) {
        response.headers_mut().insert(header::ETAG, value);
    }
}

fn put(response: &mut Response, name: header::HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(name, value);
    }
}

impl<T: Serialize> IntoResponse for Found<T> {
    fn into_response(self) -> Response {
        Json(self.0).into_response()
    }
}

impl<T: Serialize> IntoResponse for Item<T> {
    fn into_response(self) -> Response {
        let mut response = Json(self.0).into_response();
        etag(&mut response, self.1);
        response
    }
}

impl<T: Serialize> IntoResponse for Created<T> {
    fn into_response(self) -> Response {
        let mut response = (StatusCode::CREATED, Json(self.item)).into_response();
        etag(&mut response, self.version);
        put(&mut response, header::LOCATION, &self.location);
        response
    }
}

impl<T: Serialize> IntoResponse for Deleted<T> {
    fn into_response(self) -> Response {
        match self {
            Self::Done => StatusCode::NO_CONTENT.into_response(),
            Self::UnderWay(item) => (StatusCode::ACCEPTED, Json(item)).into_response(),
        }
    }
}

impl<T: Serialize> IntoResponse for Page<T> {
    fn into_response(self) -> Response {
        let mut response = Json(self.items).into_response();
        if let Some(next) = self.next {
            put(&mut response, header::LINK, &format!("<{next}>; rel=\"next\""));
        }
        response
    }
}

impl<T: Serialize> IntoResponse for Secret<T> {
    fn into_response(self) -> Response {
        let mut response = Json(self.0).into_response();
        response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        response
    }
}

fn documented<T: JsonSchema + Serialize>(
    ctx: &mut GenContext,
    operation: &mut Operation,
    status: u16,
    description: &str,
) -> Vec<(Option<DocStatus>, DocResponse)> {
    Json::<T>::operation_response(ctx, operation)
        .map(|response| DocResponse { description: description.to_owned(), ..response })
        .map(|response| (Some(DocStatus::Code(status)), response))
        .into_iter()
        .collect()
}

macro_rules! outputs {
    ($($name:ident => $shape:ty, $status:literal, $description:literal;)*) => {$(
        impl<T: JsonSchema + Serialize> OperationOutput for $name<T> {
            type Inner = T;

            fn inferred_responses(ctx: &mut GenContext, operation: &mut Operation) -> Vec<(Option<DocStatus>, DocResponse)> {
                documented::<$shape>(ctx, operation, $status, $description)
            }
        }
    )*};
}

outputs! {
    Found => T, 200, "As asked.";
    Item => T, 200, "The item; `ETag` is its version.";
    Created => T, 201, "Created; `Location` is its path, `ETag` its version.";
    Page => Vec<T>, 200, "A page of the list, newest last; `Link` with rel=next leads on.";
    Secret => T, 200, "Shown once; not to be cached.";
}

impl<T: JsonSchema + Serialize> OperationOutput for Deleted<T> {
    type Inner = T;

    fn inferred_responses(ctx: &mut GenContext, operation: &mut Operation) -> Vec<(Option<DocStatus>, DocResponse)> {
        let mut responses = documented::<T>(ctx, operation, 202, "The delete is under way.");
        let gone = DocResponse { description: "Gone.".to_owned(), ..DocResponse::default() };
        responses.push((Some(DocStatus::Code(204)), gone));
        responses
    }
}
