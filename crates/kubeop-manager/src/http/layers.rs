//! What surrounds every request: id, span, time and count, panic, deadline, load and rate.
//!
//! Invariant: every answer carries `X-Request-Id`: the caller's if it is sane, else ours.

use super::error::{ApiError, respond};
use super::gate::Entered;
use super::params::bearer;
use super::room::{Full, Place};
use crate::auth::token::Shown;
use crate::metrics::RequestLabels;
use crate::state::Manager;
use axum::body::{Body, Bytes};
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures::FutureExt;
use http_body_util::BodyExt;
use hyper::body::Body as _;
use kubeop_core::authz::Actor;
use kubeop_core::{Error, ErrorKind};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tracing::Instrument;

const REQUEST_ID: &str = "x-request-id";
/// The longest `?wait=` and some.
const DEADLINE: Duration = Duration::from_secs(75);
/// How long after the end began (and the linger time) a request is answered that is not done: before its connection is closed.
const LAST_ANSWER: Duration = Duration::from_secs(5);
/// Answers up to this size are not counted.
const SMALL_ANSWER: u64 = 64 << 10;
/// The id of a request.
#[derive(Clone, Debug)]
pub struct RequestId(pub String);

/// Who shows a valid token; whether it was revoked is not known yet.
#[derive(Clone, Debug)]
pub struct Verified(pub Shown);

/// An answer in memory, with its caller's places, which are kept until it was sent or nobody takes it any more.
struct Held {
    bytes: Bytes,
    _places: (Place, Option<Place>),
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// A gauge that is up by one while this lives, also where the caller goes away in the middle.
struct Counted<'a>(&'a prometheus_client::metrics::gauge::Gauge);

impl<'a> Counted<'a> {
    fn up(gauge: &'a prometheus_client::metrics::gauge::Gauge) -> Self {
        gauge.inc();
        Self(gauge)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.dec();
    }
}

fn sane_id(request: &Request) -> Option<String> {
    let id = request.headers().get(REQUEST_ID)?.to_str().ok()?;
    let sane = (1..=64).contains(&id.len())
        && id.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'));
    sane.then(|| id.to_owned())
}

/// The outermost layer of every route.
pub async fn surround(State(manager): State<Arc<Manager>>, mut request: Request, next: Next) -> Response {
    let started = Instant::now();
    let id = sane_id(&request).unwrap_or_else(|| manager.ids.next().to_string());
    let method = request.method().clone();
    let route =
        request.extensions().get::<MatchedPath>().map_or_else(|| "unknown".to_owned(), |path| path.as_str().to_owned());
    request.extensions_mut().insert(RequestId(id.clone()));
    let span = tracing::info_span!("request", id = %id, method = %method, route = %route);

    // Where a proxy in front of us read `Content-Length` beside it, what follows the body would be another's request to it.
    let last = request.headers().contains_key(header::TRANSFER_ENCODING);

    let mut response = async {
        let under_way = Counted::up(&manager.metrics.in_flight);
        let response = guarded(&manager, request, next).await;
        drop(under_way);
        let elapsed = started.elapsed();
        if is_probe(&route) {
            tracing::debug!(status = response.status().as_u16(), ms = elapsed.as_millis(), "answered");
        } else {
            tracing::info!(status = response.status().as_u16(), ms = elapsed.as_millis(), "answered");
        }
        response
    }
    .instrument(span)
    .await;

    let labels = RequestLabels { method: known_method(&method), route, status: response.status().as_u16() };
    manager.metrics.requests.get_or_create(&labels).observe(started.elapsed().as_secs_f64());
    let headers = response.headers_mut();
    if let Ok(value) = HeaderValue::from_str(&id) {
        headers.insert(REQUEST_ID, value);
    }
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if last || manager.shutdown.is_cancelled() {
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// Who shows a valid token, as far as the token alone tells.
fn verified(manager: &Manager, request: &Request) -> Option<Shown> {
    if !manager.config.require_auth {
        return Some(Shown { actor: Actor::anonymous(), tenant: None });
    }
    manager.tokens.verify(bearer(request.headers()).ok()?, manager.clock.now()).ok()
}

async fn guarded(manager: &Arc<Manager>, mut request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().map(MatchedPath::as_str);
    // Probes answer whatever else is going on: a process that is busy is not one that is dead.
    if route.is_some_and(is_probe) {
        return carried_out(manager, request, next).await;
    }
    // What is in memory anyway, once for everybody.
    let shared = route == Some("/openapi.json");
    if request.headers().get_all(header::HOST).iter().count() > 1 {
        return ApiError(Error::invalid("the header Host is given twice")).into_response();
    }
    let shown = verified(manager, &request);
    let entered = match manager.gate.enter(shown.as_ref()) {
        Ok(entered) => entered,
        Err(refused) => return ApiError(refused).into_response(),
    };
    let body = entered.body();
    request.extensions_mut().insert(body.clone());
    request.extensions_mut().insert(manager.gate.body_time);
    if let Some(shown) = shown {
        request.extensions_mut().insert(Verified(shown));
    }
    let changes = !request.method().is_safe();
    let response = carried_out(manager, request, next).await;
    drop(body);
    if shared { response } else { kept(entered, changes, response).await }
}

async fn carried_out(manager: &Arc<Manager>, request: Request, next: Next) -> Response {
    let changes = !request.method().is_safe();
    let answering = tokio::time::timeout(DEADLINE, AssertUnwindSafe(next.run(request)).catch_unwind());
    let ending = async {
        manager.shutdown.cancelled().await;
        tokio::time::sleep(manager.config.linger + LAST_ANSWER).await;
    };
    let answered = tokio::select! {
        biased;
        answered = answering => answered,
        () = ending => return cut_off("this process ends", changes),
    };
    match answered {
        Ok(Ok(response)) => response,
        Ok(Err(_)) => {
            tracing::error!("a handler panicked");
            respond(StatusCode::INTERNAL_SERVER_ERROR, "internal error")
        }
        Err(_) => cut_off("the request took too long", changes),
    }
}

/// The answer to a request that is no longer waited for. A change may be committed by then, or by the database a moment later.
fn cut_off(why: &str, changes: bool) -> Response {
    let text = if changes {
        format!(
            "{why}, and whether the change was made is not known: read it again, or send it again with its Idempotency-Key"
        )
    } else {
        format!("{why}: send it again")
    };
    ApiError(Error::unavailable(text)).into_response()
}

/// Has an answer keep its request's place, and one of its own if it is large, until the caller took it.
async fn kept(entered: Entered, changes: bool, response: Response) -> Response {
    let size = response.body().size_hint().exact().unwrap_or(0);
    if size == 0 {
        return response;
    }
    let place = if size <= SMALL_ANSWER { Ok(None) } else { entered.answer(size).map(Some) };
    let place = match place {
        Ok(place) => place,
        Err(full) => return shed(full, changes && response.status().is_success()),
    };
    let (parts, body) = response.into_parts();
    match body.collect().await {
        Ok(whole) => {
            let bytes = Bytes::from_owner(Held { bytes: whole.to_bytes(), _places: (entered.request, place) });
            Response::from_parts(parts, Body::from(bytes))
        }
        Err(error) => ApiError(Error::internal(error)).into_response(),
    }
}

fn shed(full: Full, done: bool) -> Response {
    let (kind, why) = match full {
        Full::Share => (ErrorKind::TooManyRequests, "this caller has taken too few of its large answers"),
        Full::All => (ErrorKind::Unavailable, "too many large answers are under way"),
    };
    let hint = if done { "the change was made, read it again" } else { "a smaller limit may pass" };
    ApiError(Error::new(kind, format!("{why}: {hint}"))).into_response()
}

fn is_probe(route: &str) -> bool {
    matches!(route, "/healthz" | "/readyz" | "/metrics" | "/version")
}

fn known_method(method: &Method) -> String {
    match *method {
        Method::GET | Method::POST | Method::PUT | Method::PATCH | Method::DELETE | Method::HEAD => method.to_string(),
        _ => "other".to_owned(),
    }
}

/// 404 of a path that is not in the router.
pub async fn unknown_path() -> Response {
    respond(StatusCode::NOT_FOUND, "there is nothing at this path; see /openapi.json")
}

/// 405 of a method that a path does not have.
pub async fn unknown_method() -> Response {
    respond(StatusCode::METHOD_NOT_ALLOWED, "this path does not have this method; see /openapi.json")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_change_that_took_too_long_is_not_said_to_have_failed() {
        let text = async |changes| {
            let answer = cut_off("the request took too long", changes);
            assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
            String::from_utf8(answer.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
        };
        assert!(text(true).await.contains("whether the change was made is not known"));
        assert!(!text(false).await.contains("change"));
    }
}
