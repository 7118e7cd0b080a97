//! Reading clusters. They are not tenant rows: only admins and kubeOP itself read them.

use super::{Cluster, Sealed, columns, sql};
use crate::column::Id;
use crate::page::limit;
use crate::{Conn, Page, Result, on};
use kubeop_core::id::ClusterId;
use uuid::Uuid;

/// A cluster that is not deleted.
pub async fn get(c: &mut Conn<'_>, id: ClusterId) -> Result<Option<Cluster>> {
    let q = sql!(concat!("SELECT ", columns!(), " FROM cluster WHERE id = $1 AND deleted_at IS NULL"));
    Ok(on!(c, x => sqlx::query_as(q).bind(id.0).fetch_optional(x).await)?)
}

/// A cluster, deleted or not.
pub async fn get_any(c: &mut Conn<'_>, id: ClusterId) -> Result<Option<Cluster>> {
    let q = sql!(concat!("SELECT ", columns!(), " FROM cluster WHERE id = $1"));
    Ok(on!(c, x => sqlx::query_as(q).bind(id.0).fetch_optional(x).await)?)
}

/// The cluster that has this name now.
pub async fn by_name(c: &mut Conn<'_>, name: &str) -> Result<Option<Cluster>> {
    let q = sql!(concat!("SELECT ", columns!(), " FROM cluster WHERE name = $1 AND deleted_at IS NULL"));
    Ok(on!(c, x => sqlx::query_as(q).bind(name).fetch_optional(x).await)?)
}

/// The cluster that is this API server now.
pub async fn by_uid(c: &mut Conn<'_>, cluster_uid: &str) -> Result<Option<Cluster>> {
    let q = sql!(concat!("SELECT ", columns!(), " FROM cluster WHERE cluster_uid = $1 AND deleted_at IS NULL"));
    Ok(on!(c, x => sqlx::query_as(q).bind(cluster_uid).fetch_optional(x).await)?)
}

/// A page of the clusters that are not deleted. (By name: [`by_name`].)
pub async fn list(c: &mut Conn<'_>, page: &Page) -> Result<Vec<Cluster>> {
    let q = sql!(concat!(
        "SELECT ",
        columns!(),
        " FROM cluster WHERE deleted_at IS NULL AND (created_at, id) > ($1, $2) ORDER BY created_at, id LIMIT $3"
    ));
    let (at, id) = page.start();
    Ok(on!(c, x => sqlx::query_as(q).bind(at).bind(id).bind(limit(page.limit)).fetch_all(x).await)?)
}

/// The ids of all clusters that are not deleted, for kubeOP's own loops.
pub async fn ids(c: &mut Conn<'_>) -> Result<Vec<ClusterId>> {
    let q = sql!("SELECT id FROM cluster WHERE deleted_at IS NULL ORDER BY created_at, id");
    let ids: Vec<Id> = on!(c, x => sqlx::query_scalar(q).fetch_all(x).await)?;
    Ok(ids.into_iter().map(ClusterId::from).collect())
}

/// How many clusters are not deleted.
pub async fn count(c: &mut Conn<'_>) -> Result<i64> {
    let q = sql!("SELECT COUNT(*) AS n FROM cluster WHERE deleted_at IS NULL");
    Ok(on!(c, x => sqlx::query_scalar(q).fetch_one(x).await)?)
}

/// The sealed kubeconfig; none once the cluster is deleted.
pub async fn kubeconfig(c: &mut Conn<'_>, id: ClusterId) -> Result<Option<Sealed>> {
    let q = sql!("SELECT seed_id, kubeconfig FROM cluster WHERE id = $1 AND kubeconfig IS NOT NULL");
    Ok(on!(c, x => sqlx::query_as(q).bind(id.0).fetch_optional(x).await)?)
}

/// The kubeconfigs that are sealed with this seed, by cluster, beginning after `after` (nil: with the first): for sealing them anew.
pub async fn sealed_with(c: &mut Conn<'_>, seed_id: Uuid, after: Uuid, rows: u32) -> Result<Vec<(ClusterId, Vec<u8>)>> {
    let q = sql!("SELECT id, kubeconfig FROM cluster WHERE seed_id = $1 AND id > $2 ORDER BY id LIMIT $3");
    let found: Vec<(Uuid, Vec<u8>)> =
        on!(c, x => sqlx::query_as(q).bind(seed_id).bind(after).bind(limit(rows)).fetch_all(x).await)?;
    Ok(found.into_iter().map(|(id, bytes)| (ClusterId(id), bytes)).collect())
}
