//! A receiver of events: a real HTTP server that answers as it is told.
//!
//! Invariant: keeps everything that arrived, in the order in which it arrived.

use aws_lc_rs::hmac;
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use kubeop_core::hex;
use kubeop_manager::events::hook::Target;
use secrecy::SecretString;
use serde_json::Value;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::TcpListener;

pub(crate) const SECRET: &str = "a secret of the tests";

/// How a request is answered.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Reply {
    /// With a status.
    Status(u16),
    /// With a status and `Retry-After` seconds.
    Later(u16, u64),
    /// With a redirect to another path of this receiver.
    Elsewhere,
    /// With a success whose body never ends.
    Endless,
    /// With a success after that long.
    After(Duration),
}

/// What arrived.
#[derive(Clone, Debug)]
pub(crate) struct Arrival {
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) event: Value,
}

#[derive(Default)]
struct Inner {
    arrived: Vec<Arrival>,
    replies: VecDeque<Reply>,
    otherwise: Option<Reply>,
}

/// A receiver; gone with its task.
#[derive(Clone)]
pub(crate) struct Receiver {
    inner: Arc<Mutex<Inner>>,
    url: String,
}

impl Receiver {
    /// A receiver that answers 204.
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hook?token=in-the-query", listener.local_addr().unwrap());
        let receiver = Self { inner: Arc::default(), url };
        let app = Router::new().fallback(receive).with_state(receiver.clone());
        tokio::spawn(async move { axum::serve(listener, app).await });
        receiver
    }

    /// A hook that leads here.
    pub(crate) fn target(&self) -> Target {
        Target::parse(&self.url, SecretString::from(SECRET)).unwrap()
    }

    /// Answers the next requests so.
    pub(crate) fn answer(&self, replies: impl IntoIterator<Item = Reply>) {
        self.inner.lock().unwrap().replies.extend(replies);
    }

    /// Answers so whatever nothing else was told for.
    pub(crate) fn answer_always(&self, reply: Reply) {
        self.inner.lock().unwrap().otherwise = Some(reply);
    }

    /// What arrived so far.
    pub(crate) fn arrived(&self) -> Vec<Arrival> {
        self.inner.lock().unwrap().arrived.clone()
    }

    /// Waits until so many arrived.
    pub(crate) async fn wait_for(&self, count: usize) -> Vec<Arrival> {
        let waiting = async {
            while self.arrived().len() < count {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let all = tokio::time::timeout(Duration::from_mins(1), waiting).await;
        let arrived = self.arrived();
        assert!(
            all.is_ok(),
            "{} of {count} arrived: {:?}",
            arrived.len(),
            arrived.iter().map(Arrival::kind).collect::<Vec<_>>()
        );
        arrived
    }
}

impl Arrival {
    /// The event's type.
    pub(crate) fn kind(&self) -> &str {
        self.event["type"].as_str().unwrap()
    }

    /// The event's subject.
    pub(crate) fn subject(&self) -> &str {
        self.event["subject"].as_str().unwrap()
    }

    /// A header.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers[name].to_str().unwrap()
    }
}

/// The signature that a receiver makes for itself.
pub(crate) fn signature(bytes: &[u8]) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes());
    format!("sha256={}", hex::encode(hmac::sign(&key, bytes).as_ref()))
}

async fn receive(State(receiver): State<Receiver>, uri: Uri, headers: HeaderMap, body: Bytes) -> Response {
    let reply = {
        let mut inner = receiver.inner.lock().unwrap();
        let event = serde_json::from_slice(&body).unwrap_or_default();
        inner.arrived.push(Arrival { path: uri.to_string(), headers, body, event });
        inner.replies.pop_front().or(inner.otherwise).unwrap_or(Reply::Status(204))
    };
    let status = |code| StatusCode::from_u16(code).unwrap();
    match reply {
        Reply::Status(code) => status(code).into_response(),
        Reply::Later(code, seconds) => (status(code), [(header::RETRY_AFTER, seconds.to_string())]).into_response(),
        Reply::Elsewhere => (StatusCode::TEMPORARY_REDIRECT, [(header::LOCATION, "/elsewhere")]).into_response(),
        Reply::Endless => {
            let chunk = Bytes::from(vec![b'x'; 64 << 10]);
            let endless = futures::stream::repeat_with(move || Ok::<_, std::io::Error>(chunk.clone()));
            Body::from_stream(endless).into_response()
        }
        Reply::After(time) => {
            tokio::time::sleep(time).await;
            StatusCode::NO_CONTENT.into_response()
        }
    }
}
