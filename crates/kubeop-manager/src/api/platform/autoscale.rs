//! `POST /v1/platform/autoscale?clusterID=`.
//!
//! Invariant: bounds are checked, and who asked is on record, before the cluster is asked; `Enabled:false` removes what `true` made.

use super::of_query;
use crate::audit::digest;
use crate::auth::caller::{Caller, Deed};
use crate::auth::permission::ManageClusters;
use crate::events;
use crate::http::answer::Found;
use crate::http::body::Body;
use crate::http::error::ApiResult;
use crate::http::params::Query;
use kubeop_api::platform::{AutoscaleInput, AutoscaleResult, ClusterQuery};
use kubeop_cluster::hpa::{Bounds, autoscale};
use kubeop_core::{Error, Result};

/// Sets or removes the operator's autoscaler.
pub async fn handle(
    caller: Caller<ManageClusters>,
    Query(query): Query<ClusterQuery>,
    Body(input): Body<AutoscaleInput>,
) -> ApiResult<Found<AutoscaleResult>> {
    let manager = &caller.manager;
    let enabled = input.enabled.ok_or_else(|| Error::invalid("enabled: is required"))?;
    let (min, max, target_cpu) = (input.min.unwrap_or(1), input.max.unwrap_or(3), input.target_cpu.unwrap_or(70));
    let bounds = Bounds::new(narrow("min", min)?, narrow("max", max)?, narrow("target_cpu", target_cpu)?)?;
    let row = of_query(&mut caller.read().await?.conn(), query.cluster_id.as_deref()).await?;
    let connection = manager.clusters.get(&manager.store, &row).await?;
    let result = Found(AutoscaleResult { cluster_id: row.id, enabled, min, max, target_cpu });
    let deed = Deed {
        verb: "autoscale",
        kind: "cluster",
        id: row.id.to_string(),
        after: Some(digest::of(&result.0)?),
        detail: if enabled { format!("{min} to {max} at {target_cpu} %") } else { "removed".to_owned() },
        about: events::of_cluster(&row),
        ..Deed::default()
    };
    // The answer is known when it is done: a crash before that is made good by doing it again.
    caller.commit(caller.change().await?, deed).await?;
    let scaling = tokio::spawn(async move { autoscale(&connection.manager().await?, enabled.then_some(bounds)).await });
    scaling.await.map_err(Error::internal)??;
    Ok(result)
}

fn narrow(field: &str, value: i64) -> Result<i32> {
    i32::try_from(value).map_err(|_| Error::invalid(format!("{field}: {value} is not allowed: it is too large")))
}
