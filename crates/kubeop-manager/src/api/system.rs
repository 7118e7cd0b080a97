//! Liveness, readiness, version, metrics and the OpenAPI document.
//!
//! Invariant: open to all, and cheap enough to be asked every second.

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
use prometheus_client::encoding::text::encode;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

/// Whether the process lives.
pub async fn healthz() -> Found<Health> {
    Found(Health { status: "ok".to_owned() })
}

/// Whether requests can be served: the database answers and its schema is current.
pub async fn readyz(State(manager): State<Arc<Manager>>) -> ApiResult<Found<Health>> {
    if manager.shutdown.is_cancelled() {
        return Err(Error::unavailable("not ready: shutting down").into());
    }
    let asked = tokio::time::timeout(Duration::from_secs(2), manager.store.ping()).await;
    match asked {
        Ok(Ok(())) => Ok(Found(Health { status: "ok".to_owned() })),
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

/// Metrics in OpenMetrics text.
pub async fn metrics(State(manager): State<Arc<Manager>>) -> impl IntoApiResponse {
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
