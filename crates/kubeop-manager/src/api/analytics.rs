//! `GET /v1/analytics/summary`.
//!
//! Invariant: apps are counted by a scan in pages, of which only what is counted is read, so that memory stays bounded.

use crate::auth::caller::Caller;
use crate::auth::permission::ReadAnalytics;
use crate::http::answer::Found;
use crate::http::error::ApiResult;
use crate::http::params::NoQuery;
use kubeop_api::platform::AnalyticsSummary;
use kubeop_core::image::ImageRef;
use kubeop_store::{app, cluster, project, tenant};
use std::collections::BTreeMap;

const PAGE: u32 = 1000;

/// Delivery and registry figures.
pub async fn summary(caller: Caller<ReadAnalytics>, _: NoQuery) -> ApiResult<Found<AnalyticsSummary>> {
    let mut read = caller.read().await?;
    let mut delivery_kinds: BTreeMap<String, u64> = BTreeMap::new();
    let mut registry_hosts: BTreeMap<String, u64> = BTreeMap::new();
    let mut after = None;
    loop {
        let page = app::deliveries(&mut read.conn(), after, PAGE).await?;
        let Some(last) = page.last() else { break };
        after = Some((last.tenant_id, last.id));
        for row in page {
            *delivery_kinds.entry(row.kind.unwrap_or_else(|| "unknown".to_owned())).or_default() += 1;
            if let Some(image) = row.image.as_deref()
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
