//! Answers: 200 with `ETag`, 201 with `Location`, 202 or 204 of a delete, and pages with `Link`.
//!
//! Invariant: what an operation answers is in its return type, so that the OpenAPI document cannot drift.

use crate::openapi::headers::header as described;
use crate::openapi::shape::absent_not_null;
use aide::OperationOutput;
use aide::generate::GenContext;
use aide::openapi::{Operation, ReferenceOr, Response as DocResponse, StatusCode as DocStatus};
use axum::Json;
use axum::body::Body;
use axum::http::response::Parts;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use indexmap::IndexMap;
use kubeop_core::{Error, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

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

/// 204: it is gone at once.
pub struct Gone;

/// 200 with a page of a list; the next page is in `Link`.
pub struct Page<T> {
    /// The page.
    pub items: Vec<T>,
    /// Path and query of the next page.
    pub next: Option<String>,
}

/// 200 with a value of which a part is a page; the same with the next page is in `Link`.
pub struct Paged<T> {
    /// The value.
    pub item: T,
    /// Path and query of the next page.
    pub next: Option<String>,
}

/// 200 with a secret that no cache may keep.
pub struct Secret<T>(pub T);

/// An answer as it is kept for its `Idempotency-Key`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    status: u16,
    headers: Vec<(String, String)>,
    body: String,
}

/// The headers that belong to an answer; the others are the connection's or the request's.
const KEPT_HEADERS: [HeaderName; 4] = [header::CONTENT_TYPE, header::LOCATION, header::ETAG, header::CACHE_CONTROL];

impl Kept {
    /// The answer that is being given.
    pub fn of_response(parts: &Parts, body: &[u8]) -> Self {
        let header = |name: &HeaderName| Some((name.to_string(), parts.headers.get(name)?.to_str().ok()?.to_owned()));
        Self {
            status: parts.status.as_u16(),
            headers: KEPT_HEADERS.iter().filter_map(header).collect(),
            body: String::from_utf8_lossy(body).into_owned(),
        }
    }

    /// The answer again.
    pub fn to_response(&self) -> Response {
        let mut response = Response::new(Body::from(self.body.clone()));
        *response.status_mut() = StatusCode::from_u16(self.status).unwrap_or(StatusCode::OK);
        for (name, value) in &self.headers {
            if let Ok(name) = HeaderName::try_from(name) {
                put(&mut response, name, value);
            }
        }
        response
    }

    /// Whether no cache may keep it.
    pub fn is_secret(&self) -> bool {
        self.headers.iter().any(|(name, value)| name == "cache-control" && value == "no-store")
    }
}

/// What can be kept before it is given.
pub trait Keep {
    /// The answer as it is kept.
    fn keep(&self) -> Result<Kept>;
}

macro_rules! keeps {
    ($($name:ident: $self:ident => $shown:expr;)*) => {$(
        impl<T: Serialize> Keep for $name<T> {
            fn keep(&$self) -> Result<Kept> {
                let (item, response) = $shown;
                let (parts, ()) = response.map(|_| ()).into_parts();
                Ok(Kept::of_response(&parts, &serde_json::to_vec(item).map_err(Error::internal)?))
            }
        }
    )*};
}

keeps! {
    Found: self => (&self.0, Found(()).into_response());
    Secret: self => (&self.0, Secret(()).into_response());
    Created: self => (
        &self.item,
        Created { item: (), version: self.version, location: self.location.clone() }.into_response()
    );
}

fn etag(response: &mut Response, version: i64) {
    if let Ok(value) = HeaderValue::from_str(&format!("\"{version}\"")) {
        response.headers_mut().insert(header::ETAG, value);
    }
}

fn put(response: &mut Response, name: HeaderName, value: &str) {
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

impl IntoResponse for Gone {
    fn into_response(self) -> Response {
        StatusCode::NO_CONTENT.into_response()
    }
}

impl<T: Serialize> IntoResponse for Page<T> {
    fn into_response(self) -> Response {
        Paged { item: self.items, next: self.next }.into_response()
    }
}

impl<T: Serialize> IntoResponse for Paged<T> {
    fn into_response(self) -> Response {
        let mut response = Json(self.item).into_response();
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
    headers: &[(&str, &str, &str)],
) -> Vec<(Option<DocStatus>, DocResponse)> {
    let headers: IndexMap<_, _> = headers
        .iter()
        .map(|(name, meaning, example)| ((*name).to_owned(), ReferenceOr::Item(described(meaning, example))))
        .collect();
    as_sent(ctx, |ctx| Json::<T>::operation_response(ctx, operation))
        .map(|response| DocResponse { description: description.to_owned(), headers, ..response })
        .map(|response| (Some(DocStatus::Code(status)), response))
        .into_iter()
        .collect()
}

/// Describes types as they are sent, not as they would be read: what is always there is required, and what is left out when there is nothing is
/// never null. The schemas join those of the requests; of a type that is in both this one stays.
pub(crate) fn as_sent<R>(ctx: &mut GenContext, describe: impl FnOnce(&mut GenContext) -> R) -> R {
    let settings = ctx.schema.settings().clone().for_serialize();
    let read = std::mem::replace(&mut ctx.schema, settings.into_generator());
    let described = describe(ctx);
    let mut sent = std::mem::replace(&mut ctx.schema, read);
    for (name, mut schema) in sent.take_definitions(false) {
        absent_not_null(&mut schema);
        ctx.schema.definitions_mut().insert(name, schema);
    }
    described
}

const ETAG: (&str, &str, &str) = ("ETag", "Its version, for `If-Match`.", "\"1\"");

macro_rules! outputs {
    ($($name:ident => $shape:ty, $status:literal, $description:literal, [$($header:expr),*];)*) => {$(
        impl<T: JsonSchema + Serialize> OperationOutput for $name<T> {
            type Inner = T;

            fn inferred_responses(ctx: &mut GenContext, operation: &mut Operation) -> Vec<(Option<DocStatus>, DocResponse)> {
                documented::<$shape>(ctx, operation, $status, $description, &[$($header),*])
            }
        }
    )*};
}

outputs! {
    Found => T, 200, "As asked.", [];
    Item => T, 200, "The item; `ETag` is its version.", [ETAG];
    Created => T, 201, "Created; `Location` is its path, `ETag` its version.", [
        ("Location", "The path of what was created.", "/v1/apps/01988c9e-0c5a-7d43-9c59-3f1f0c6d8a11"), ETAG
    ];
    Page => Vec<T>, 200, "A page of the list, newest last; `Link` with rel=next leads on.", [
        ("Link", "Only if there is a next page: path and query of it.", "</v1/apps?limit=100&cursor=AAAB>; rel=\"next\"")
    ];
    Paged => T, 200, "As asked; `Link` with rel=next leads on.", [
        ("Link", "Only if there is a next page: path and query of it.", "</v1/usage/snapshot?limit=100&cursor=AAAB>; rel=\"next\"")
    ];
    Secret => T, 200, "Shown once; not to be cached.", [
        ("Cache-Control", "No cache may keep it.", "no-store")
    ];
}

impl<T: JsonSchema + Serialize> OperationOutput for Deleted<T> {
    type Inner = T;

    fn inferred_responses(ctx: &mut GenContext, operation: &mut Operation) -> Vec<(Option<DocStatus>, DocResponse)> {
        let mut responses = documented::<T>(ctx, operation, 202, "The delete is under way.", &[]);
        responses.extend(Gone::inferred_responses(ctx, operation));
        responses
    }
}

impl OperationOutput for Gone {
    type Inner = ();

    fn inferred_responses(_: &mut GenContext, _: &mut Operation) -> Vec<(Option<DocStatus>, DocResponse)> {
        let gone = DocResponse { description: "Gone.".to_owned(), ..DocResponse::default() };
        vec![(Some(DocStatus::Code(204)), gone)]
    }
}
