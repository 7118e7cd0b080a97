//! Tenants: one operation a file, and how a row becomes an answer.
//!
//! Invariant: changed by the platform team alone; a tenant reads its own.

pub mod change;
pub mod create;
pub mod delete;
pub mod get;
pub mod list;

use crate::api::status;
use crate::sync::{objects, reach};
use kubeop_api::resource::{Labels, QuotaMap};
use kubeop_api::tenant::Tenant as Answer;
use kubeop_core::quota::Quotas;
use kubeop_core::{Error, Result};
use kubeop_crds::labels;
use kubeop_store::Conn;
use kubeop_store::cluster_object::ObjectKind;
use kubeop_store::tenant::Tenant;

/// The object kind in the audit log.
const KIND: &str = "tenant";

async fn answers(conn: &mut Conn<'_>, rows: Vec<Tenant>) -> Result<Vec<Answer>> {
    let ids: Vec<_> = rows.iter().map(|row| row.id.0).collect();
    let clusters: Vec<_> = rows.iter().map(|row| row.cluster_id).collect();
    let objects = objects::of_entities(conn, ObjectKind::Tenant, &ids).await?;
    let reach = reach::of_clusters(conn, &clusters).await?;
    Ok(rows
        .into_iter()
        .map(|row| {
            let known = reach.of(row.cluster_id);
            let status = status::of_entity(objects.get(&row.id.0), row.deleting_at.is_some(), &known);
            let mut all = Labels::from([
                (labels::CLUSTER_ID.to_owned(), row.cluster_id.to_string()),
                (labels::TENANT_ID.to_owned(), row.id.to_string()),
            ]);
            all.extend(row.labels);
            Answer {
                id: row.id,
                name: row.name.to_string(),
                cluster_id: row.cluster_id,
                quotas: QuotaMap(row.quotas),
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
pub async fn answer(conn: &mut Conn<'_>, row: Tenant) -> Result<Answer> {
    answers(conn, vec![row]).await?.pop().ok_or_else(|| Error::internal("an answer per row"))
}

/// Reads quotas as they are stored or sent.
pub fn parse_quotas(map: &std::collections::BTreeMap<String, String>) -> Result<Quotas> {
    Quotas::parse(map.iter().map(|(key, value)| (key.as_str(), value.as_str()))).map_err(|e| e.at("quotas"))
}

fn missing(id: impl std::fmt::Display) -> Error {
    Error::not_found(format!("there is no tenant {id}"))
}
