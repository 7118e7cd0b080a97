//! Bounds on every request: time to the answer, time between its bytes, and its size.
//!
//! Invariant: a watch may be silent longer than the server's own limit of a watch (kube asks for 290 s) and have any number of lines, each of which is
//! bounded; nothing else may.

use futures::future::BoxFuture;
use http::{Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Limited};
use hyper::body::{Body, Bytes, Frame};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
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

/// The largest line of a watch, which is an event with its object, gathered in memory until its end comes.
const LONGEST_LINE: usize = 8 * 1024 * 1024;

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
    B: Body<Data = Bytes> + Send + 'static,
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
                    Lines::new(TimeoutBody::new(WATCH_IDLE, body).boxed_unsync()).boxed_unsync()
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

/// A body of lines that fails when one is too long.
struct Lines {
    body: UnsyncBoxBody<Bytes, BoxError>,
    line: usize,
}

impl Lines {
    fn new(body: UnsyncBoxBody<Bytes, BoxError>) -> Self {
        Self { body, line: 0 }
    }
}

impl Body for Lines {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let Some(frame) = ready!(Pin::new(&mut self.body).poll_frame(cx)).transpose()? else {
            return Poll::Ready(None);
        };
        for (index, part) in frame.data_ref().map_or(&[][..], |data| data).split(|byte| *byte == b'\n').enumerate() {
            let before = if index == 0 { self.line } else { 0 };
            self.line = before.saturating_add(part.len());
            if self.line > LONGEST_LINE {
                let most = LONGEST_LINE;
                let error = kubeop_core::Error::unavailable(format!("a line of a watch has more than {most} bytes"));
                return Poll::Ready(Some(Err(error.into())));
            }
        }
        Poll::Ready(Some(Ok(frame)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::StreamBody;

    async fn read(pieces: impl Iterator<Item = Bytes> + Send + 'static) -> Result<(), BoxError> {
        let frames = pieces.map(|piece| Ok::<_, BoxError>(Frame::data(piece)));
        let mut body = Lines::new(StreamBody::new(futures::stream::iter(frames)).boxed_unsync());
        while let Some(frame) = body.frame().await {
            frame?;
        }
        Ok(())
    }

    /// A cluster that sends a watch without line ends had its bytes gathered until the memory was used up.
    #[tokio::test]
    async fn a_watch_may_be_of_any_length_but_not_a_line_of_it() {
        let piece = |end: &str| Bytes::from(format!("{}{end}", "x".repeat(1 << 20)));
        read(std::iter::repeat_n(piece("\n"), 20)).await.unwrap();
        read(std::iter::repeat_n(piece("\ny"), 20)).await.unwrap();
        let message = read(std::iter::repeat_n(piece(""), 9)).await.unwrap_err().to_string();
        assert_eq!(message, "a line of a watch has more than 8388608 bytes");
    }
}
