//! Reading JSON bodies: media type, size, strictness, then the tolerant reading of field names.
//!
//! Invariant: a body is read only after the caller was let in, and never past its limit.

use super::error::{ApiError, refuses};
use super::gate::BodyRoom;
use super::idempotency::Attempt;
use aide::OperationInput;
use aide::generate::GenContext;
use aide::openapi::Operation;
use axum::Json;
use axum::body::{Body as RequestBody, Bytes};
use axum::extract::{FromRequest, Request};
use axum::http::header;
use http_body_util::BodyExt;
use kubeop_api::{strict_json, tolerant};
use kubeop_core::{Error, ErrorKind};
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout, timeout_at};

/// How long a body that is too large is read on.
const LINGER: Duration = Duration::from_secs(2);
/// The size most bodies may have.
pub const DEFAULT_LIMIT: usize = 1 << 20;
/// The size an app with manifests may have.
pub const APP_LIMIT: usize = 3 << 20;
/// The size a batch of usage may have.
pub const INGEST_LIMIT: usize = 16 << 20;

/// Taken at once for a body that is announced.
const FIRST_BYTES: usize = 16 << 10;
/// What a value or a key of JSON takes in memory, beside its text.
const VALUE_BYTES: usize = 200;

/// How long the caller may take to send a body.
#[derive(Clone, Copy, Debug)]
pub struct BodyTime {
    /// Between one part and the next.
    pub idle: Duration,
    /// For all of it: the largest at 400 KiB/s.
    pub whole: Duration,
}

impl Default for BodyTime {
    fn default() -> Self {
        Self { idle: Duration::from_secs(10), whole: Duration::from_secs(40) }
    }
}

/// A JSON body read as `T`.
pub struct Body<T, const LIMIT: usize = DEFAULT_LIMIT>(pub T);

/// The attempt that a request with an `Idempotency-Key` is.
pub fn attempt(request: &Request) -> Option<Arc<Attempt>> {
    request.extensions().get::<Arc<Attempt>>().cloned()
}

/// The bytes of a body of one of these media types, at most `limit` of them.
pub async fn read_bytes(request: Request, limit: usize, media_types: &[&str]) -> Result<(Bytes, String), ApiError> {
    let media_type = request
        .headers()
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split(';').next())
        .map(|value| value.trim().to_ascii_lowercase())
        .unwrap_or_default();
    if !media_types.contains(&media_type.as_str()) {
        return Err(ApiError(Error::new(
            ErrorKind::UnsupportedMediaType,
            format!("content type {media_type:?} is not read here: {} is needed", media_types.join(" or ")),
        )));
    }
    let too_large = || Error::new(ErrorKind::TooLarge, format!("the body is larger than {limit} bytes"));
    let expects = request.headers().contains_key(header::EXPECT);
    let announced = request.headers().get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse::<usize>().ok());
    let time = request.extensions().get::<BodyTime>().copied().unwrap_or_default();
    let room = request.extensions().get::<BodyRoom>().cloned();
    let end = Instant::now() + time.whole;
    let mut body = request.into_body();
    if announced.is_some_and(|length| length > limit) {
        // A caller who waits for `100 Continue` has sent nothing yet.
        if !expects {
            drain(body).await;
        }
        return Err(ApiError(too_large()));
    }
    // What was announced has not come yet: room, and memory, is taken as it comes.
    let mut bytes = Vec::with_capacity(announced.unwrap_or(0).min(FIRST_BYTES));
    loop {
        let next = timeout_at(end.min(Instant::now() + time.idle), body.frame());
        let Some(frame) = next.await.map_err(|_| too_slow(time))? else { break };
        let frame = frame.map_err(|_| Error::invalid("the body ended before it was complete"))?;
        let Ok(data) = frame.into_data() else { continue };
        if bytes.len() + data.len() > limit {
            drain(body).await;
            return Err(ApiError(too_large()));
        }
        if let Some(room) = &room
            && let Err(full) = room.hold(bytes.len() + data.len())
        {
            drain(body).await;
            return Err(ApiError(full));
        }
        bytes.extend_from_slice(&data);
    }
    Ok((Bytes::from(bytes), media_type))
}

/// Reads on for a moment without keeping anything: an answer that comes while the caller still writes would be lost with the connection.
async fn drain(mut body: RequestBody) {
    let reading = async { while let Some(Ok(_)) = body.frame().await {} };
    // The caller who goes on longer is cut off: the answer was due.
    let _ = timeout(LINGER, reading).await;
}

fn too_slow(time: BodyTime) -> Error {
    Error::new(
        ErrorKind::TooSlow,
        format!("the body did not come in time: {} s, and no pause of {} s", time.whole.as_secs(), time.idle.as_secs()),
    )
}

/// The JSON value of a body.
pub async fn read_value(request: Request, limit: usize, media_types: &[&str]) -> Result<Value, ApiError> {
    let attempt = attempt(&request);
    let room = request.extensions().get::<BodyRoom>().cloned();
    let (bytes, _) = read_bytes(request, limit, media_types).await?;
    if let Some(room) = room {
        room.hold(bytes.len() + strict_json::values_at_most(&bytes).min(strict_json::MAX_VALUES) * VALUE_BYTES)?;
    }
    let value = strict_json::parse(&bytes)?;
    if let Some(attempt) = attempt {
        attempt.begin_with_json(&value).await?;
    }
    Ok(value)
}

/// No body, or an empty object: of an action that its path says everything of.
pub struct NoBody;

/// What a body that says nothing may have.
const NO_BODY_LIMIT: usize = 1 << 10;

impl<S: Send + Sync> FromRequest<S> for NoBody {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> Result<Self, ApiError> {
        let attempt = attempt(&request);
        let refuse = || Error::invalid("this operation reads no body: none, or an empty object, is allowed");
        let bytes = axum::body::to_bytes(request.into_body(), NO_BODY_LIMIT).await.map_err(|_| refuse())?;
        let says_nothing = bytes.trim_ascii().is_empty()
            || strict_json::parse(&bytes)?.as_object().is_some_and(serde_json::Map::is_empty);
        if !says_nothing {
            return Err(ApiError(refuse()));
        }
        if let Some(attempt) = attempt {
            attempt.begin(&[]).await?;
        }
        Ok(Self)
    }
}

impl OperationInput for NoBody {
    refuses!(400, 409);
}

impl<S: Send + Sync, T: DeserializeOwned, const LIMIT: usize> FromRequest<S> for Body<T, LIMIT> {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> Result<Self, ApiError> {
        let value = read_value(request, LIMIT, &["application/json"]).await?;
        Ok(Self(tolerant::from_value(value)?))
    }
}

impl<T: JsonSchema, const LIMIT: usize> OperationInput for Body<T, LIMIT> {
    refuses!(400, 408, 409, 413, 415);

    fn operation_input(ctx: &mut GenContext, operation: &mut Operation) {
        Json::<T>::operation_input(ctx, operation);
    }
}
