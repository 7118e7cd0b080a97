//! Reading projects one by one, what they are granted, and counting them.

use super::{Project, columns, sql};
use crate::column::{Id, Many, Maybe, Text, Ts};
use crate::page::reach;
use crate::{Conn, Result, TextMap, on};
use jiff::Timestamp;
use kubeop_core::authz::Scope;
use kubeop_core::id::{ProjectId, TenantId};
use kubeop_core::name::Label;
use uuid::Uuid;

/// A project in `scope`.
pub async fn get(c: &mut Conn<'_>, scope: Scope, id: ProjectId) -> Result<Option<Project>> {
    let q = sql!(concat!(
        "SELECT ",
        columns!(),
        " FROM project WHERE id = $1 AND (tenant_id = $2 OR $2 IS NULL) AND (id = $3 OR $3 IS NULL)"
    ));
    let (tenant, project) = reach(scope);
    Ok(on!(c, x => sqlx::query_as(q).bind(id.0).bind(tenant).bind(project).fetch_optional(x).await)?)
}

/// Those of these projects that are in `scope`, in any order.
pub async fn get_many(c: &mut Conn<'_>, scope: Scope, ids: &[ProjectId]) -> Result<Vec<Project>> {
    let q = c.pick(
        sql!(pg: concat!(
            "SELECT ", columns!(),
            " FROM project WHERE id = ANY($1) AND (tenant_id = $2 OR $2 IS NULL) AND (id = $3 OR $3 IS NULL)"
        )),
        sql!(sqlite: concat!(
            "SELECT ", columns!(), " FROM project WHERE id IN (SELECT unhex(value, '-') FROM json_each($1)) \
             AND (tenant_id = $2 OR $2 IS NULL) AND (id = $3 OR $3 IS NULL)"
        )),
    );
    let (tenant, project) = reach(scope);
    let ids: Vec<Uuid> = ids.iter().map(|id| id.0).collect();
    Ok(on!(c, x => sqlx::query_as(q).bind(Many(ids)).bind(tenant).bind(project).fetch_all(x).await)?)
}

/// The project in `scope` that has this name in its tenant.
pub async fn by_name(c: &mut Conn<'_>, scope: Scope, tenant_id: TenantId, name: &str) -> Result<Option<Project>> {
    let q = sql!(concat!(
        "SELECT ",
        columns!(),
        " FROM project WHERE tenant_id = $1 AND name = $2 AND (tenant_id = $3 OR $3 IS NULL) AND (id = $4 OR $4 IS NULL)"
    ));
    let (tenant, project) = reach(scope);
    Ok(on!(c, x => sqlx::query_as(q)
        .bind(tenant_id.0)
        .bind(name)
        .bind(tenant)
        .bind(project)
        .fetch_optional(x)
        .await)?)
}

/// What a project asked for and got.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct Grant {
    /// The project.
    #[sqlx(try_from = "Id")]
    pub id: ProjectId,
    /// What it asked for.
    #[sqlx(json(nullable))]
    pub quotas: Option<TextMap>,
    /// What it was granted.
    #[sqlx(json)]
    pub granted: TextMap,
    /// When deleting it was asked for: until it is gone it holds what it was granted.
    #[sqlx(try_from = "Maybe<Ts>")]
    pub deleting_at: Option<Timestamp>,
}

/// What all projects of a tenant hold, for the quota sum; read it after [`crate::tenant::lock`].
pub async fn grants(c: &mut Conn<'_>, tenant_id: TenantId) -> Result<Vec<Grant>> {
    let q = sql!("SELECT id, quotas, granted, deleting_at FROM project WHERE tenant_id = $1 ORDER BY created_at, id");
    Ok(on!(c, x => sqlx::query_as(q).bind(tenant_id.0).fetch_all(x).await)?)
}

/// A project's namespace.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct Namespace {
    /// The tenant.
    #[sqlx(try_from = "Id")]
    pub tenant_id: TenantId,
    /// The project.
    #[sqlx(try_from = "Id")]
    pub project_id: ProjectId,
    /// The namespace.
    #[sqlx(try_from = "Text")]
    pub namespace: Label,
}

/// The namespaces of these tenants, in one query.
pub async fn namespaces(c: &mut Conn<'_>, tenants: &[TenantId]) -> Result<Vec<Namespace>> {
    let q = c.pick(
        sql!(pg: "SELECT tenant_id, id AS project_id, namespace FROM project WHERE tenant_id = ANY($1) \
              ORDER BY tenant_id, created_at, id"),
        sql!(sqlite: "SELECT tenant_id, id AS project_id, namespace FROM project \
              WHERE tenant_id IN (SELECT unhex(value, '-') FROM json_each($1)) ORDER BY tenant_id, created_at, id"),
    );
    let ids: Vec<Uuid> = tenants.iter().map(|id| id.0).collect();
    Ok(on!(c, x => sqlx::query_as(q).bind(Many(ids)).fetch_all(x).await)?)
}

/// The namespaces of these projects, in any order; one that is gone is absent. They must have been read through a scope.
pub async fn namespaces_of(c: &mut Conn<'_>, projects: &[ProjectId]) -> Result<Vec<Namespace>> {
    let q = c.pick(
        sql!(pg: "SELECT tenant_id, id AS project_id, namespace FROM project WHERE id = ANY($1)"),
        sql!(sqlite: "SELECT tenant_id, id AS project_id, namespace FROM project \
              WHERE id IN (SELECT unhex(value, '-') FROM json_each($1))"),
    );
    let ids: Vec<Uuid> = projects.iter().map(|id| id.0).collect();
    Ok(on!(c, x => sqlx::query_as(q).bind(Many(ids)).fetch_all(x).await)?)
}

/// Whose project it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct Owner {
    /// The project.
    #[sqlx(try_from = "Id")]
    pub project_id: ProjectId,
    /// Its tenant.
    #[sqlx(try_from = "Id")]
    pub tenant_id: TenantId,
}

/// Whose these projects are; one that is gone is absent. For kubeOP's own checks of usage.
pub async fn owners(c: &mut Conn<'_>, projects: &[ProjectId]) -> Result<Vec<Owner>> {
    let q = c.pick(
        sql!(pg: "SELECT id AS project_id, tenant_id FROM project WHERE id = ANY($1)"),
        sql!(sqlite: "SELECT id AS project_id, tenant_id FROM project \
              WHERE id IN (SELECT unhex(value, '-') FROM json_each($1))"),
    );
    let ids: Vec<Uuid> = projects.iter().map(|id| id.0).collect();
    Ok(on!(c, x => sqlx::query_as(q).bind(Many(ids)).fetch_all(x).await)?)
}

/// How many projects there are.
pub async fn count(c: &mut Conn<'_>) -> Result<i64> {
    let q = sql!("SELECT COUNT(*) AS n FROM project");
    Ok(on!(c, x => sqlx::query_scalar(q).fetch_one(x).await)?)
}

/// How many projects a tenant has that are not being deleted.
pub async fn count_in_tenant(c: &mut Conn<'_>, tenant_id: TenantId) -> Result<i64> {
    let q = sql!("SELECT COUNT(*) AS n FROM project WHERE tenant_id = $1 AND deleting_at IS NULL");
    Ok(on!(c, x => sqlx::query_scalar(q).bind(tenant_id.0).fetch_one(x).await)?)
}

#[derive(sqlx::FromRow)]
struct PerTenant {
    #[sqlx(try_from = "Id")]
    tenant_id: TenantId,
    n: i64,
}

/// How many projects each of these tenants has; a tenant without any is absent.
pub async fn count_by_tenant(
    c: &mut Conn<'_>,
    tenants: &[TenantId],
) -> Result<std::collections::BTreeMap<TenantId, i64>> {
    let q = c.pick(
        sql!(pg: "SELECT tenant_id, COUNT(*) AS n FROM project WHERE tenant_id = ANY($1) GROUP BY tenant_id"),
        sql!(sqlite: "SELECT tenant_id, COUNT(*) AS n FROM project \
              WHERE tenant_id IN (SELECT unhex(value, '-') FROM json_each($1)) GROUP BY tenant_id"),
    );
    let ids: Vec<Uuid> = tenants.iter().map(|id| id.0).collect();
    let rows: Vec<PerTenant> = on!(c, x => sqlx::query_as(q).bind(Many(ids)).fetch_all(x).await)?;
    Ok(rows.into_iter().map(|row| (row.tenant_id, row.n)).collect())
}
