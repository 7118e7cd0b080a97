//! Liveness, readiness, version, metrics and the OpenAPI document.
//!
//! Invariant: open to all, and cheap enough to be asked every second.

use crate::config::MetricsHome;
use crate::http::answer::Found;
use crate::http::error::{ApiError, ApiResult};
use crate::openapi as document;
use crate::state::Manager;
use aide::axum::IntoApiResponse;
use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;
use kubeop_api::platform::{Health, Version};
use kubeop_core::Error;
use kubeop_store::{Schema, Store, StoreError};
use prometheus_client::encoding::text::encode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// Whether the process lives.
pub async fn healthz() -> Found<Health> {
    Found(Health { status: "ok".to_owned() })
}

/// How long the schema is taken to be what it was when it was found current.
const SCHEMA_FOR: Duration = Duration::from_secs(5);

/// When the schema was last found to have all that is needed.
#[derive(Debug, Default)]
pub struct Readiness {
    current_at: Mutex<Option<Instant>>,
}

impl Readiness {
    async fn check(&self, store: &Store) -> Result<(), StoreError> {
        let known = *self.current_at.lock().unwrap_or_else(PoisonError::into_inner);
        if known.is_some_and(|at| at.elapsed() < SCHEMA_FOR) {
            return store.ping().await;
        }
        // A newer one was brought by the next release, during whose rollout this process goes on.
        match store.schema().await? {
            Schema::Current | Schema::Ahead { .. } => {}
            behind @ Schema::Behind { .. } => behind.check()?,
        }
        *self.current_at.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        Ok(())
    }
}

/// Whether requests can be served: the database answers and its schema is current.
pub async fn readyz(State(manager): State<Arc<Manager>>) -> ApiResult<Found<Health>> {
    if manager.shutdown.is_cancelled() {
        return Err(Error::unavailable("not ready: shutting down").into());
    }
    let asked = tokio::time::timeout(Duration::from_secs(2), manager.readiness.check(&manager.store)).await;
    match asked {
        Ok(Ok(())) => Ok(Found(Health { status: "ok".to_owned() })),
        Ok(Err(StoreError::Refused(why))) => Err(Error::unavailable(format!("not ready: {why}")).into()),
        Ok(Err(error)) => Err(Error::unavailable("not ready: the database does not answer").caused_by(error).into()),
        Err(_) => Err(Error::unavailable("not ready: the database does not answer in time").into()),
    }
}

/// Build metadata.
pub async fn version(State(manager): State<Arc<Manager>>) -> Found<Version> {
    let build = &manager.config.build;
    Found(Version {
        version: build.version.clone(),
        commit: build.commit.clone(),
        built_at: build.built_at.clone(),
        rust: build.rust.clone(),
    })
}

/// Metrics in OpenMetrics text; nothing where they have an address of their own, which is not everybody's to reach.
pub async fn metrics(State(manager): State<Arc<Manager>>) -> impl IntoApiResponse {
    if manager.config.metrics == MetricsHome::Apart {
        return ApiError(Error::not_found("metrics are served at the address KUBEOP_METRICS_ADDR")).into_response();
    }
    let mut text = String::new();
    let encoded = encode(&mut text, &manager.registry.lock().unwrap_or_else(PoisonError::into_inner));
    match encoded {
        Ok(()) => {
            let media_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            ([(header::CONTENT_TYPE, media_type)], text).into_response()
        }
        Err(error) => ApiError(Error::internal(error)).into_response(),
    }
}

/// This API's document.
pub async fn openapi() -> impl IntoApiResponse {
    static DOCUMENT: std::sync::OnceLock<Option<String>> = std::sync::OnceLock::new();
    match DOCUMENT.get_or_init(|| document::json().ok()) {
        Some(text) => ([(header::CONTENT_TYPE, "application/json")], text.as_str()).into_response(),
        None => ApiError(Error::internal("the OpenAPI document cannot be written")).into_response(),
    }
}
