//! Apps: one operation a file, and how a row becomes an answer.
//!
//! Invariant: `spec` is stored as the App resource's spec, in one form: hosts in `hosts`, the kind named.

pub mod change;
pub mod create;
pub mod delete;
pub mod get;
pub mod hosts;
pub mod list;
pub mod spec;

use crate::api::status;
use crate::sync::{objects, reach};
use kubeop_api::app::App as Answer;
use kubeop_api::resource::Labels;
use kubeop_core::{Error, Result};
use kubeop_crds::labels;
use kubeop_store::Conn;
use kubeop_store::app::App;
use kubeop_store::cluster_object::ObjectKind;
use kubeop_store::project;
use std::collections::{BTreeSet, HashMap};

/// The object kind in the audit log.
const KIND: &str = "app";

async fn answers(conn: &mut Conn<'_>, rows: Vec<App>) -> Result<Vec<Answer>> {
    let ids: Vec<_> = rows.iter().map(|row| row.id.0).collect();
    let clusters: Vec<_> = rows.iter().map(|row| row.cluster_id).collect();
    let projects: BTreeSet<_> = rows.iter().map(|row| row.project_id).collect();
    let objects = objects::of_entities(conn, ObjectKind::App, &ids).await?;
    let reach = reach::of_clusters(conn, &clusters).await?;
    let namespaces: HashMap<_, _> = project::namespaces_of(conn, &projects.into_iter().collect::<Vec<_>>())
        .await?
        .into_iter()
        .map(|held| (held.project_id, held.namespace))
        .collect();
    Ok(rows
        .into_iter()
        .map(|row| {
            let known = reach.of(row.cluster_id);
            let status = status::of_entity(objects.get(&row.id.0), row.deleting_at.is_some(), &known);
            let mut all = Labels::from([
                (labels::CLUSTER_ID.to_owned(), row.cluster_id.to_string()),
                (labels::TENANT_ID.to_owned(), row.tenant_id.to_string()),
                (labels::PROJECT_ID.to_owned(), row.project_id.to_string()),
                (labels::APP_ID.to_owned(), row.id.to_string()),
            ]);
            all.extend(row.labels);
            Answer {
                id: row.id,
                project_id: row.project_id,
                tenant_id: row.tenant_id,
                cluster_id: row.cluster_id,
                name: row.name.to_string(),
                namespace: namespaces.get(&row.project_id).map(ToString::to_string).unwrap_or_default(),
                spec: row.spec,
                labels: all,
                version: row.version,
                created_at: row.created_at,
                updated_at: row.updated_at,
                status,
            }
        })
        .collect())
}

/// One row as an answer.
pub async fn answer(conn: &mut Conn<'_>, row: App) -> Result<Answer> {
    answers(conn, vec![row]).await?.pop().ok_or_else(|| Error::internal("an answer per row"))
}

fn missing(id: impl std::fmt::Display) -> Error {
    Error::not_found(format!("there is no app {id}"))
}
