//! An HTTPS reverse proxy in front of an API server that does what API servers do on bad days.
//!
//! Who brings a token stays who it is; who brings none is the administrator, whose certificate the proxy shows in its place.

use crate::api_server::ApiServer;
use crate::gate::Gate;
use anyhow::{Context, Result};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use futures::StreamExt;
use futures::stream::BoxStream;
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::header::{AUTHORIZATION, CONNECTION, CONTENT_LENGTH, HOST, TRANSFER_ENCODING};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use rcgen::{CertificateParams, KeyPair};
use serde_json::json;
use std::io;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

type Body = UnsyncBoxBody<Bytes, io::Error>;

/// What watches are like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Watches {
    /// As the API server answers.
    #[default]
    Whole,
    /// Ended at once.
    Cut,
    /// Open, and without a word.
    Silent,
    /// Answered with `410 Gone`.
    Expired,
}

/// What goes wrong. Shares are of a thousand requests that are no watches.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    /// Answered 429 with `Retry-After: 1`.
    pub too_many: u32,
    /// Answered 500 and not carried out.
    pub broken: u32,
    /// Carried out, and answered 500 all the same.
    pub lost: u32,
    /// Writes answered 409.
    pub conflict: u32,
    /// Writes to paths that contain this, or that carry this name, are answered 500 always.
    pub poison: Option<String>,
    /// How long each answer takes longer.
    pub delay: Duration,
    /// What watches are like.
    pub watches: Watches,
}

/// What was seen.
#[derive(Debug, Default)]
pub struct Tally {
    /// Requests that were no watches.
    pub requests: AtomicU64,
    /// Those of them that were spoiled.
    pub spoiled: AtomicU64,
    /// Requests under way, watches apart.
    now: AtomicU32,
    /// The most there were.
    pub most: AtomicU32,
}

/// The proxy; gone when dropped.
#[derive(Debug)]
pub struct FaultProxy {
    faults: watch::Sender<Faults>,
    tally: Arc<Tally>,
    gate: Arc<Gate>,
    kubeconfig: String,
    task: JoinHandle<()>,
}

struct Shared {
    server: ApiServer,
    faults: watch::Receiver<Faults>,
    tally: Arc<Tally>,
    gate: Arc<Gate>,
    dice: AtomicU64,
}

impl FaultProxy {
    /// A proxy to the server of a kubeconfig, without faults at first.
    pub async fn start(kubeconfig: &str) -> Result<Self> {
        let key = KeyPair::generate().context("cannot make a key")?;
        let certificate = CertificateParams::new(vec!["127.0.0.1".to_owned()])
            .and_then(|parameters| parameters.self_signed(&key))
            .context("cannot make a certificate")?;
        let mut tls = ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(
                vec![certificate.der().clone()],
                PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der())),
            )
            .context("cannot use the certificate")?;
        tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("cannot listen")?;
        let port = listener.local_addr().context("an address")?.port();
        let (faults, receiver) = watch::channel(Faults::default());
        let (tally, gate) = (Arc::new(Tally::default()), Arc::new(Gate::default()));
        let shared = Arc::new(Shared {
            server: ApiServer::new(kubeconfig)?,
            faults: receiver,
            tally: Arc::clone(&tally),
            gate: Arc::clone(&gate),
            dice: AtomicU64::new(1),
        });
        let acceptor = TlsAcceptor::from(Arc::new(tls));
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(carry(stream, acceptor.clone(), Arc::clone(&shared)));
            }
        });
        let authority = BASE64_STANDARD.encode(certificate.pem());
        let kubeconfig = kubeconfig
            .lines()
            .map(|line| match line.split_once(':').map(|(key, _)| (key, key.trim())) {
                Some((key, "certificate-authority-data")) => format!("{key}: {authority}"),
                Some((key, "server")) => format!("{key}: https://127.0.0.1:{port}"),
                _ => line.to_owned(),
            })
            .collect::<Vec<_>>()
            .join("\n");
        Ok(Self { faults, tally, gate, kubeconfig, task })
    }

    /// The kubeconfig, by way of the proxy.
    pub fn kubeconfig(&self) -> &str {
        &self.kubeconfig
    }

    /// What goes wrong from now on; watches that are open change with it.
    pub fn set(&self, faults: Faults) {
        self.faults.send_replace(faults);
    }

    /// All is well again.
    pub fn mend(&self) {
        self.set(Faults::default());
    }

    /// What lets a number of changes through.
    pub fn gate(&self) -> &Gate {
        &self.gate
    }

    /// What was seen so far.
    pub fn tally(&self) -> &Tally {
        &self.tally
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn carry(stream: TcpStream, acceptor: TlsAcceptor, shared: Arc<Shared>) {
    let Ok(stream) = acceptor.accept(stream).await else { return };
    let service = service_fn(move |request| {
        let shared = Arc::clone(&shared);
        async move {
            shared.gate.pass().await?;
            let turn = shared.gate.turn(!matches!(*request.method(), Method::GET | Method::HEAD)).await?;
            let answer = answer(&shared, request).await;
            drop(turn);
            shared.gate.pass().await.map(|()| answer)
        }
    });
    // What breaks is the client's to notice.
    let _ = auto::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await;
}

async fn answer(shared: &Shared, request: Request<Incoming>) -> Response<Body> {
    let faults = shared.faults.borrow().clone();
    let query = request.uri().query().unwrap_or_default();
    if query.split('&').any(|pair| matches!(pair, "watch=true" | "watch=1")) {
        return watch(shared, faults.watches, request).await;
    }
    let tally = &shared.tally;
    tally.requests.fetch_add(1, Ordering::Relaxed);
    let now = tally.now.fetch_add(1, Ordering::Relaxed) + 1;
    tally.most.fetch_max(now, Ordering::Relaxed);
    let answer = spoil(shared, &faults, request).await;
    tally.now.fetch_sub(1, Ordering::Relaxed);
    answer
}

async fn spoil(shared: &Shared, faults: &Faults, request: Request<Incoming>) -> Response<Body> {
    tokio::time::sleep(faults.delay).await;
    let write = !matches!(*request.method(), Method::GET | Method::HEAD);
    let mut roll = roll(&shared.dice);
    let mut falls = |share: u32| {
        let fell = roll < share;
        roll = roll.saturating_sub(share);
        fell
    };
    let poisoned = |body: &[u8], path: &str| {
        let poison = faults.poison.as_ref().filter(|_| write);
        poison.is_some_and(|name| {
            path.contains(name) || String::from_utf8_lossy(body).contains(&format!("\"name\":\"{name}\""))
        })
    };
    let spoiled = if falls(faults.too_many) {
        Some(refusal(429, "TooManyRequests"))
    } else if falls(faults.broken) {
        Some(refusal(500, "InternalError"))
    } else if write && falls(faults.conflict) {
        Some(refusal(409, "Conflict"))
    } else {
        None
    };
    let lost = falls(faults.lost);
    if let Some(answer) = spoiled {
        shared.tally.spoiled.fetch_add(1, Ordering::Relaxed);
        return answer;
    }
    let path = request.uri().path().to_owned();
    let (head, body) = request.into_parts();
    let Ok(body) = body.collect().await.map(http_body_util::Collected::to_bytes) else {
        return refusal(400, "BadRequest");
    };
    if poisoned(&body, &path) {
        return refusal(500, "InternalError");
    }
    let answer = forward(shared, &head, body).await;
    if lost {
        shared.tally.spoiled.fetch_add(1, Ordering::Relaxed);
        return refusal(500, "InternalError");
    }
    answer
}

/// One number of a thousand, the same in every run.
fn roll(dice: &AtomicU64) -> u32 {
    let mut x = dice.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    u32::try_from((x ^ (x >> 31)) % 1000).unwrap_or(0)
}

async fn watch(shared: &Shared, watches: Watches, request: Request<Incoming>) -> Response<Body> {
    let state = shared.faults.clone();
    match watches {
        Watches::Cut => return respond(200, Bytes::new()),
        Watches::Expired => {
            let status = json!({"type": "ERROR", "object": {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "Expired", "code": 410, "message": "too old resource version"}});
            return respond(200, Bytes::from(format!("{status}\n")));
        }
        Watches::Whole | Watches::Silent => {}
    }
    let (head, _) = request.into_parts();
    let Ok(upstream) = send(shared, &head, Bytes::new()).await else { return refusal(502, "BadGateway") };
    let status = upstream.status();
    let lines: BoxStream<'static, Result<Bytes, reqwest::Error>> =
        futures::stream::try_unfold(upstream, async |mut upstream| {
            Ok(upstream.chunk().await?.map(|chunk| (chunk, upstream)))
        })
        .boxed();
    let frames = futures::stream::unfold(lines, move |mut lines| {
        let mut state = state.clone();
        async move {
            loop {
                let mood = state.borrow_and_update().watches;
                tokio::select! {
                    chunk = lines.next(), if mood == Watches::Whole => {
                        let chunk = chunk?.map(Frame::data).map_err(io::Error::other);
                        return Some((chunk, lines));
                    }
                    // Silent for ever: what was missed meanwhile does not come later.
                    () = std::future::pending(), if mood == Watches::Silent => {}
                    changed = state.changed() => {
                        let now = state.borrow().watches;
                        if changed.is_err() || matches!(now, Watches::Cut | Watches::Expired) {
                            return None;
                        }
                        if mood == Watches::Silent {
                            std::future::pending::<()>().await;
                        }
                    }
                }
            }
        }
    });
    let mut answer = Response::new(StreamBody::new(frames).boxed_unsync());
    *answer.status_mut() = status;
    answer
}

async fn forward(shared: &Shared, head: &hyper::http::request::Parts, body: Bytes) -> Response<Body> {
    let Ok(upstream) = send(shared, head, body).await else { return refusal(502, "BadGateway") };
    let (status, headers) = (upstream.status(), upstream.headers().clone());
    let Ok(body) = upstream.bytes().await else { return refusal(502, "BadGateway") };
    if !head.headers.contains_key(AUTHORIZATION) {
        shared.gate.note(head.method.as_str(), head.uri.path(), status.as_u16(), &body);
    }
    let mut answer = Response::new(whole(body));
    *answer.status_mut() = status;
    for (name, value) in &headers {
        if ![CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING].contains(name) {
            answer.headers_mut().append(name, value.clone());
        }
    }
    answer
}

async fn send(shared: &Shared, head: &hyper::http::request::Parts, body: Bytes) -> Result<reqwest::Response> {
    let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
    let mut request =
        shared.server.request(head.method.clone(), path, head.headers.contains_key(AUTHORIZATION)).body(body);
    for (name, value) in &head.headers {
        if ![CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING, HOST].contains(name) {
            request = request.header(name, value);
        }
    }
    request.send().await.context("the API server does not answer")
}

fn refusal(code: u16, reason: &str) -> Response<Body> {
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason, "code": code,
        "message": "a fault of the test",
    });
    let mut answer = respond(code, Bytes::from(status.to_string()));
    if code == 429 {
        answer.headers_mut().insert("retry-after", hyper::header::HeaderValue::from_static("1"));
    }
    answer
}

fn respond(code: u16, body: Bytes) -> Response<Body> {
    let mut answer = Response::new(whole(body));
    *answer.status_mut() = StatusCode::from_u16(code).unwrap_or(StatusCode::BAD_GATEWAY);
    answer.headers_mut().insert("content-type", hyper::header::HeaderValue::from_static("application/json"));
    answer
}

fn whole(body: Bytes) -> Body {
    Full::new(body).map_err(|never| match never {}).boxed_unsync()
}
