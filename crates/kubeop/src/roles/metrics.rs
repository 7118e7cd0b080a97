//! A listener for metrics and probes of roles that serve no API.
//!
//! Invariant: reads only; lives as long as its role.

use anyhow::Context;
use axum::Router;
use axum::http::{StatusCode, header};
use axum::routing::get;
use kubeop_manager::http::server::Patience;
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// Serves `/metrics`, `/healthz` and `/readyz` until `shutdown`; `problems` tells why the role is not ready, a sentence each.
pub(crate) async fn serve(
    address: SocketAddr,
    registry: Arc<Mutex<Registry>>,
    problems: impl Fn() -> Vec<String> + Clone + Send + Sync + 'static,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let listener =
        TcpListener::bind(address).await.with_context(|| format!("KUBEOP_METRICS_ADDR: {address} cannot be used"))?;
    let metrics = move || {
        let registry = Arc::clone(&registry);
        async move {
            let mut text = String::new();
            // Writing into a String fails only for a metric that cannot be written at all, which tests exclude.
            let _ = encode(&mut text, &registry.lock().unwrap_or_else(PoisonError::into_inner));
            ([(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], text)
        }
    };
    let ready = async move || match problems() {
        problems if problems.is_empty() => (StatusCode::OK, "ok".to_owned()),
        problems => (StatusCode::SERVICE_UNAVAILABLE, problems.join("\n")),
    };
    let app = Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(async || "ok"))
        .route("/readyz", get(ready));
    kubeop_manager::http::server::serve(listener, app, shutdown, Patience::default()).await?;
    Ok(())
}
