//! Projects: one operation a file, and how a row becomes an answer.
//!
//! Invariant: what a project holds of its tenant's envelope is decided under the tenant's lock.

pub mod change;
pub mod create;
pub mod delete;
pub mod get;
pub mod list;
pub mod quota;

use crate::api::status;
use crate::sync::{objects, reach};
use kubeop_api::project::Project as Answer;
use kubeop_api::resource::{Labels, QuotaMap};
use kubeop_core::{Error, Result};
use kubeop_crds::labels;
use kubeop_store::Conn;
use kubeop_store::cluster_object::ObjectKind;
use kubeop_store::project::Project;

/// The object kind in the audit log.
const KIND: &str = "project";

async fn answers(conn: &mut Conn<'_>, rows: Vec<Project>) -> Result<Vec<Answer>> {
    let ids: Vec<_> = rows.iter().map(|row| row.id.0).collect();
    let clusters: Vec<_> = rows.iter().map(|row| row.cluster_id).collect();
    let objects = objects::of_entities(conn, ObjectKind::Project, &ids).await?;
    let reach = reach::of_clusters(conn, &clusters).await?;
    Ok(rows
        .into_iter()
        .map(|row| {
            let known = reach.of(row.cluster_id);
            let status = status::of_entity(objects.get(&row.id.0), row.deleting_at.is_some(), &known);
            let mut all = Labels::from([
                (labels::CLUSTER_ID.to_owned(), row.cluster_id.to_string()),
                (labels::TENANT_ID.to_owned(), row.tenant_id.to_string()),
                (labels::PROJECT_ID.to_owned(), row.id.to_string()),
            ]);
            all.extend(row.labels);
            Answer {
                id: row.id,
                tenant_id: row.tenant_id,
                cluster_id: row.cluster_id,
                name: row.name.to_string(),
                namespace: row.namespace.to_string(),
                quotas: row.quotas.map(QuotaMap),
                granted: QuotaMap(row.granted),
                pod_security: row.pod_security,
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
pub async fn answer(conn: &mut Conn<'_>, row: Project) -> Result<Answer> {
    answers(conn, vec![row]).await?.pop().ok_or_else(|| Error::internal("an answer per row"))
}

fn missing(id: impl std::fmt::Display) -> Error {
    Error::not_found(format!("there is no project {id}"))
}

fn pod_security(text: Option<&str>) -> Result<String> {
    match text {
        None => Ok("baseline".to_owned()),
        Some(level @ ("baseline" | "restricted")) => Ok(level.to_owned()),
        Some(other) => Err(Error::invalid(format!(
            "pod_security: {:?} is not allowed: baseline or restricted",
            kubeop_core::id::shorten(other)
        ))),
    }
}
