//! `GET /v1/analytics/summary`.
//!
//! Invariant: apps are counted by a scan in pages, so that memory stays bounded.

use crate::auth::caller::Caller;
use crate::auth::permission::ReadAnalytics;
use crate::http::answer::Found;
use crate::http::error::ApiResult;
use crate::http::params::NoQuery;
use kubeop_api::platform::AnalyticsSummary;
use kubeop_core::image::ImageRef;
use kubeop_store::{app, cluster, project, tenant};
use serde_json::Value;
use std::collections::BTreeMap;

const PAGE: u32 = 1000;

/// Delivery and registry figures.
pub async fn summary(caller: Caller<ReadAnalytics>, _: NoQuery) -> ApiResult<Found<AnalyticsSummary>> {
    let mut read = caller.read().await?;
    let mut delivery_kinds: BTreeMap<String, u64> = BTreeMap::new();
    let mut registry_hosts: BTreeMap<String, u64> = BTreeMap::new();
    let mut after = None;
    loop {
        let page = app::specs(&mut read.conn(), after, PAGE).await?;
        let Some(last) = page.last() else { break };
        after = Some((last.tenant_id, last.id));
        for row in &page {
            let Some(delivery) = row.spec.get("delivery") else { continue };
            let kind = delivery.get("kind").and_then(Value::as_str).unwrap_or("unknown");
            *delivery_kinds.entry(kind.to_owned()).or_default() += 1;
            if let Some(image) = image_of(delivery)
                && let Ok(image) = ImageRef::parse(image)
            {
                *registry_hosts.entry(image.registry().to_owned()).or_default() += 1;
            }
        }
    }
    Ok(Found(AnalyticsSummary {
        delivery_kinds,
        registry_hosts,
        clusters: cluster::count(&mut read.conn()).await?,
        tenants: tenant::count(&mut read.conn()).await?,
        projects: project::count(&mut read.conn()).await?,
        apps: app::count(&mut read.conn()).await?,
    }))
}

fn image_of(delivery: &Value) -> Option<&str> {
    let image = delivery.get("image")?;
    image.as_str().or_else(|| image.get("ref")?.as_str())
}
