//! `GET /v1/clusters/{id}/status` and `/ready`: what is observed on the cluster at this moment.
//!
//! Invariant: asked of the cluster itself, bounded in time; never guessed from what was installed.

use super::get::find;
use crate::auth::caller::Caller;
use crate::auth::permission::ManageClusters;
use crate::http::answer::Found;
use crate::http::error::ApiResult;
use crate::http::params::{ItemId, NoQuery};
use crate::state::Manager;
use kubeop_api::cluster::ClusterStatus as Answer;
use kubeop_core::{Error, Result};
use kubeop_store::cluster::{self, BootstrapState, Cluster};
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(8);

/// What is observed on a cluster.
pub async fn status(caller: Caller<ManageClusters>, ItemId(id): ItemId, _: NoQuery) -> ApiResult<Found<Answer>> {
    let row = find(&mut caller.read().await?.conn(), &id).await?;
    Ok(Found(observe(&caller.manager, &row).await?))
}

/// 200 when operator and admission are ready and the CA bundle is set, else 503 with the reason.
pub async fn ready(caller: Caller<ManageClusters>, ItemId(id): ItemId, _: NoQuery) -> ApiResult<Found<Answer>> {
    let row = find(&mut caller.read().await?.conn(), &id).await?;
    let seen = observe(&caller.manager, &row).await?;
    if seen.is_ready() {
        return Ok(Found(seen));
    }
    let missing: Vec<&str> =
        [(seen.operator, "operator"), (seen.admission, "admission"), (seen.webhook_ca_bundle, "webhookCABundle")]
            .into_iter()
            .filter_map(|(there, name)| (!there).then_some(name))
            .collect();
    let why = seen.messages.join("; ");
    Err(Error::unavailable(format!("the cluster is not ready: {} missing: {why}", missing.join(", "))).into())
}

/// Looks at the cluster. Of one that does not answer, `last_seen` is when it last did.
pub async fn observe(manager: &Manager, row: &Cluster) -> Result<Answer> {
    let mut seen = look(manager, row).await?;
    if seen.last_seen.is_none() {
        seen.last_seen = cluster::last_seen(&mut manager.store.read().await?.conn(), row.id).await?;
    }
    Ok(seen)
}

async fn look(manager: &Manager, row: &Cluster) -> Result<Answer> {
    let connection = manager.clusters.get(&manager.store, row).await?;
    let nonce = manager.ids.next();
    let installed = row.bootstrap_state == BootstrapState::Done;
    let looking = async {
        // Before bootstrap there is no ServiceAccount to look as.
        let client = if installed { connection.manager().await? } else { connection.registered.clone() };
        Ok::<_, Error>(kubeop_cluster::status::observe(&client, nonce, manager.clock.now()).await)
    };
    let looked = tokio::select! {
        looked = tokio::time::timeout(LIMIT, looking) => looked,
        () = manager.shutdown.cancelled() => return Err(Error::unavailable("this process is shutting down")),
    };
    let seen = match looked {
        Ok(Ok(seen)) => seen,
        Ok(Err(error)) => return Ok(unreachable(error.message())),
        Err(_) => return Ok(unreachable("it does not answer in time")),
    };
    Ok(Answer {
        operator: seen.operator,
        admission: seen.admission,
        webhook_ca_bundle: seen.webhook_ca_bundle,
        reachable: seen.reachable,
        version: seen.version,
        nodes: seen.nodes.and_then(|nodes| i64::try_from(nodes).ok()),
        last_seen: seen.last_seen,
        messages: seen.messages,
    })
}

fn unreachable(why: &str) -> Answer {
    Answer {
        operator: false,
        admission: false,
        webhook_ca_bundle: false,
        reachable: false,
        version: None,
        nodes: None,
        last_seen: None,
        messages: vec![why.to_owned()],
    }
}
