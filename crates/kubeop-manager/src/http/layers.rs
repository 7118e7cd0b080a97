//! What surrounds every request: id, span, time and count, panic, deadline, load and rate.
//!
//! Invariant: every answer carries `X-Request-Id`: the caller's if it is sane, else ours.

use super::body::INGEST_LIMIT;
use super::error::{ApiError, respond};
use super::params::bearer;
use crate::metrics::RequestLabels;
use crate::state::Manager;
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures::FutureExt;
use governor::clock::DefaultClock;
use governor::state::keyed::DashMapStateStore;
use governor::{Quota, RateLimiter};
use kubeop_core::authz::{Actor, Role};
use kubeop_core::id::{ProjectId, TenantId};
use kubeop_core::{Error, ErrorKind};
use std::collections::HashMap;
use std::num::NonZeroU32;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{Semaphore, SemaphorePermit};
use tracing::Instrument;

const REQUEST_ID: &str = "x-request-id";
/// The longest `?wait=` and some.
const DEADLINE: Duration = Duration::from_secs(75);
/// Requests under way at most; more are shed.
const MAX_CONCURRENT: usize = 1024;
/// Bursts a caller may send, as a multiple of the rate.
const BURST: u32 = 4;
/// Requests that may be waiting (`?wait=`) at once: far fewer than may be under way, so that waiting never takes the place of working.
const MAX_WAITING: usize = 256;
/// Bodies in memory at once, in KiB by their announced length.
const MAX_BODIES_KIB: usize = 64 << 10;
/// What a body of unknown length counts for.
const UNKNOWN_BODY_KIB: u32 = 3 << 10;
/// Projects whose tenant is remembered.
const MAX_PROJECTS: usize = 100_000;
/// Callers told apart at most before idle ones are forgotten.
const MAX_CALLERS: usize = 10_000;

/// The id of a request.
#[derive(Clone, Debug)]
pub struct RequestId(pub String);

/// Who shows a valid token; whether it was revoked is not known yet.
#[derive(Clone, Debug)]
pub struct Verified(pub Actor);

type Limiter = RateLimiter<u64, DashMapStateStore<u64>, DefaultClock>;

/// Bounds on what is taken in at once.
pub struct Gate {
    slots: Semaphore,
    waiting: Semaphore,
    bodies: Semaphore,
    limiter: Option<Limiter>,
    tenants: Mutex<HashMap<ProjectId, TenantId>>,
}

impl Gate {
    /// A gate that lets `rate` requests a second of each tenant, and of each admin, through; 0 = no limit.
    pub fn new(rate: u32) -> Self {
        let limiter = NonZeroU32::new(rate).map(|rate| {
            let burst = NonZeroU32::new(rate.get().saturating_mul(BURST)).unwrap_or(rate);
            RateLimiter::keyed(Quota::per_second(rate).allow_burst(burst))
        });
        Self {
            slots: Semaphore::new(MAX_CONCURRENT),
            waiting: Semaphore::new(MAX_WAITING),
            bodies: Semaphore::new(MAX_BODIES_KIB),
            limiter,
            tenants: Mutex::default(),
        }
    }

    /// A place to wait in; without one the answer is what is true now.
    pub fn wait(&self) -> Option<SemaphorePermit<'_>> {
        self.waiting.try_acquire().ok()
    }

    fn over_rate(&self, actor: Option<&Actor>) -> bool {
        let Some(limiter) = &self.limiter else { return false };
        if limiter.len() > MAX_CALLERS {
            limiter.retain_recent();
        }
        limiter.check_key(&self.bucket(actor)).is_err()
    }

    /// Callers share a bucket by tenant, whatever their tokens: minting more of them brings no more. Admins are told apart by subject; all
    /// without a valid token share one.
    fn bucket(&self, actor: Option<&Actor>) -> u64 {
        use std::hash::{DefaultHasher, Hash, Hasher};
        let mut hasher = DefaultHasher::new();
        match actor.map(|actor| (actor.role, &actor.subject)) {
            None => 0_u8.hash(&mut hasher),
            Some((Role::Admin, subject)) => (1_u8, subject).hash(&mut hasher),
            Some((Role::Tenant(tenant), _)) => (2_u8, tenant).hash(&mut hasher),
            Some((Role::Project(project), _)) => match self.lock().get(&project) {
                Some(tenant) => (2_u8, tenant).hash(&mut hasher),
                // Its first request to this process.
                None => (3_u8, project).hash(&mut hasher),
            },
        }
        hasher.finish()
    }

    /// Notes whose project one is: that never changes.
    pub fn learn(&self, project: ProjectId, tenant: TenantId) {
        let mut known = self.lock();
        if known.len() >= MAX_PROJECTS && !known.contains_key(&project) {
            known.clear();
        }
        known.insert(project, tenant);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ProjectId, TenantId>> {
        self.tenants.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a request's body counts for, in KiB.
fn body_weight(request: &Request) -> u32 {
    let length =
        request.headers().get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    match length {
        Some(bytes) => u32::try_from(bytes.min(INGEST_LIMIT as u64) / 1024 + 1).unwrap_or(u32::MAX),
        None if request.headers().contains_key(header::TRANSFER_ENCODING) => UNKNOWN_BODY_KIB,
        None => 1,
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

    let mut response = async {
        manager.metrics.in_flight.inc();
        let response = guarded(&manager, request, next).await;
        manager.metrics.in_flight.dec();
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
    response
}

/// Who shows a valid token, as far as the token alone tells.
fn verified(manager: &Manager, request: &Request) -> Option<Actor> {
    if !manager.config.require_auth {
        return Some(Actor::anonymous());
    }
    manager.tokens.verify(bearer(request.headers()).ok()?, manager.clock.now()).ok()
}

async fn guarded(manager: &Arc<Manager>, mut request: Request, next: Next) -> Response {
    let probe = request.extensions().get::<MatchedPath>().is_some_and(|path| is_probe(path.as_str()));
    let refuse = |kind, text: &str| ApiError(Error::new(kind, text)).into_response();
    let _slot = if probe {
        None
    } else {
        let Ok(slot) = manager.gate.slots.try_acquire() else {
            return refuse(ErrorKind::Unavailable, "too many requests are under way");
        };
        let actor = verified(manager, &request);
        if manager.gate.over_rate(actor.as_ref()) {
            return refuse(ErrorKind::TooManyRequests, "this caller sends more requests than allowed");
        }
        if let Some(actor) = actor {
            request.extensions_mut().insert(Verified(actor));
        }
        Some(slot)
    };
    // Probes answer whatever else is going on: a process that is busy is not one that is dead.
    let weight = if probe { 0 } else { body_weight(&request) };
    let Ok(_body) = manager.gate.bodies.try_acquire_many(weight) else {
        return refuse(ErrorKind::Unavailable, "too many large requests are under way");
    };
    match tokio::time::timeout(DEADLINE, AssertUnwindSafe(next.run(request)).catch_unwind()).await {
        Ok(Ok(response)) => response,
        Ok(Err(_)) => {
            tracing::error!("a handler panicked");
            respond(StatusCode::INTERNAL_SERVER_ERROR, "internal error")
        }
        Err(_) => refuse(ErrorKind::Unavailable, "the request took too long"),
    }
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
