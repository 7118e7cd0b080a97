//! Bounds on every request: time to the answer, time between its bytes, and its size.
//!
//! Invariant: a watch may be silent longer than the server's own limit of a watch (kube asks for 290 s) and be of any length; nothing else may.

use futures::future::BoxFuture;
use http::{Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Limited};
use hyper::body::Bytes;
use std::task::{Context, Poll};
use std::time::Duration;
use tower::{BoxError, Service};
use tower_http::timeout::TimeoutBody;

/// Until the head of an answer, retries included. A create that waits for admission webhooks (up to 30 s each) must fit.
const HEAD: Duration = Duration::from_mins(1);
/// Between two pieces of an ordinary answer.
const IDLE: Duration = Duration::from_secs(30);
/// Between two pieces of a watch: above the 290 s after which the server ends it.
const WATCH_IDLE: Duration = Duration::from_secs(310);
/// The largest ordinary answer: a page of 50 objects of the API server's largest size (1.5 MiB) fits, of which lists are made.
const LARGEST: usize = 128 * 1024 * 1024;

#[derive(Clone)]
pub(super) struct Bounds<S>(S);

impl<S> Bounds<S> {
    pub(super) fn new(inner: S) -> Self {
        Self(inner)
    }
}

impl<S, Q, B> Service<Request<Q>> for Bounds<S>
where
    S: Service<Request<Q>, Response = Response<B>, Error = BoxError>,
    S::Future: Send + 'static,
    B: hyper::body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response<UnsyncBoxBody<Bytes, BoxError>>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Self::Response, BoxError>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Q>) -> Self::Future {
        let watch = is_watch(request.uri());
        let answer = self.0.call(request);
        Box::pin(async move {
            let answer = tokio::time::timeout(HEAD, answer)
                .await
                .map_err(|_| kubeop_core::Error::unavailable("the API server does not answer in time"))??;
            Ok(answer.map(|body| {
                if watch {
                    TimeoutBody::new(WATCH_IDLE, body).boxed_unsync()
                } else {
                    Limited::new(TimeoutBody::new(IDLE, body), LARGEST).boxed_unsync()
                }
            }))
        })
    }
}

fn is_watch(uri: &http::Uri) -> bool {
    uri.query()
        .is_some_and(|query| query.split('&').any(|pair| matches!(pair, "watch=true" | "watch=1" | "follow=true")))
}
