//! Pages of tenants.

use super::{Tenant, columns};
use crate::page::{limit, page_sql};
use crate::{Conn, Filter, Page, Result, on};
use kubeop_core::authz::Scope;

macro_rules! page_where {
    ($anchor:literal) => {
        page_sql!(
            columns!(),
            "tenant",
            "created_at, id",
            concat!("deleted_at IS NULL AND ", $anchor),
            "$6",
            "(cluster_id = $3 OR $3 IS NULL) AND (id = $4 OR $4 IS NULL) AND (name = $5 OR $5 IS NULL)"
        )
    };
}

/// A page of the tenants in `scope` that `filter` leaves, those being deleted included. A scope of one project sees
/// none, and so does a filter by project.
pub async fn list(c: &mut Conn<'_>, scope: Scope, filter: &Filter<'_>, page: &Page) -> Result<Vec<Tenant>> {
    let Some(bound) = filter.within(scope).filter(|bound| bound.project.is_none()) else { return Ok(Vec::new()) };
    let q = match (bound.tenant, bound.name, bound.cluster) {
        (Some(_), ..) => page_where!("id = $4"),
        (_, Some(_), _) => page_where!("name = $5"),
        (_, _, Some(_)) => page_where!("cluster_id = $3"),
        (None, None, None) => page_where!("TRUE"),
    };
    let (at, id) = page.start();
    Ok(on!(c, x => sqlx::query_as(q)
        .bind(at)
        .bind(id)
        .bind(bound.cluster)
        .bind(bound.tenant)
        .bind(bound.name)
        .bind(limit(page.limit))
        .fetch_all(x)
        .await)?)
}
