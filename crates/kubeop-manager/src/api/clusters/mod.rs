//! Clusters: one operation a file, and how a row becomes an answer.
//!
//! Invariant: no answer holds a kubeconfig; clusters are the platform team's alone.

pub mod change;
pub mod delete;
pub mod get;
pub mod list;
pub mod register;
pub mod status;

use crate::api::status::Reachability;
use crate::sync::reach;
use kubeop_api::cluster::Cluster as Answer;
use kubeop_api::resource::{Labels, Phase, Status, check_labels};
use kubeop_cluster::address::{AddressPolicy, check_server_address};
use kubeop_cluster::kubeconfig::{literal_address, parse_server};
use kubeop_core::{Error, Result};
use kubeop_crds::labels;
use kubeop_store::Conn;
use kubeop_store::cluster::{BootstrapState, Cluster};

/// The object kind in the audit log.
const KIND: &str = "cluster";

/// Rows as answers, with what the sync knows of each cluster.
async fn answers(conn: &mut Conn<'_>, rows: Vec<Cluster>) -> Result<Vec<Answer>> {
    let ids: Vec<_> = rows.iter().map(|row| row.id).collect();
    let reach = reach::of_clusters(conn, &ids).await?;
    Ok(rows
        .into_iter()
        .map(|row| {
            let known = reach.of(row.id);
            answer(row, &known)
        })
        .collect())
}

async fn answer_one(conn: &mut Conn<'_>, row: Cluster) -> Result<Answer> {
    answers(conn, vec![row]).await?.pop().ok_or_else(|| Error::internal("an answer per row"))
}

fn answer(row: Cluster, known: &Reachability) -> Answer {
    let mut all = Labels::from([(labels::CLUSTER_ID.to_owned(), row.id.to_string())]);
    all.extend(row.labels.clone());
    Answer {
        id: row.id,
        name: row.name.to_string(),
        labels: all,
        finalizers: vec![labels::FINALIZER.to_owned()],
        status: status(&row, known),
        server: row.server,
        public_server: row.public_server,
        auto_bootstrap: row.auto_bootstrap,
        install_admission: row.install_admission,
        with_mocks: row.with_mocks,
        version: row.version,
        created_at: row.created_at,
        updated_at: row.updated_at,
    }
}

fn status(row: &Cluster, known: &Reachability) -> Status {
    let told = row.bootstrap_message.clone().unwrap_or_default();
    let (phase, message) = match row.bootstrap_state {
        BootstrapState::None => (Phase::Pending, "not set up yet: POST /v1/platform/bootstrap".to_owned()),
        BootstrapState::Pending => (Phase::Pending, told),
        BootstrapState::Failed => (Phase::Degraded, told),
        BootstrapState::Removing => (Phase::Deleting, told),
        BootstrapState::Done if !known.reachable => (Phase::Unreachable, known.message.clone()),
        // It is served all the same.
        BootstrapState::Done if !told.is_empty() => (Phase::Degraded, format!("the last upgrade failed: {told}")),
        BootstrapState::Done => (Phase::Ready, String::new()),
    };
    let synced = row.bootstrap_state == BootstrapState::Done;
    Status { phase, message, conditions: Vec::new(), synced }
}

/// Checks the address tenants shall use. Only they connect to it, so any private one will do.
fn check_public_server(text: Option<&str>) -> Result<Option<String>> {
    let Some(text) = text.filter(|text| !text.is_empty()) else { return Ok(None) };
    let place = |error: Error| error.at("public_server");
    let uri = parse_server(text).map_err(place)?;
    if let Some(address) = literal_address(&uri) {
        check_server_address(address, &AddressPolicy::default()).map_err(place)?;
    }
    Ok(Some(text.trim_end_matches('/').to_owned()))
}

fn own_labels(labels: Option<Labels>) -> Result<Labels> {
    check_labels(labels.unwrap_or_default())
}
