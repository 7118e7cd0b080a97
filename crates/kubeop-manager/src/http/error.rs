//! The one place where errors become HTTP: status, headers, and the body `{"error": message}`.
//!
//! Invariant: internal causes go to the log only, once, here.

use aide::OperationOutput;
use aide::generate::GenContext;
use aide::openapi::{Operation, Response as DocResponse, StatusCode as DocStatus};
use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use kubeop_api::resource::ErrorBody;
use kubeop_core::{Error, ErrorKind};

/// An error as an answer.
#[derive(Debug)]
pub struct ApiError(pub Error);

/// What handlers return.
pub type ApiResult<T> = Result<T, ApiError>;

impl From<Error> for ApiError {
    fn from(error: Error) -> Self {
        Self(error)
    }
}

impl From<kubeop_store::StoreError> for ApiError {
    fn from(error: kubeop_store::StoreError) -> Self {
        Self(error.into())
    }
}

/// The status of a class of errors.
pub fn status_of(kind: ErrorKind) -> StatusCode {
    match kind {
        ErrorKind::Invalid => StatusCode::BAD_REQUEST,
        ErrorKind::Unauthenticated => StatusCode::UNAUTHORIZED,
        ErrorKind::Forbidden => StatusCode::FORBIDDEN,
        ErrorKind::NotFound => StatusCode::NOT_FOUND,
        ErrorKind::Conflict => StatusCode::CONFLICT,
        ErrorKind::PreconditionFailed => StatusCode::PRECONDITION_FAILED,
        ErrorKind::NotAcceptable => StatusCode::NOT_ACCEPTABLE,
        ErrorKind::TooSlow => StatusCode::REQUEST_TIMEOUT,
        ErrorKind::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        ErrorKind::UnsupportedMediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        ErrorKind::TooManyRequests => StatusCode::TOO_MANY_REQUESTS,
        ErrorKind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        ErrorKind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let kind = self.0.kind();
        match kind {
            ErrorKind::Internal => tracing::error!(error = %self.0.chain(), "request failed"),
            ErrorKind::Unavailable => tracing::warn!(error = %self.0.chain(), "request refused for now"),
            _ => tracing::debug!(error = %self.0.chain(), "request refused"),
        }
        let mut response = respond(status_of(kind), self.0.message());
        let headers = response.headers_mut();
        match kind {
            ErrorKind::Unauthenticated => {
                headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            // The rest of its request may still come.
            ErrorKind::TooSlow => {
                headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            ErrorKind::TooManyRequests | ErrorKind::Unavailable => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
            }
            _ => {}
        }
        response
    }
}

/// An error answer outside the domain's classes (404 of a path, 405, 408).
pub fn respond(status: StatusCode, message: &str) -> Response {
    (status, Json(ErrorBody { error: message.to_owned() })).into_response()
}

/// What a refusal means, by status; which of them an operation can answer is said by what it is made of: its extractors and its result.
const REFUSALS: [(u16, &str); 13] = [
    (400, "Invalid input; the message names the field, the value and what is allowed."),
    (401, "The token is missing or not valid."),
    (403, "The caller's role may not do this."),
    (404, "Not there, or not the caller's to see."),
    (406, "No form of this answer is one that the caller accepts."),
    (408, "The body did not come in time."),
    (409, "Clashes with what exists, or with what somebody else is changing."),
    (412, "`If-Match` named another version."),
    (413, "The body is too large."),
    (415, "The body is not of a type that is read here."),
    (429, "Too many requests; see `Retry-After`."),
    (500, "An internal error."),
    (503, "Not available now; see `Retry-After`."),
];

/// The refusals of these statuses, for the document.
pub fn refusals(
    ctx: &mut GenContext,
    operation: &mut Operation,
    statuses: &[u16],
) -> Vec<(Option<DocStatus>, DocResponse)> {
    let Some(shape) = Json::<ErrorBody>::operation_response(ctx, operation) else { return Vec::new() };
    REFUSALS
        .iter()
        .filter(|(status, _)| statuses.contains(status))
        .map(|(status, description)| {
            let response = DocResponse { description: (*description).to_owned(), ..shape.clone() };
            (Some(DocStatus::Code(*status)), response)
        })
        .collect()
}

/// What can befall every operation.
impl OperationOutput for ApiError {
    type Inner = ErrorBody;

    fn inferred_responses(ctx: &mut GenContext, operation: &mut Operation) -> Vec<(Option<DocStatus>, DocResponse)> {
        refusals(ctx, operation, &[429, 500, 503])
    }
}

/// Says in an extractor's `OperationInput` with which statuses it refuses.
macro_rules! refuses {
    ($($status:literal),+) => {
        fn inferred_early_responses(
            ctx: &mut aide::generate::GenContext,
            operation: &mut aide::openapi::Operation,
        ) -> Vec<(Option<aide::openapi::StatusCode>, aide::openapi::Response)> {
            $crate::http::error::refusals(ctx, operation, &[$($status),+])
        }
    };
}
pub(crate) use refuses;
