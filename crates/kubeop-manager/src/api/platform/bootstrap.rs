//! `POST /v1/platform/bootstrap?clusterID=`.
//!
//! Invariant: idempotent; an absent switch means unchanged.

use super::of_query;
use crate::audit::digest;
use crate::auth::caller::{Caller, Deed};
use crate::auth::permission::ManageClusters;
use crate::bootstrap::{self, Installed, MetricsWanted};
use crate::events;
use crate::http::answer::Found;
use crate::http::body::Body;
use crate::http::error::ApiResult;
use crate::http::params::Query;
use crate::state::Manager;
use kubeop_api::platform::{BootstrapInput, BootstrapResult, ClusterQuery};
use kubeop_core::Error;
use kubeop_store::cluster::{self, BootstrapState};

/// Installs or upgrades kubeOP on a cluster.
pub async fn handle(
    caller: Caller<ManageClusters>,
    Query(query): Query<ClusterQuery>,
    Body(input): Body<BootstrapInput>,
) -> ApiResult<Found<BootstrapResult>> {
    let manager = &caller.manager;
    let metrics = match input.install_metrics_server {
        Some(true) => MetricsWanted::Yes,
        Some(false) | None => MetricsWanted::AsItIs,
    };
    let mut row = of_query(&mut caller.read().await?.conn(), query.cluster_id.as_deref()).await?;
    if row.bootstrap_state == BootstrapState::Removing {
        // A removal under way ends first; one that failed is taken back.
        drop(manager.clusters.alone(row.id).await);
        row = of_query(&mut caller.read().await?.conn(), Some(&row.id.to_string())).await?;
    }
    let before = digest::of(&row)?;
    row.install_admission = input.install_admission.unwrap_or(row.install_admission);
    row.with_mocks = row.with_mocks || input.mocks.unwrap_or(false);
    let mut tx = caller.change().await?;
    if !cluster::update(&mut tx.conn(), &mut row, manager.clock.now()).await? {
        return Err(Error::conflict("the cluster was changed at the same time: try again").into());
    }
    let _ = cluster::take_back(&mut tx.conn(), row.id).await?;
    let deed = Deed {
        verb: "bootstrap",
        kind: "cluster",
        id: row.id.to_string(),
        before: Some(before),
        after: Some(digest::of(&row)?),
        about: events::of_cluster(&row),
        ..Deed::default()
    };
    // The answer is known when all is installed: a crash before that is made good by doing it again.
    caller.commit(tx, deed).await?;
    let installed = match bootstrap::attempt(manager, &row, metrics).await {
        Ok(installed) => installed,
        Err(error) => {
            // Recorded with the cluster too, as after a registration.
            bootstrap::record_failure(manager, &row, &error).await;
            return Err(error.into());
        }
    };
    Ok(Found(BootstrapResult {
        cluster_id: row.id,
        objects: installed.objects,
        admission: installed.admission,
        message: told(manager, &installed),
    }))
}

fn told(manager: &Manager, installed: &Installed) -> String {
    let home = match &manager.host {
        Some(_) => "operator and admission run in this process".to_owned(),
        None => format!("operator and admission run as pods of image {}", manager.config.operator_image),
    };
    if installed.left.is_empty() {
        return home;
    }
    format!("{home}; left alone, since others manage them: {}", installed.left.join(", "))
}
