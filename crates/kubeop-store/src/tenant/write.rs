//! Writing tenants.

use super::{Tenant, columns, sql};
use crate::column::Ts;
use crate::page::reach;
use crate::{Conn, Inserted, Result, Taken, on};
use jiff::Timestamp;
use kubeop_core::authz::{Scope, system_scope};
use kubeop_core::id::TenantId;
use sqlx::types::Json;

/// Adds a tenant as `row` says; `Taken` is [`Taken::Name`] (also one that is still being deleted) or [`Taken::Id`].
pub async fn insert(c: &mut Conn<'_>, row: &Tenant) -> Result<Inserted> {
    let q = sql!(
        "INSERT INTO tenant (id, cluster_id, name, quotas, labels, version, created_at, updated_at) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT DO NOTHING"
    );
    let rows = on!(c, x => sqlx::query(q)
        .bind(row.id.0)
        .bind(row.cluster_id.0)
        .bind(row.name.as_str())
        .bind(Json(&row.quotas))
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
    let named = super::by_name(c, system_scope(), row.name.as_str()).await?;
    Ok(Inserted::Taken(if named.is_some() { Taken::Name } else { Taken::Id }))
}

/// Takes the tenant's row until the transaction ends: a sum of its projects' quotas read after this holds until the commit, because
/// whoever changes them takes the row too. `None` if it is deleted or out of `scope`.
pub async fn lock(c: &mut Conn<'_>, scope: Scope, id: TenantId) -> Result<Option<Tenant>> {
    let q = sql!(concat!(
        "UPDATE tenant SET version = version WHERE id = $1 AND (id = $2 OR $2 IS NULL) AND deleted_at IS NULL RETURNING ",
        columns!()
    ));
    let (tenant, None) = reach(scope) else { return Ok(None) };
    Ok(on!(c, x => sqlx::query_as(q).bind(id.0).bind(tenant).fetch_optional(x).await)?)
}

/// Writes quotas and labels if the row still has `row.version`; then `row` shows the new version. `false`: someone else was first, or
/// it is being deleted.
pub async fn update(c: &mut Conn<'_>, row: &mut Tenant, now: Timestamp) -> Result<bool> {
    let q = sql!(
        "UPDATE tenant SET quotas = $3, labels = $4, updated_at = $5, version = version + 1 \
         WHERE id = $1 AND version = $2 AND deleting_at IS NULL AND deleted_at IS NULL"
    );
    let rows = on!(c, x => sqlx::query(q)
        .bind(row.id.0)
        .bind(row.version)
        .bind(Json(&row.quotas))
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
pub async fn mark_deleting(c: &mut Conn<'_>, row: &mut Tenant, now: Timestamp) -> Result<bool> {
    let q = sql!(
        "UPDATE tenant SET deleting_at = $3, updated_at = $3, version = version + 1 \
         WHERE id = $1 AND version = $2 AND deleting_at IS NULL AND deleted_at IS NULL"
    );
    let rows = on!(c, x => sqlx::query(q)
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

/// Notes that it is gone; its name is free again at the commit. `false` if it was already, or a project is left.
pub async fn mark_deleted(c: &mut Conn<'_>, id: TenantId, now: Timestamp) -> Result<bool> {
    let q = sql!(
        "UPDATE tenant SET deleted_at = $2, deleting_at = COALESCE(deleting_at, $2), updated_at = $2, version = version + 1 \
         WHERE id = $1 AND deleted_at IS NULL AND NOT EXISTS (SELECT 1 FROM project WHERE project.tenant_id = tenant.id)"
    );
    let rows = on!(c, x => sqlx::query(q)
        .bind(id.0)
        .bind(Ts::from(now))
        .execute(x)
        .await
        .map(|done| done.rows_affected()))?;
    Ok(rows == 1)
}
