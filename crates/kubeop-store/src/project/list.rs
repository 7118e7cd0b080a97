//! Pages of projects.

use super::{Project, columns};
use crate::page::{limit, page_sql};
use crate::{Conn, Filter, Page, Result, on};
use kubeop_core::authz::Scope;

macro_rules! page_where {
    ($anchor:literal) => {
        page_sql!(
            columns!(),
            "project",
            "created_at, id",
            $anchor,
            "$7",
            "(cluster_id = $3 OR $3 IS NULL) AND (tenant_id = $4 OR $4 IS NULL) AND (id = $5 OR $5 IS NULL) \
             AND (name = $6 OR $6 IS NULL)"
        )
    };
}

/// A page of the projects in `scope` that `filter` leaves, those being deleted included.
pub async fn list(c: &mut Conn<'_>, scope: Scope, filter: &Filter<'_>, page: &Page) -> Result<Vec<Project>> {
    let Some(bound) = filter.within(scope) else { return Ok(Vec::new()) };
    let q = match (bound.project, bound.tenant, bound.name, bound.cluster) {
        (Some(_), ..) => page_where!("id = $5"),
        (_, Some(_), Some(_), _) => page_where!("tenant_id = $4 AND name = $6"),
        (_, Some(_), None, _) => page_where!("tenant_id = $4"),
        (_, None, Some(_), None) => page_where!("name = $6"),
        (_, None, Some(_), Some(_)) => page_where!("cluster_id = $3 AND name = $6"),
        (_, None, None, Some(_)) => page_where!("cluster_id = $3"),
        (None, None, None, None) => page_where!("TRUE"),
    };
    let (at, id) = page.start();
    Ok(on!(c, x => sqlx::query_as(q)
        .bind(at)
        .bind(id)
        .bind(bound.cluster)
        .bind(bound.tenant)
        .bind(bound.project)
        .bind(bound.name)
        .bind(limit(page.limit))
        .fetch_all(x)
        .await)?)
}
