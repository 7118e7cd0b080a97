//! A manager over a fresh SQLite file, called through its router.
//!
//! Invariant: nothing is mocked but the network.

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Method, Request, StatusCode, header};
use http_body_util::BodyExt;
use jiff::SignedDuration;
use kubeop_core::authz::{Actor, Role};
use kubeop_core::clock::{Clock, SystemClock, SystemIds};
use kubeop_core::id::ClusterId;
use kubeop_core::name::Label;
use kubeop_core::policy::RawPolicy;
use kubeop_core::price::{Currency, parse_rate};
use kubeop_manager::auth::token::Tokens;
use kubeop_manager::clusters::Clusters;
use kubeop_manager::config::{Build, Config};
use kubeop_manager::http::layers::Gate;
use kubeop_manager::jobs::{first_start, keyring};
use kubeop_manager::metrics::Metrics;
use kubeop_manager::state::Manager;
use kubeop_manager::sync::Wake;
use kubeop_manager::vault::MasterKey;
use kubeop_plan::install::MetricsServer;
use kubeop_store::{Options, Store, TextMap, cluster, encryption_seed};
use prometheus_client::registry::Registry;
use secrecy::SecretSlice;
use serde_json::Value;
use std::sync::{Arc, Mutex};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

/// A manager and its router.
pub(crate) struct Fixture {
    pub(crate) manager: Arc<Manager>,
    router: Router,
    _folder: tempfile::TempDir,
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
        signing_keys: vec![key()],
        master_key: key(),
        insecure: false,
        first_policy: RawPolicy::default(),
        rate_cpu_milli: parse_rate("0.000001").unwrap(),
        rate_mem_mib: parse_rate("0.0000002").unwrap(),
        currency: Currency::parse("USD").unwrap(),
        invoice_grace: SignedDuration::from_hours(72),
        rate_limit: 0,
        operator_image: "ghcr.io/kubeop/kubeop:test".to_owned(),
        metrics_server: MetricsServer { image: "metrics-server:test".to_owned(), insecure_kubelets: false },
        bootstrap_on_start: false,
        host_gateway: None,
        build: Build { version: "0".into(), commit: "c".into(), built_at: "b".into(), rust: "r".into() },
    }
}

impl Fixture {
    /// A new installation.
    pub(crate) async fn new() -> Self {
        Self::with_clock(Arc::new(SystemClock)).await
    }

    /// A new installation under this clock.
    pub(crate) async fn with_clock(clock: Arc<dyn Clock>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", folder.path().join("kubeop.db").display());
        let store = Store::open(&url, Options::default()).await.unwrap();
        store.migrate().await.unwrap();
        let config = config();
        let master = MasterKey::new(key()).unwrap();
        let keyring = keyring::open(&store, &master, &SystemClock, &SystemIds).await.unwrap();
        let instance = first_start::instance(&store, &SystemIds).await.unwrap();
        first_start::policy(&store, &config, &SystemClock).await.unwrap();
        first_start::prices(&store, &config, &*clock).await.unwrap();
        let mut registry = Registry::default();
        let manager = Arc::new(Manager {
            tokens: Tokens::new(&config.signing_keys),
            gate: Gate::new(0),
            clusters: Clusters::new(keyring, None),
            wake: Wake::default(),
            config,
            store,
            clock,
            ids: Arc::new(SystemIds),
            instance,
            metrics: Metrics::register(&mut registry),
            registry: Arc::new(Mutex::new(registry)),
            host: None,
            shutdown: CancellationToken::new(),
        });
        Self { router: kubeop_manager::router::build(&manager), manager, _folder: folder }
    }

    /// A token of this role, without an id, so that nothing is recorded.
    pub(crate) fn token(&self, role: Role) -> String {
        let actor = Actor { subject: "test".into(), role, token_id: None };
        let now = self.manager.clock.now();
        self.manager.tokens.sign(&actor, now, now + SignedDuration::from_mins(5)).unwrap()
    }

    /// A tenant made through the API, on a cluster that is only a row; its id.
    pub(crate) async fn tenant(&self, name: &str) -> String {
        let mut tx = self.manager.store.begin().await.unwrap();
        let c = &mut tx.conn();
        let all = cluster::list(c, &kubeop_store::Page::first(1)).await.unwrap();
        let home = match all.into_iter().next() {
            Some(home) => home.id,
            None => self.cluster(c).await,
        };
        tx.commit().await.unwrap();
        let body = format!(r#"{{"name":"{name}","clusterID":"{home}"}}"#);
        let made = self.call("POST", "/v1/tenants", Some(&self.token(Role::Admin)), Some(&body)).await;
        assert_eq!(made.status, StatusCode::CREATED, "{}", made.body);
        made.body["id"].as_str().unwrap().to_owned()
    }

    async fn cluster(&self, c: &mut kubeop_store::Conn<'_>) -> ClusterId {
        let now = self.manager.clock.now();
        let seed_id = encryption_seed::list(c).await.unwrap()[0].id;
        let row = cluster::Cluster {
            id: ClusterId(self.manager.ids.next()),
            name: Label::parse("home").unwrap(),
            labels: TextMap::new(),
            server: "https://home:6443".to_owned(),
            cluster_uid: "uid".to_owned(),
            public_server: None,
            auto_bootstrap: false,
            install_admission: false,
            with_mocks: false,
            version: 1,
            bootstrap_state: cluster::BootstrapState::None,
            bootstrap_message: None,
            created_at: now,
            updated_at: now,
            deleted_at: None,
        };
        let sealed = cluster::Sealed { seed_id, bytes: vec![1] };
        assert_eq!(cluster::insert(c, &row, &sealed).await.unwrap(), kubeop_store::Inserted::Yes);
        row.id
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
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        let body =
            serde_json::from_slice(&bytes).unwrap_or(Value::String(String::from_utf8_lossy(&bytes).into_owned()));
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
