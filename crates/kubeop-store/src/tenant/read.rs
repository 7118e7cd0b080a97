//! Reading tenants one by one, and counting them.

use super::{Tenant, columns, sql};
use crate::column::{Id, Many, Maybe, Ts};
use crate::page::reach;
use crate::{Conn, Result, on};
use jiff::Timestamp;
use kubeop_core::authz::Scope;
use kubeop_core::id::{ClusterId, TenantId};
use uuid::Uuid;

/// A tenant in `scope` that is not deleted. A scope of one project sees none.
pub async fn get(c: &mut Conn<'_>, scope: Scope, id: TenantId) -> Result<Option<Tenant>> {
    let q = sql!(concat!(
        "SELECT ",
        columns!(),
        " FROM tenant WHERE id = $1 AND (id = $2 OR $2 IS NULL) AND deleted_at IS NULL"
    ));
    let (tenant, None) = reach(scope) else { return Ok(None) };
    Ok(on!(c, x => sqlx::query_as(q).bind(id.0).bind(tenant).fetch_optional(x).await)?)
}

/// Those of these tenants that are in `scope` and not deleted, in any order.
pub async fn get_many(c: &mut Conn<'_>, scope: Scope, ids: &[TenantId]) -> Result<Vec<Tenant>> {
    let q = c.pick(
        sql!(pg: concat!(
            "SELECT ", columns!(), " FROM tenant WHERE id = ANY($1) AND (id = $2 OR $2 IS NULL) AND deleted_at IS NULL"
        )),
        sql!(sqlite: concat!(
            "SELECT ", columns!(), " FROM tenant WHERE id IN (SELECT unhex(value, '-') FROM json_each($1)) \
             AND (id = $2 OR $2 IS NULL) AND deleted_at IS NULL"
        )),
    );
    let (tenant, None) = reach(scope) else { return Ok(Vec::new()) };
    let ids: Vec<Uuid> = ids.iter().map(|id| id.0).collect();
    Ok(on!(c, x => sqlx::query_as(q).bind(Many(ids)).bind(tenant).fetch_all(x).await)?)
}

/// A tenant in `scope`, deleted or not: for invoices and audit.
pub async fn get_any(c: &mut Conn<'_>, scope: Scope, id: TenantId) -> Result<Option<Tenant>> {
    let q = sql!(concat!("SELECT ", columns!(), " FROM tenant WHERE id = $1 AND (id = $2 OR $2 IS NULL)"));
    let (tenant, None) = reach(scope) else { return Ok(None) };
    Ok(on!(c, x => sqlx::query_as(q).bind(id.0).bind(tenant).fetch_optional(x).await)?)
}

/// The tenant in `scope` that has this name now.
pub async fn by_name(c: &mut Conn<'_>, scope: Scope, name: &str) -> Result<Option<Tenant>> {
    let q = sql!(concat!(
        "SELECT ",
        columns!(),
        " FROM tenant WHERE name = $1 AND (id = $2 OR $2 IS NULL) AND deleted_at IS NULL"
    ));
    let (tenant, None) = reach(scope) else { return Ok(None) };
    Ok(on!(c, x => sqlx::query_as(q).bind(name).bind(tenant).fetch_optional(x).await)?)
}

/// When a tenant existed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct Period {
    /// The tenant.
    #[sqlx(try_from = "Id")]
    pub id: TenantId,
    /// From when on.
    #[sqlx(try_from = "Ts")]
    pub created_at: Timestamp,
    /// Until when, if it is gone.
    #[sqlx(try_from = "Maybe<Ts>")]
    pub deleted_at: Option<Timestamp>,
}

/// When each of these tenants existed; one that never did is absent. For kubeOP's own checks of usage.
pub async fn periods(c: &mut Conn<'_>, ids: &[TenantId]) -> Result<Vec<Period>> {
    let q = c.pick(
        sql!(pg: "SELECT id, created_at, deleted_at FROM tenant WHERE id = ANY($1)"),
        sql!(sqlite: "SELECT id, created_at, deleted_at FROM tenant \
              WHERE id IN (SELECT unhex(value, '-') FROM json_each($1))"),
    );
    let ids: Vec<Uuid> = ids.iter().map(|id| id.0).collect();
    Ok(on!(c, x => sqlx::query_as(q).bind(Many(ids)).fetch_all(x).await)?)
}

/// How many tenants are not deleted.
pub async fn count(c: &mut Conn<'_>) -> Result<i64> {
    let q = sql!("SELECT COUNT(*) AS n FROM tenant WHERE deleted_at IS NULL");
    Ok(on!(c, x => sqlx::query_scalar(q).fetch_one(x).await)?)
}

/// How many tenants a cluster has, those being deleted included: what keeps the cluster from being deleted.
pub async fn count_in_cluster(c: &mut Conn<'_>, cluster_id: ClusterId) -> Result<i64> {
    let q = sql!("SELECT COUNT(*) AS n FROM tenant WHERE cluster_id = $1 AND deleted_at IS NULL");
    Ok(on!(c, x => sqlx::query_scalar(q).bind(cluster_id.0).fetch_one(x).await)?)
}
