//! Sending one event to one hook over HTTP.
//!
//! Invariant: bounded in time and in what is read; no redirect is followed, and nothing of an answer but its status and `Retry-After` counts.

use super::hook::Hook;
use super::sign::signature;
use http::{HeaderMap, Request, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use jiff::Timestamp;
use kubeop_core::{Error, Result};
use rustls::ClientConfig;
use rustls::crypto::aws_lc_rs;
use rustls_platform_verifier::BuilderVerifierExt;
use std::sync::Arc;
use std::time::Duration;
use uuid::Uuid;

/// How long a receiver may take, from connecting to the end of its answer.
const LIMIT: Duration = Duration::from_secs(10);
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// How long an unused connection is kept.
const IDLE: Duration = Duration::from_secs(30);
/// How much of an answer's body is read, so that the connection can be used again; nothing of it is looked at.
const MAX_ANSWER: usize = 64 << 10;

/// What came of an attempt.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The receiver has it.
    Delivered,
    /// It has it not, as far as we know.
    Failed(Failed),
}

/// Why an attempt failed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Failed {
    /// What was answered, if anything.
    pub(super) status: Option<u16>,
    /// A sentence.
    pub(super) why: String,
    /// How long the receiver asks to be left alone.
    pub(super) asked: Option<Duration>,
    /// Whether it says that it will never take it.
    pub(super) for_ever: bool,
}

/// What is sent.
pub(super) struct Parcel {
    /// The delivery's id.
    pub(super) id: Uuid,
    /// The event's type.
    pub(super) event_type: String,
    /// The number of the attempt.
    pub(super) attempt: i64,
    /// The event.
    pub(super) body: Bytes,
    /// Now.
    pub(super) at: Timestamp,
}

/// Sends events; its connections are kept for the next ones.
#[derive(Clone, Debug)]
pub(super) struct Sender {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    user_agent: String,
}

impl Sender {
    /// A sender that trusts the certificate authorities of this machine.
    pub(super) fn new(version: &str) -> Result<Self> {
        let tls = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .and_then(BuilderVerifierExt::with_platform_verifier)
            .map_err(Error::internal)?
            .with_no_client_auth();
        let mut http = HttpConnector::new();
        http.enforce_http(false);
        http.set_connect_timeout(Some(CONNECT_LIMIT));
        let connector =
            HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1().wrap_connector(http);
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(super::pace::CONCURRENCY)
            .build(connector);
        Ok(Self { client, user_agent: format!("kubeop/{version}") })
    }

    /// Sends it once.
    pub(super) async fn send(&self, hook: &Hook, parcel: &Parcel) -> Outcome {
        let request = match self.request(hook, parcel) {
            Ok(request) => request,
            Err(error) => return failed(format!("the request cannot be made: {error}")),
        };
        let end = tokio::time::Instant::now() + LIMIT;
        let answer = match tokio::time::timeout_at(end, self.client.request(request)).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => return failed(format!("the receiver cannot be reached: {}", chain(&error))),
            Err(_) => return failed(format!("the receiver did not answer within {} s", LIMIT.as_secs())),
        };
        let outcome = judge(answer.status(), answer.headers(), parcel.at);
        // What cannot be read to its end costs the connection, not the delivery.
        let _ = tokio::time::timeout_at(end, Limited::new(answer.into_body(), MAX_ANSWER).collect()).await;
        outcome
    }

    fn request(&self, hook: &Hook, parcel: &Parcel) -> http::Result<Request<Full<Bytes>>> {
        let time = parcel.at.as_second().to_string();
        let timed: [&[u8]; 3] = [time.as_bytes(), b".", &parcel.body];
        Request::post(hook.url())
            .header(header::CONTENT_TYPE, "application/cloudevents+json; charset=utf-8")
            .header(header::USER_AGENT, &self.user_agent)
            .header("X-KubeOP-Event", &parcel.event_type)
            .header("X-KubeOP-Delivery", parcel.id.to_string())
            .header("X-KubeOP-Attempt", parcel.attempt)
            .header("X-KubeOP-Signature", signature(hook.secret(), &[&parcel.body]))
            .header("X-KubeOP-Timestamp", &time)
            .header("X-KubeOP-Timestamp-Signature", signature(hook.secret(), &timed))
            .body(Full::new(parcel.body.clone()))
    }
}

fn failed(why: String) -> Outcome {
    Outcome::Failed(Failed { status: None, why, asked: None, for_ever: false })
}

fn judge(status: StatusCode, headers: &HeaderMap, now: Timestamp) -> Outcome {
    if status.is_success() {
        return Outcome::Delivered;
    }
    let redirect = if status.is_redirection() { ", and redirects are not followed" } else { "" };
    Outcome::Failed(Failed {
        status: Some(status.as_u16()),
        why: format!("the receiver answered {}{redirect}", status.as_u16()),
        // Of any other answer it is about this event, and no reason to let the others wait.
        asked: matches!(status.as_u16(), 429 | 503).then(|| retry_after(headers, now)).flatten(),
        for_ever: status == StatusCode::GONE,
    })
}

/// `Retry-After`: seconds, or a date (RFC 9110 §10.2.3).
fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let text = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let until = jiff::fmt::rfc2822::parse(text).ok()?.timestamp();
    Duration::try_from(until.duration_since(now)).ok()
}

/// An error with its causes; none of them knows the URL.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let told = inner.to_string();
        if !text.contains(&told) {
            text = format!("{text}: {told}");
        }
        cause = inner.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn what_an_answer_means() {
        let now: Timestamp = "2026-03-01T10:00:00Z".parse().unwrap();
        let judged = |status: u16, retry: Option<&'static str>| {
            let mut headers = HeaderMap::new();
            headers.extend(retry.map(|text| (header::RETRY_AFTER, HeaderValue::from_static(text))));
            judge(StatusCode::from_u16(status).unwrap(), &headers, now)
        };
        for good in [200, 201, 202, 204, 299] {
            assert_eq!(judged(good, None), Outcome::Delivered);
        }
        for (status, retry, asked, for_ever) in [
            (500, None, None, false),
            (302, None, None, false),
            (400, Some("x"), None, false),
            (410, None, None, true),
            (429, Some("7"), Some(7), false),
            (503, Some("Sun, 01 Mar 2026 10:02:00 GMT"), Some(120), false),
            (503, Some("Sun, 01 Mar 2026 09:00:00 GMT"), None, false),
            (503, Some("-5"), None, false),
        ] {
            let Outcome::Failed(failed) = judged(status, retry) else { panic!("{status}") };
            assert_eq!((failed.status, failed.for_ever), (Some(status), for_ever));
            assert_eq!(failed.asked, asked.map(Duration::from_secs), "{status} {retry:?}");
            assert!(failed.why.contains(&status.to_string()));
        }
    }
}
