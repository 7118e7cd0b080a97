//! The HTTP surface: `POST /admit` and `POST /canary` (the same: what is judged is the object).
//!
//! Invariant: memory held by bodies is bounded over all requests, and a review is answered within its deadline or refused.

use crate::metrics::{Metrics, Outcome, Rule};
use crate::policy_cache::PolicyCache;
use crate::review;
use crate::rules::{self, Judgement};
use crate::tls::Certificates;
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, Version, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use http_body_util::BodyExt;
use kubeop_plan::install::names;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tower_http::catch_panic::CatchPanicLayer;

/// The largest review: the API server takes requests of 3 MiB, and a review carries the object twice.
const LARGEST: usize = 8 * 1024 * 1024;
/// Within this time a review must have arrived; the API server waits 5 s.
const DEADLINE: Duration = Duration::from_secs(2);
/// Bodies held at any time, in KiB: eight of the largest, or thousands of ordinary ones.
const BUDGET: usize = 64 * 1024;
/// Larger reviews are judged beside the threads that serve, so that they delay nobody.
const LARGE: usize = 128 * 1024;

/// What judges reviews.
pub(crate) struct Reviewer {
    policy: Arc<PolicyCache>,
    certificates: Arc<Certificates>,
    metrics: Metrics,
    budget: Semaphore,
}

impl Reviewer {
    pub(crate) fn new(policy: Arc<PolicyCache>, certificates: Arc<Certificates>, metrics: Metrics) -> Self {
        Self { policy, certificates, metrics, budget: Semaphore::new(BUDGET) }
    }

    /// Why reviews are not judged, a sentence each.
    pub(crate) fn problems(&self) -> Vec<String> {
        self.certificates.problem().into_iter().chain(self.policy.state().policy().err()).collect()
    }

    /// Decodes, judges, encodes.
    fn review(&self, body: &[u8], started: Instant) -> Response {
        let (uid, judgement) = match review::decode(body) {
            Ok(request) => {
                let judgement = rules::judge(&request, &self.policy.state(), &self.metrics);
                if let Some(denial) = &judgement.denial {
                    tracing::info!(
                        namespace = request.namespace.as_deref(),
                        resource = &*request.resource.resource,
                        operation = &*request.operation,
                        denial,
                        "denied"
                    );
                }
                (request.uid.0, judgement)
            }
            Err(review::NotUnderstood { uid, message }) => {
                tracing::warn!(message, "a review was not understood");
                let Some(uid) = uid else {
                    return self.fail(Rule::Review, StatusCode::BAD_REQUEST, &message, started);
                };
                (uid.into(), Judgement::deny(Rule::Review, message))
            }
        };
        let (outcome, answer) = match &judgement.denial {
            None => (Outcome::Admitted, review::admit(&uid)),
            Some(denial) => (Outcome::Denied, review::deny(&uid, judgement.rule, denial)),
        };
        self.metrics.reviewed(judgement.rule, outcome, started.elapsed());
        ([(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))], answer).into_response()
    }

    /// An answer that is no review; with `failurePolicy: Fail` the API server denies.
    fn fail(&self, rule: Rule, status: StatusCode, message: &str, started: Instant) -> Response {
        self.metrics.reviewed(rule, Outcome::Failed, started.elapsed());
        (status, message.to_owned()).into_response()
    }

    /// Reads a body, holding a permit for each KiB of it.
    async fn read(&self, mut body: Body) -> Result<(Bytes, Vec<SemaphorePermit<'_>>), (StatusCode, &'static str)> {
        let (mut pieces, mut length, mut permits) = (Vec::new(), 0, Vec::new());
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|_| (StatusCode::BAD_REQUEST, "the review's body ended early"))?;
            let Ok(piece) = frame.into_data() else { continue };
            length += piece.len();
            if length > LARGEST {
                return Err((StatusCode::PAYLOAD_TOO_LARGE, "a review may have 8 MiB"));
            }
            let kib = u32::try_from(piece.len().div_ceil(1024)).unwrap_or(u32::MAX);
            let busy = (StatusCode::SERVICE_UNAVAILABLE, "too many reviews at once");
            permits.push(self.budget.try_acquire_many(kib).map_err(|_| busy)?);
            pieces.push(piece);
        }
        let whole = match <[Bytes; 1]>::try_from(pieces) {
            Ok([only]) => only,
            Err(pieces) => pieces.concat().into(),
        };
        Ok((whole, permits))
    }
}

/// Everything the API server asks. From `stopping` on, each answer over HTTP/1.1 is the last of its connection: an API server keeps connections for
/// later reviews, and one that we close while it begins to use it again is a review that fails.
pub(crate) fn router(reviewer: Arc<Reviewer>, stopping: CancellationToken) -> Router {
    Router::new()
        .route(names::ADMIT_PATH, post(admit))
        .route(names::CANARY_PATH, post(admit))
        .with_state(reviewer)
        .layer(CatchPanicLayer::new())
        .layer(from_fn_with_state(stopping, last))
}

async fn last(State(stopping): State<CancellationToken>, request: Request, next: Next) -> Response {
    let version = request.version();
    let mut answer = next.run(request).await;
    if stopping.is_cancelled() && version == Version::HTTP_11 {
        answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    answer
}

async fn admit(State(reviewer): State<Arc<Reviewer>>, request: Request) -> Response {
    let started = Instant::now();
    let (body, _permits) = match tokio::time::timeout(DEADLINE, reviewer.read(request.into_body())).await {
        Ok(Ok(read)) => read,
        Ok(Err((status, message))) => return reviewer.fail(Rule::Review, status, message, started),
        Err(_) => {
            return reviewer.fail(
                Rule::Review,
                StatusCode::REQUEST_TIMEOUT,
                "the review did not arrive within 2 s",
                started,
            );
        }
    };
    if body.len() <= LARGE {
        return reviewer.review(&body, started);
    }
    let aside = reviewer.clone();
    let judged = tokio::task::spawn_blocking(move || aside.review(&body, started));
    match tokio::time::timeout_at(started + DEADLINE, judged).await {
        Ok(Ok(response)) => response,
        Ok(Err(_)) | Err(_) => reviewer.fail(
            Rule::Review,
            StatusCode::SERVICE_UNAVAILABLE,
            "the review could not be judged within 2 s",
            started,
        ),
    }
}

#[cfg(test)]
mod tests;
