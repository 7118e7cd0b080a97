//! What surrounds every request: id, span, time and count, panic, deadline, load and rate.
//!
//! Invariant: every answer carries `X-Request-Id`: the caller's if it is sane, else ours.

use super::body::{BodyTime, INGEST_LIMIT};
use super::error::{ApiError, respond};
use super::params::bearer;
use crate::metrics::RequestLabels;
use crate::state::Manager;
use axum::body::{Body, Bytes};
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures::FutureExt;
use governor::clock::DefaultClock;
use governor::state::keyed::DashMapStateStore;
use governor::{Quota, RateLimiter};
use http_body_util::BodyExt;
use hyper::body::Body as _;
use kubeop_core::authz::{Actor, Role};
use kubeop_core::id::{ProjectId, TenantId};
use kubeop_core::{Error, ErrorKind};
use std::collections::HashMap;
use std::num::NonZeroU32;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};
use tracing::Instrument;

const REQUEST_ID: &str = "x-request-id";
/// The longest `?wait=` and some.
const DEADLINE: Duration = Duration::from_secs(75);
/// How long after the end began (and the linger time) a request is answered that is not done: before its connection is closed.
const LAST_ANSWER: Duration = Duration::from_secs(5);
/// Requests under way at most; more are shed.
const MAX_CONCURRENT: usize = 1024;
/// Of these, those of one tenant; those of callers without a valid token, all together. Admins are the platform team.
const MAX_CONCURRENT_EACH: u32 = 64;
/// Bursts a caller may send, as a multiple of the rate.
const BURST: u32 = 4;
/// Requests that may be waiting (`?wait=`) at once: far fewer than may be under way, so that waiting never takes the place of working.
const MAX_WAITING: usize = 256;
/// Bodies in memory at once, in KiB by their announced length.
const MAX_BODIES_KIB: usize = 64 << 10;
/// Of these, those of one tenant.
const MAX_BODIES_KIB_EACH: u32 = 16 << 10;
/// Large answers in memory at once, in KiB: until the caller took them.
const MAX_ANSWERS_KIB: usize = 64 << 10;
/// Answers up to this size are not counted.
const SMALL_ANSWER: u64 = 64 << 10;
/// What a body of unknown length counts for.
const UNKNOWN_BODY_KIB: u32 = 3 << 10;
/// The same of usage, of which a batch may be as large as this.
const LARGEST_BODY_KIB: u32 = 16 << 10;
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
    answers: Arc<Semaphore>,
    limiter: Option<Limiter>,
    body_time: BodyTime,
    inside: Shares,
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
            answers: Arc::new(Semaphore::new(MAX_ANSWERS_KIB)),
            limiter,
            body_time: BodyTime::default(),
            inside: Arc::default(),
            tenants: Mutex::default(),
        }
    }

    /// The same with another time for bodies.
    #[must_use]
    pub fn with_body_time(self, body_time: BodyTime) -> Self {
        Self { body_time, ..self }
    }

    /// Enters a request into its tenant's share; `None` if that is used up.
    fn enter(&self, actor: Option<&Actor>, body_kib: u32) -> Option<Inside> {
        if actor.is_some_and(|actor| actor.role == Role::Admin) {
            return Some(Inside(None));
        }
        let bucket = self.bucket(actor);
        let mut inside = self.inside.lock().unwrap_or_else(PoisonError::into_inner);
        let share = inside.entry(bucket).or_default();
        // One large body always fits.
        let fits = share.requests < MAX_CONCURRENT_EACH
            && (share.requests == 0 || share.bodies_kib.saturating_add(body_kib) <= MAX_BODIES_KIB_EACH);
        if fits {
            share.requests += 1;
            share.bodies_kib += body_kib;
        }
        fits.then(|| Inside(Some((Arc::clone(&self.inside), bucket, body_kib))))
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

/// What is under way of one tenant.
#[derive(Clone, Copy, Default)]
struct Share {
    requests: u32,
    bodies_kib: u32,
}

/// What is under way, by bucket.
type Shares = Arc<Mutex<HashMap<u64, Share>>>;

/// A request that is under way, in its tenant's share; leaves it when dropped.
struct Inside(Option<(Shares, u64, u32)>);

impl Drop for Inside {
    fn drop(&mut self) {
        let Some((inside, bucket, body_kib)) = self.0.take() else { return };
        let mut inside = inside.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(share) = inside.get_mut(&bucket) {
            share.requests = share.requests.saturating_sub(1);
            share.bodies_kib = share.bodies_kib.saturating_sub(body_kib);
            if share.requests == 0 {
                inside.remove(&bucket);
            }
        }
    }
}

/// An answer in memory, with its place among the large ones.
struct Weighed {
    bytes: Bytes,
    _place: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for Weighed {
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

/// What a request's body counts for, in KiB.
fn body_weight(request: &Request) -> u32 {
    let length =
        request.headers().get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    match length {
        Some(bytes) => u32::try_from(bytes.min(INGEST_LIMIT as u64) / 1024 + 1).unwrap_or(u32::MAX),
        None if request.headers().contains_key(header::TRANSFER_ENCODING) => {
            let path = request.extensions().get::<MatchedPath>().map(MatchedPath::as_str);
            if path == Some("/v1/usage/ingest") { LARGEST_BODY_KIB } else { UNKNOWN_BODY_KIB }
        }
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
fn verified(manager: &Manager, request: &Request) -> Option<Actor> {
    if !manager.config.require_auth {
        return Some(Actor::anonymous());
    }
    manager.tokens.verify(bearer(request.headers()).ok()?, manager.clock.now()).ok()
}

async fn guarded(manager: &Arc<Manager>, mut request: Request, next: Next) -> Response {
    let probe = request.extensions().get::<MatchedPath>().is_some_and(|path| is_probe(path.as_str()));
    let refuse = |kind, text: &str| ApiError(Error::new(kind, text)).into_response();
    let weight = body_weight(&request);
    let _inside = if probe {
        None
    } else {
        if request.headers().get_all(header::HOST).iter().count() > 1 {
            return refuse(ErrorKind::Invalid, "the header Host is given twice");
        }
        let Ok(slot) = manager.gate.slots.try_acquire() else {
            return refuse(ErrorKind::Unavailable, "too many requests are under way");
        };
        let actor = verified(manager, &request);
        if manager.gate.over_rate(actor.as_ref()) {
            return refuse(ErrorKind::TooManyRequests, "this caller sends more requests than allowed");
        }
        let Some(inside) = manager.gate.enter(actor.as_ref(), weight) else {
            return refuse(ErrorKind::TooManyRequests, "this caller has more requests under way than allowed");
        };
        if let Some(actor) = actor {
            request.extensions_mut().insert(Verified(actor));
        }
        Some((slot, inside))
    };
    request.extensions_mut().insert(manager.gate.body_time);
    // Probes answer whatever else is going on: a process that is busy is not one that is dead.
    let weight = if probe { 0 } else { weight };
    let Ok(_body) = manager.gate.bodies.try_acquire_many(weight) else {
        return refuse(ErrorKind::Unavailable, "too many large requests are under way");
    };
    let answering = tokio::time::timeout(DEADLINE, AssertUnwindSafe(next.run(request)).catch_unwind());
    let ending = async {
        manager.shutdown.cancelled().await;
        tokio::time::sleep(manager.config.linger + LAST_ANSWER).await;
    };
    let answered = tokio::select! {
        biased;
        answered = answering => answered,
        () = ending => return refuse(
            ErrorKind::Unavailable,
            "this process ends, and whether the request was carried out is not known: read it again, or send it again with its Idempotency-Key",
        ),
    };
    match answered {
        Ok(Ok(response)) => weighed(&manager.gate, response).await,
        Ok(Err(_)) => {
            tracing::error!("a handler panicked");
            respond(StatusCode::INTERNAL_SERVER_ERROR, "internal error")
        }
        Err(_) => refuse(ErrorKind::Unavailable, "the request took too long"),
    }
}

/// Gives a large answer its place, which it keeps until the caller took it.
async fn weighed(gate: &Gate, response: Response) -> Response {
    let size = response.body().size_hint().exact().unwrap_or(0);
    if size <= SMALL_ANSWER {
        return response;
    }
    // The largest take all of the room, one after the other.
    let kib = u32::try_from((size / 1024 + 1).min(MAX_ANSWERS_KIB as u64)).unwrap_or(u32::MAX);
    let Ok(place) = Arc::clone(&gate.answers).try_acquire_many_owned(kib) else {
        let shed = Error::new(ErrorKind::Unavailable, "too many large answers are under way: a smaller limit may pass");
        return ApiError(shed).into_response();
    };
    let (parts, body) = response.into_parts();
    match body.collect().await {
        Ok(whole) => {
            let bytes = Bytes::from_owner(Weighed { bytes: whole.to_bytes(), _place: place });
            Response::from_parts(parts, Body::from(bytes))
        }
        Err(error) => ApiError(Error::internal(error)).into_response(),
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
