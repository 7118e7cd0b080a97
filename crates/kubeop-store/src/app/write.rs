//! Writing apps.

use super::{App, sql};
use crate::column::Ts;
use crate::{Conn, Inserted, Result, Taken, on};
use jiff::Timestamp;
use kubeop_core::authz::system_scope;
use kubeop_core::id::{AppId, TenantId};
use sqlx::types::Json;

/// Adds an app as `row` says; `Taken` is [`Taken::Name`] (also one that is still being deleted) or [`Taken::Id`]. Lock its project
/// first; claim its hosts in the same transaction.
pub async fn insert(c: &mut Conn<'_>, row: &App) -> Result<Inserted> {
    let q = sql!(
        "INSERT INTO app (tenant_id, id, project_id, cluster_id, name, spec, labels, version, created_at, updated_at) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) ON CONFLICT DO NOTHING"
    );
    let rows = on!(c, x => sqlx::query(q)
        .bind(row.tenant_id.0)
        .bind(row.id.0)
        .bind(row.project_id.0)
        .bind(row.cluster_id.0)
        .bind(row.name.as_str())
        .bind(Json(&row.spec))
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
    let named = super::by_name(c, system_scope(), row.project_id, row.name.as_str()).await?;
    Ok(Inserted::Taken(if named.is_some() { Taken::Name } else { Taken::Id }))
}

/// Writes spec and labels if the row still has `row.version`; then `row` shows the new version. `false`: someone else was first, or it
/// is being deleted.
pub async fn update(c: &mut Conn<'_>, row: &mut App, now: Timestamp) -> Result<bool> {
    let q = sql!(
        "UPDATE app SET spec = $4, labels = $5, updated_at = $6, version = version + 1 \
         WHERE tenant_id = $1 AND id = $2 AND version = $3 AND deleting_at IS NULL"
    );
    let rows = on!(c, x => sqlx::query(q)
        .bind(row.tenant_id.0)
        .bind(row.id.0)
        .bind(row.version)
        .bind(Json(&row.spec))
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
pub async fn mark_deleting(c: &mut Conn<'_>, row: &mut App, now: Timestamp) -> Result<bool> {
    let q = sql!(
        "UPDATE app SET deleting_at = $4, updated_at = $4, version = version + 1 \
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

/// Removes the row of an app that is gone, with its host claims. `false` if there was none.
pub async fn remove(c: &mut Conn<'_>, tenant_id: TenantId, id: AppId) -> Result<bool> {
    let q = sql!("DELETE FROM app WHERE tenant_id = $1 AND id = $2");
    crate::host_claim::release_all(c, id).await?;
    let rows = on!(c, x => sqlx::query(q)
        .bind(tenant_id.0)
        .bind(id.0)
        .execute(x)
        .await
        .map(|done| done.rows_affected()))?;
    Ok(rows == 1)
}
