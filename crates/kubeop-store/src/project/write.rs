//! Writing projects.

use super::{Project, columns, sql};
use crate::column::Ts;
use crate::page::reach;
use crate::{Conn, Inserted, Result, Taken, on};
use jiff::Timestamp;
use kubeop_core::authz::{Scope, system_scope};
use kubeop_core::id::{ProjectId, TenantId};
use sqlx::types::Json;

/// Adds a project as `row` says; `Taken` is [`Taken::Name`] (also one that is still being deleted) or [`Taken::Id`]. Claim its
/// namespace in the same transaction.
pub async fn insert(c: &mut Conn<'_>, row: &Project) -> Result<Inserted> {
    let q = sql!(
        "INSERT INTO project (tenant_id, id, cluster_id, name, namespace, quotas, granted, pod_security, labels, version, \
         created_at, updated_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) ON CONFLICT DO NOTHING"
    );
    let rows = on!(c, x => sqlx::query(q)
        .bind(row.tenant_id.0)
        .bind(row.id.0)
        .bind(row.cluster_id.0)
        .bind(row.name.as_str())
        .bind(row.namespace.as_str())
        .bind(row.quotas.as_ref().map(Json))
        .bind(Json(&row.granted))
        .bind(&row.pod_security)
        .bind(Json(&row.labels))
        .bind(row.version)
        .bind(Ts::from(row.created_at))
        .bind(Ts::from(row.updated_at))
        .execute(x)
        .await
        .map(|done| done.rows_affected()))?;
    if rows == 1 {
        return Ok(Inserted::Yes);
    }
    let named = super::by_name(c, system_scope(), row.tenant_id, row.name.as_str()).await?;
    Ok(Inserted::Taken(if named.is_some() { Taken::Name } else { Taken::Id }))
}

/// Takes the project's row until the transaction ends, so that no app is added while it is being deleted. `None` if it is gone or out
/// of `scope`. Lock its tenant first, if both are needed.
pub async fn lock(c: &mut Conn<'_>, scope: Scope, id: ProjectId) -> Result<Option<Project>> {
    let q = sql!(concat!(
        "UPDATE project SET version = version WHERE id = $1 AND (tenant_id = $2 OR $2 IS NULL) AND (id = $3 OR $3 IS NULL) \
         RETURNING ",
        columns!()
    ));
    let (tenant, project) = reach(scope);
    Ok(on!(c, x => sqlx::query_as(q).bind(id.0).bind(tenant).bind(project).fetch_optional(x).await)?)
}

/// Writes quotas, grant, Pod Security level and labels if the row still has `row.version`; then `row` shows the new version. `false`:
/// someone else was first, or it is being deleted.
pub async fn update(c: &mut Conn<'_>, row: &mut Project, now: Timestamp) -> Result<bool> {
    let q = sql!(
        "UPDATE project SET quotas = $4, granted = $5, pod_security = $6, labels = $7, updated_at = $8, version = version + 1 \
         WHERE tenant_id = $1 AND id = $2 AND version = $3 AND deleting_at IS NULL"
    );
    let rows = on!(c, x => sqlx::query(q)
        .bind(row.tenant_id.0)
        .bind(row.id.0)
        .bind(row.version)
        .bind(row.quotas.as_ref().map(Json))
        .bind(Json(&row.granted))
        .bind(&row.pod_security)
        .bind(Json(&row.labels))
        .bind(Ts::from(now))
        .execute(x)
        .await
        .map(|done| done.rows_affected()))?;
    if rows == 1 {
        row.version += 1;
        row.updated_at = now;
    }
    Ok(rows == 1)
}

/// Notes that deleting was asked for, if the row still has `row.version` and it was not asked for before.
pub async fn mark_deleting(c: &mut Conn<'_>, row: &mut Project, now: Timestamp) -> Result<bool> {
    let q = sql!(
        "UPDATE project SET deleting_at = $4, updated_at = $4, version = version + 1 \
         WHERE tenant_id = $1 AND id = $2 AND version = $3 AND deleting_at IS NULL"
    );
    let rows = on!(c, x => sqlx::query(q)
        .bind(row.tenant_id.0)
        .bind(row.id.0)
        .bind(row.version)
        .bind(Ts::from(now))
        .execute(x)
        .await
        .map(|done| done.rows_affected()))?;
    if rows == 1 {
        row.version += 1;
        row.updated_at = now;
        row.deleting_at = Some(now);
    }
    Ok(rows == 1)
}

/// Removes the row of a project that is gone, with its namespace claim. `false` if there was none.
///
/// # Errors
/// `Conflict` while apps of it are left.
pub async fn remove(c: &mut Conn<'_>, tenant_id: TenantId, id: ProjectId) -> Result<bool> {
    let q = sql!("DELETE FROM project WHERE tenant_id = $1 AND id = $2");
    crate::namespace_claim::release(c, id).await?;
    let rows = on!(c, x => sqlx::query(q)
        .bind(tenant_id.0)
        .bind(id.0)
        .execute(x)
        .await
        .map(|done| done.rows_affected()))?;
    Ok(rows == 1)
}
