//! `PUT` and `PATCH` of a cluster: labels, addresses, switches, and the kubeconfig (rotation).
//!
//! Invariant: another API server is another cluster: a kubeconfig that leads to one is refused.

use super::{KIND, answer_one, check_public_server, get, own_labels};
use crate::api::change::{Change, unchanged, unchanged_id};
use crate::audit::digest;
use crate::auth::caller::{Caller, Deed};
use crate::auth::permission::ManageClusters;
use crate::events;
use crate::http::answer::Item;
use crate::http::error::ApiResult;
use crate::http::if_match::IfMatch;
use crate::http::params::{ItemId, ItemQueryExt, Query};
use crate::sync::settle;
use kubeop_api::cluster::{Cluster as Answer, ClusterInput};
use kubeop_api::resource::ItemQuery;
use kubeop_cluster::kubeconfig::{Intake, Kubeconfig};
use kubeop_cluster::probe;
use kubeop_core::{Error, Result};
use kubeop_store::cluster::{self, Cluster};

/// Replaces or patches the cluster of the path; absent switches stay as they are.
pub async fn handle(
    caller: Caller<ManageClusters>,
    ItemId(id): ItemId,
    if_match: IfMatch,
    Query(query): Query<ItemQuery>,
    change: Change<ClusterInput>,
) -> ApiResult<Item<Answer>> {
    Ok(apply(caller, &id, if_match, &query, change).await?)
}

/// Replaces or patches the cluster that the body names.
pub async fn handle_in_collection(
    caller: Caller<ManageClusters>,
    if_match: IfMatch,
    Query(query): Query<ItemQuery>,
    change: Change<ClusterInput>,
) -> ApiResult<Item<Answer>> {
    let id = change.id(|input| input.id.clone())?;
    Ok(apply(caller, &id, if_match, &query, change).await?)
}

async fn apply(
    caller: Caller<ManageClusters>,
    id: &str,
    if_match: IfMatch,
    query: &ItemQuery,
    change: Change<ClusterInput>,
) -> Result<Item<Answer>> {
    let manager = &caller.manager;
    let wait = query.wait()?;
    let mut row = get::find(&mut caller.read().await?.conn(), id).await?;
    if_match.check(row.version)?;
    let before = digest::of(&row)?;
    let input = change.onto(&as_input(&row))?;
    unchanged_id("id", input.id.as_deref(), row.id.0)?;
    unchanged("name", input.name.as_deref(), row.name.as_str())?;
    let replacement = match input.kubeconfig.as_deref() {
        None => None,
        Some(text) => {
            let kubeconfig = Kubeconfig::parse(text, Intake { insecure: manager.config.insecure })?;
            let (_, client) = manager.clusters.connect(&kubeconfig).await?;
            let probe = probe::probe(&client).await.map_err(|e| e.at("kubeconfig"))?;
            if probe.cluster_uid != row.cluster_uid {
                return Err(Error::invalid("kubeconfig: it leads to another cluster; register that one by POST"));
            }
            kubeconfig.server().to_string().trim_end_matches('/').clone_into(&mut row.server);
            Some(kubeconfig)
        }
    };
    row.public_server = check_public_server(input.public_server.as_deref())?;
    row.labels = own_labels(input.labels)?;
    row.auto_bootstrap = input.auto_bootstrap.unwrap_or(row.auto_bootstrap);
    row.install_admission = input.install_admission.unwrap_or(row.install_admission);
    // What is installed stays, so it stays said.
    row.with_mocks = row.with_mocks || input.with_mocks.unwrap_or(false);

    let mut tx = caller.change().await?;
    if let Some(kubeconfig) = &replacement {
        let sealed = manager.clusters.seal(&mut tx.conn(), row.id, kubeconfig).await?;
        let _ = cluster::set_kubeconfig(&mut tx.conn(), row.id, &sealed).await?;
    }
    if !cluster::update(&mut tx.conn(), &mut row, manager.clock.now()).await? {
        return Err(Error::conflict("the cluster was changed at the same time: read it again"));
    }
    let detail = if replacement.is_some() { "kubeconfig replaced" } else { "" };
    let deed = Deed {
        verb: "update",
        kind: KIND,
        id: row.id.to_string(),
        before: Some(before),
        after: Some(digest::of(&row)?),
        detail: detail.to_owned(),
        about: events::of_cluster(&row),
        ..Deed::default()
    };
    let (id, version) = (row.id, row.version);
    let item = answer_one(&mut tx.conn(), row).await?;
    caller.commit(tx, deed).await?;
    manager.wake.anew(id);
    if !wait.is_zero() {
        let looking = async {
            settle::wait_cluster(manager, id, wait).await?;
            let mut read = caller.read().await?;
            let row = get::find(&mut read.conn(), &id.to_string()).await?;
            let version = row.version;
            Ok(Item(answer_one(&mut read.conn(), row).await?, version))
        };
        return Ok(settle::or_committed(looking.await, Item(item, version)));
    }
    Ok(Item(item, version))
}

/// The current input. The kubeconfig is not in it: one that is given replaces the one that is stored.
fn as_input(row: &Cluster) -> ClusterInput {
    ClusterInput {
        id: Some(row.id.to_string()),
        name: Some(row.name.to_string()),
        kubeconfig: None,
        auto_bootstrap: Some(row.auto_bootstrap),
        install_admission: Some(row.install_admission),
        with_mocks: Some(row.with_mocks),
        public_server: row.public_server.clone(),
        labels: Some(row.labels.clone()),
    }
}
