//! A manager over a fresh database of either kind, called through its router.
//!
//! Invariant: nothing is mocked but the network and the time, which stands still until a test sets it.

use crate::document;
use crate::world::add_cluster;
use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Method, Request, StatusCode, header};
use http_body_util::BodyExt;
use jiff::{SignedDuration, Timestamp};
use kubeop_cluster::address::AddressPolicy;
use kubeop_core::authz::{Actor, Role};
use kubeop_core::clock::{Clock, ManualClock, SystemClock, SystemIds};
use kubeop_core::policy::RawPolicy;
use kubeop_core::price::{Currency, parse_rate};
use kubeop_manager::api::system::Readiness;
use kubeop_manager::auth::token::Tokens;
use kubeop_manager::clusters::Clusters;
use kubeop_manager::config::{Build, Config, MetricsHome};
use kubeop_manager::events::Events;
use kubeop_manager::http::gate::Gate;
use kubeop_manager::jobs::first_start;
use kubeop_manager::keys::keyring;
use kubeop_manager::metrics::Metrics;
use kubeop_manager::state::Manager;
use kubeop_manager::sync::{Turns, Wake};
use kubeop_plan::install::MetricsServer;
use kubeop_store::{Options, Page, Store, cluster};
use prometheus_client::registry::Registry;
use secrecy::SecretSlice;
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

/// A manager and its router.
pub(crate) struct Fixture {
    pub(crate) manager: Arc<Manager>,
    pub(crate) clock: Arc<ManualClock>,
    router: Router,
    _folder: Option<tempfile::TempDir>,
}

/// Defines tests that run on both databases: `both! { async fn name(fixture) { ... } }` makes `name::sqlite` and `name::postgres`.
macro_rules! both {
    ($($(#[$meta:meta])* async fn $name:ident($fixture:ident) $body:block)*) => {$(
        $(#[$meta])*
        mod $name {
            use super::*;

            async fn check($fixture: crate::fixture::Fixture) $body

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn sqlite() {
                crate::database::sqlite(|store| async { check(crate::fixture::Fixture::over(store).await).await }).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn postgres() {
                crate::database::postgres(|store| async { check(crate::fixture::Fixture::over(store).await).await }).await;
            }
        }
    )*};
}

/// An answer.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Value,
}

fn key() -> SecretSlice<u8> {
    SecretSlice::from(vec![7; 32])
}

pub(crate) fn config() -> Config {
    Config {
        require_auth: true,
        metrics: MetricsHome::Api,
        signing_keys: vec![key()],
        master_key: key(),
        master_key_previous: None,
        servers: AddressPolicy::default(),
        insecure: false,
        first_policy: RawPolicy::default(),
        rate_cpu_milli: parse_rate("0.000001").unwrap(),
        rate_mem_mib: parse_rate("0.0000002").unwrap(),
        currency: Currency::parse("USD").unwrap(),
        invoice_grace: SignedDuration::from_hours(72),
        rate_limit: 0,
        linger: std::time::Duration::ZERO,
        operator_image: "ghcr.io/kubeop/kubeop:test".to_owned(),
        metrics_server: MetricsServer { image: "metrics-server:test".to_owned(), insecure_kubelets: false },
        bootstrap_on_start: false,
        host_gateway: None,
        event_hook: None,
        cluster_ready_hook: None,
        build: Build { version: "0".into(), commit: "c".into(), built_at: "b".into(), rust: "r".into() },
    }
}

impl Fixture {
    /// A new installation over an empty database, now.
    pub(crate) async fn over(store: Store) -> Self {
        Self::configured(store, config()).await
    }

    /// The same with another configuration.
    pub(crate) async fn configured(store: Store, config: Config) -> Self {
        Self::start(store, SystemClock.now(), config).await
    }

    /// The same with a gate of its own.
    pub(crate) async fn gated(store: Store, gate: Gate) -> Self {
        Box::pin(Self::start_gated(store, SystemClock.now(), config(), gate)).await
    }

    /// The same with a limit of requests a second.
    pub(crate) async fn with(store: Store, rate: u32) -> Self {
        Self::configured(store, Config { rate_limit: rate, ..config() }).await
    }

    /// A replica with these master keys, over a database that may be in use.
    pub(crate) async fn with_keys(store: Store, current: u8, previous: Option<u8>) -> Self {
        let key = |byte| SecretSlice::from(vec![byte; 32]);
        let config = Config { master_key: key(current), master_key_previous: previous.map(key), ..config() };
        Self::configured(store, config).await
    }

    /// A new installation over an SQLite file of its own, now.
    pub(crate) async fn new() -> Self {
        Self::at(SystemClock.now()).await
    }

    /// The same at a time.
    pub(crate) async fn at(now: Timestamp) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", folder.path().join("kubeop.db").display());
        let store = Store::open(&url, Options::default()).await.unwrap();
        store.migrate().await.unwrap();
        Self { _folder: Some(folder), ..Self::start(store, now, config()).await }
    }

    async fn start(store: Store, now: Timestamp, config: Config) -> Self {
        let gate = Gate::new(config.rate_limit);
        Box::pin(Self::start_gated(store, now, config, gate)).await
    }

    async fn start_gated(store: Store, now: Timestamp, config: Config, gate: Gate) -> Self {
        let clock = Arc::new(ManualClock::new(now));
        let mut registry = Registry::default();
        let metrics = Metrics::register(&mut registry);
        let unreadable = metrics.secrets_unreadable.clone();
        let keyring =
            keyring::open(&store, config.master_keys().unwrap(), &*clock, &SystemIds, unreadable).await.unwrap();
        let instance = first_start::instance(&store, &SystemIds).await.unwrap();
        first_start::policy(&store, &config, &*clock).await.unwrap();
        let events = Events::new(&config).unwrap();
        first_start::prices(&store, &config, &*clock, &SystemIds, &events).await.unwrap();
        let manager = Arc::new(Manager {
            tokens: Tokens::new(&config.signing_keys),
            gate,
            clusters: Clusters::new(keyring, config.servers.clone(), None),
            wake: Wake::default(),
            events,
            turns: Turns::default(),
            readiness: Readiness::default(),
            config,
            store,
            clock: Arc::<ManualClock>::clone(&clock),
            ids: Arc::new(SystemIds),
            instance,
            metrics,
            registry: Arc::new(Mutex::new(registry)),
            host: None,
            shutdown: CancellationToken::new(),
        });
        Self { router: kubeop_manager::router::build(&manager), manager, clock, _folder: None }
    }

    /// The application.
    pub(crate) fn router(&self) -> Router {
        self.router.clone()
    }

    /// A token of this role, without an id, so that nothing is recorded.
    pub(crate) fn token(&self, role: Role) -> String {
        let actor = Actor { subject: "test".into(), role, token_id: None };
        let now = self.manager.clock.now();
        self.manager.tokens.sign(&actor, now, now + SignedDuration::from_mins(5)).unwrap()
    }

    /// A tenant made through the API, on a cluster that is only a row; its id.
    pub(crate) async fn tenant(&self, name: &str) -> String {
        let all = cluster::list(&mut self.manager.store.read().await.unwrap().conn(), &Page::first(1)).await.unwrap();
        let home = match all.into_iter().next() {
            Some(home) => home,
            None => add_cluster(self, "home").await,
        };
        let made = self.admin("POST", "/v1/tenants", &json!({"name": name, "clusterID": home.id}), 201).await;
        made["id"].as_str().unwrap().to_owned()
    }

    /// Calls the API as an admin, and expects this status.
    pub(crate) async fn admin(&self, method: &str, path: &str, body: &Value, status: u16) -> Value {
        let body = body.to_string();
        let answer = self.call(method, path, Some(&self.token(Role::Admin)), Some(&body)).await;
        assert_eq!(answer.status, status, "{method} {path} {body}: {}", answer.body);
        answer.body
    }

    /// Calls the API.
    pub(crate) async fn call(&self, method: &str, path: &str, token: Option<&str>, body: Option<&str>) -> Answer {
        let mut request = Request::builder().method(Method::from_bytes(method.as_bytes()).unwrap()).uri(path);
        if let Some(token) = token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        if body.is_some() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        self.send(request.body(body.map_or_else(Body::empty, |text| Body::from(text.to_owned()))).unwrap()).await
    }

    /// Sends a request as it is.
    pub(crate) async fn send(&self, request: Request<Body>) -> Answer {
        let asked = (request.method().as_str().to_lowercase(), request.uri().path().to_owned());
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        let body =
            serde_json::from_slice(&bytes).unwrap_or(Value::String(String::from_utf8_lossy(&bytes).into_owned()));
        document::check(&asked.0, &asked.1, parts.status.as_u16());
        Answer { status: parts.status, headers: parts.headers, body }
    }

    /// A fresh id that nothing has.
    pub(crate) fn absent(&self) -> String {
        self.manager.ids.next().to_string()
    }
}

impl Answer {
    /// The error's sentence; fails if the body is anything else than `{"error": sentence}`.
    pub(crate) fn error(&self) -> &str {
        let body = self.body.as_object().unwrap_or_else(|| panic!("{} {}", self.status, self.body));
        assert_eq!(body.len(), 1, "{}", self.body);
        body["error"].as_str().unwrap_or_else(|| panic!("{}", self.body))
    }
}

/// Every operation of the document: method and path pattern.
pub(crate) fn operations() -> Vec<(String, String)> {
    let document: Value = serde_json::from_str(&kubeop_manager::openapi::json().unwrap()).unwrap();
    let mut all = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for method in item.as_object().unwrap().keys() {
            all.push((method.to_uppercase(), path.clone()));
        }
    }
    assert!(all.len() > 40, "the document has {} operations", all.len());
    all
}

/// Whether an operation is open to everybody.
pub(crate) fn is_open(path: &str) -> bool {
    ["/healthz", "/readyz", "/version", "/metrics", "/openapi.json"].contains(&path)
}
