//! Reading apps one by one, what they deliver in bulk, and counting them.

use super::{App, columns, sql};
use crate::column::{Id, Many};
use crate::page::{limit, reach};
use crate::{Conn, Result, on};
use kubeop_core::authz::Scope;
use kubeop_core::id::{AppId, ProjectId, TenantId};
use std::collections::BTreeMap;
use uuid::Uuid;

/// An app in `scope`.
pub async fn get(c: &mut Conn<'_>, scope: Scope, id: AppId) -> Result<Option<App>> {
    let q = sql!(concat!(
        "SELECT ",
        columns!(),
        " FROM app WHERE id = $1 AND (tenant_id = $2 OR $2 IS NULL) AND (project_id = $3 OR $3 IS NULL)"
    ));
    let (tenant, project) = reach(scope);
    Ok(on!(c, x => sqlx::query_as(q).bind(id.0).bind(tenant).bind(project).fetch_optional(x).await)?)
}

/// Those of these apps that are in `scope`, in any order.
pub async fn get_many(c: &mut Conn<'_>, scope: Scope, ids: &[AppId]) -> Result<Vec<App>> {
    let q = c.pick(
        sql!(pg: concat!(
            "SELECT ", columns!(),
            " FROM app WHERE id = ANY($1) AND (tenant_id = $2 OR $2 IS NULL) AND (project_id = $3 OR $3 IS NULL)"
        )),
        sql!(sqlite: concat!(
            "SELECT ", columns!(), " FROM app WHERE id IN (SELECT unhex(value, '-') FROM json_each($1)) \
             AND (tenant_id = $2 OR $2 IS NULL) AND (project_id = $3 OR $3 IS NULL)"
        )),
    );
    let (tenant, project) = reach(scope);
    let ids: Vec<Uuid> = ids.iter().map(|id| id.0).collect();
    Ok(on!(c, x => sqlx::query_as(q).bind(Many(ids)).bind(tenant).bind(project).fetch_all(x).await)?)
}

/// The app in `scope` that has this name in its project.
pub async fn by_name(c: &mut Conn<'_>, scope: Scope, project_id: ProjectId, name: &str) -> Result<Option<App>> {
    let q = sql!(concat!(
        "SELECT ",
        columns!(),
        " FROM app WHERE project_id = $1 AND name = $2 AND (tenant_id = $3 OR $3 IS NULL) \
         AND (project_id = $4 OR $4 IS NULL)"
    ));
    let (tenant, project) = reach(scope);
    Ok(on!(c, x => sqlx::query_as(q)
        .bind(project_id.0)
        .bind(name)
        .bind(tenant)
        .bind(project)
        .fetch_optional(x)
        .await)?)
}

#[derive(sqlx::FromRow)]
struct Home {
    #[sqlx(try_from = "Id")]
    id: AppId,
    #[sqlx(try_from = "Id")]
    project_id: ProjectId,
}

/// The projects of these apps; one that is gone is absent. For kubeOP's own loops.
pub async fn projects_of(c: &mut Conn<'_>, ids: &[AppId]) -> Result<BTreeMap<AppId, ProjectId>> {
    let q = c.pick(
        sql!(pg: "SELECT id, project_id FROM app WHERE id = ANY($1)"),
        sql!(sqlite: "SELECT id, project_id FROM app WHERE id IN (SELECT unhex(value, '-') FROM json_each($1))"),
    );
    let ids: Vec<Uuid> = ids.iter().map(|id| id.0).collect();
    let rows: Vec<Home> = on!(c, x => sqlx::query_as(q).bind(Many(ids)).fetch_all(x).await)?;
    Ok(rows.into_iter().map(|row| (row.id, row.project_id)).collect())
}

/// What an app delivers, and the key to continue a scan after.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct Delivery {
    /// The tenant.
    #[sqlx(try_from = "Id")]
    pub tenant_id: TenantId,
    /// The app.
    #[sqlx(try_from = "Id")]
    pub id: AppId,
    /// The kind of its delivery, if it is said.
    pub kind: Option<String>,
    /// Its image, if it has one.
    pub image: Option<String>,
}

/// What all apps deliver in order of the primary key, beginning after `after`: for platform-wide figures. Specs are large, and stay where they are.
pub async fn deliveries(c: &mut Conn<'_>, after: Option<(TenantId, AppId)>, rows: u32) -> Result<Vec<Delivery>> {
    let q = c.pick(
        sql!(pg: "SELECT tenant_id, id, spec #>> '{delivery,kind}' AS kind, \
              CASE jsonb_typeof(spec #> '{delivery,image}') WHEN 'string' THEN spec #>> '{delivery,image}' \
              ELSE spec #>> '{delivery,image,ref}' END AS image \
              FROM app WHERE (tenant_id, id) > ($1, $2) ORDER BY tenant_id, id LIMIT $3"),
        sql!(sqlite: "SELECT tenant_id, id, CAST(spec ->> '$.delivery.kind' AS TEXT) AS kind, \
              CASE json_type(spec, '$.delivery.image') WHEN 'text' THEN spec ->> '$.delivery.image' \
              ELSE CAST(spec ->> '$.delivery.image.ref' AS TEXT) END AS image \
              FROM app WHERE (tenant_id, id) > ($1, $2) ORDER BY tenant_id, id LIMIT $3"),
    );
    let (tenant, app) = after.map_or((Uuid::nil(), Uuid::nil()), |(tenant, app)| (tenant.0, app.0));
    Ok(on!(c, x => sqlx::query_as(q).bind(tenant).bind(app).bind(limit(rows)).fetch_all(x).await)?)
}

/// How many apps there are.
pub async fn count(c: &mut Conn<'_>) -> Result<i64> {
    let q = sql!("SELECT COUNT(*) AS n FROM app");
    Ok(on!(c, x => sqlx::query_scalar(q).fetch_one(x).await)?)
}

/// How many apps a project has that are not being deleted.
pub async fn count_in_project(c: &mut Conn<'_>, tenant_id: TenantId, project_id: ProjectId) -> Result<i64> {
    let q = sql!("SELECT COUNT(*) AS n FROM app WHERE project_id = $2 AND tenant_id = $1 AND deleting_at IS NULL");
    Ok(on!(c, x => sqlx::query_scalar(q).bind(tenant_id.0).bind(project_id.0).fetch_one(x).await)?)
}

#[derive(sqlx::FromRow)]
struct PerTenant {
    #[sqlx(try_from = "Id")]
    tenant_id: TenantId,
    n: i64,
}

/// How many apps each of these tenants has; a tenant without any is absent.
pub async fn count_by_tenant(c: &mut Conn<'_>, tenants: &[TenantId]) -> Result<BTreeMap<TenantId, i64>> {
    let q = c.pick(
        sql!(pg: "SELECT tenant_id, COUNT(*) AS n FROM app WHERE tenant_id = ANY($1) GROUP BY tenant_id"),
        sql!(sqlite: "SELECT tenant_id, COUNT(*) AS n FROM app \
              WHERE tenant_id IN (SELECT unhex(value, '-') FROM json_each($1)) GROUP BY tenant_id"),
    );
    let ids: Vec<Uuid> = tenants.iter().map(|id| id.0).collect();
    let rows: Vec<PerTenant> = on!(c, x => sqlx::query_as(q).bind(Many(ids)).fetch_all(x).await)?;
    Ok(rows.into_iter().map(|row| (row.tenant_id, row.n)).collect())
}
