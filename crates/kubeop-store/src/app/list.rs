//! Pages of apps.
//!
//! Invariant: what is read of a page is bounded by bytes too, since a spec may have megabytes; such a page ends early, and says so.

use super::{App, columns};
use crate::page::{limit, page_sql};
use crate::{Conn, Filter, Page, Result, on};
use futures::{Stream, TryStreamExt};
use kubeop_core::authz::Scope;
use serde_json::Value;

macro_rules! page_where {
    ($anchor:literal) => {
        page_sql!(
            columns!(),
            "app",
            "created_at, id",
            $anchor,
            "$7",
            "(cluster_id = $3 OR $3 IS NULL) AND (tenant_id = $4 OR $4 IS NULL) AND (project_id = $5 OR $5 IS NULL) \
             AND (name = $6 OR $6 IS NULL)"
        )
    };
}

/// Bytes of specs after which a page ends, about.
const PAGE_BYTES: usize = 4 << 20;

/// A page of apps.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Listed {
    /// The apps, at least one if there is any.
    pub rows: Vec<App>,
    /// Whether there are more although fewer than asked for were read: their specs are large.
    pub is_cut: bool,
}

/// A page of the apps in `scope` that `filter` leaves, those being deleted included; it may end early ([`list_page`]).
pub async fn list(c: &mut Conn<'_>, scope: Scope, filter: &Filter<'_>, page: &Page) -> Result<Vec<App>> {
    Ok(list_page(c, scope, filter, page).await?.rows)
}

/// A page of the apps in `scope` that `filter` leaves, those being deleted included, and whether it ended early.
pub async fn list_page(c: &mut Conn<'_>, scope: Scope, filter: &Filter<'_>, page: &Page) -> Result<Listed> {
    let Some(bound) = filter.within(scope) else { return Ok(Listed::default()) };
    let q = match (bound.project, bound.tenant, bound.name, bound.cluster) {
        (Some(_), _, Some(_), _) => page_where!("project_id = $5 AND name = $6"),
        (Some(_), _, None, _) => page_where!("project_id = $5"),
        (None, Some(_), Some(_), _) => page_where!("tenant_id = $4 AND name = $6"),
        (None, Some(_), None, _) => page_where!("tenant_id = $4"),
        (None, None, Some(_), None) => page_where!("name = $6"),
        (None, None, Some(_), Some(_)) => page_where!("cluster_id = $3 AND name = $6"),
        (None, None, None, Some(_)) => page_where!("cluster_id = $3"),
        (None, None, None, None) => page_where!("TRUE"),
    };
    let (at, id) = page.start();
    Ok(on!(c, x => bounded(sqlx::query_as(q)
        .bind(at)
        .bind(id)
        .bind(bound.cluster)
        .bind(bound.tenant)
        .bind(bound.project)
        .bind(bound.name)
        .bind(limit(page.limit))
        .fetch(x))
        .await)?)
}

/// Takes rows until they are enough in bytes.
async fn bounded(mut rows: impl Stream<Item = sqlx::Result<App>> + Unpin) -> sqlx::Result<Listed> {
    let (mut listed, mut bytes) = (Listed::default(), 0);
    while let Some(row) = rows.try_next().await? {
        bytes += weight(&row.spec);
        listed.rows.push(row);
        if bytes > PAGE_BYTES {
            listed.is_cut = rows.try_next().await?.is_some();
            break;
        }
    }
    Ok(listed)
}

/// What a value takes in memory, about.
fn weight(value: &Value) -> usize {
    const EACH: usize = 32;
    EACH + match value {
        Value::String(text) => text.len(),
        Value::Array(items) => items.iter().map(weight).sum(),
        Value::Object(members) => members.iter().map(|(name, member)| EACH + name.len() + weight(member)).sum(),
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
    }
}
