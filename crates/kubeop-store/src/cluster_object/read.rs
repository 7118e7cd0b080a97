//! Reading desired state: what is due, and what to show of entities.

use super::{ClusterObject, Key, ObjectKind, columns, joined, sql};
use crate::column::{Many, Text, Ts};
use crate::page::limit;
use crate::{Conn, Result, on};
use jiff::Timestamp;
use kubeop_core::id::ClusterId;
use uuid::Uuid;

/// One row.
pub async fn get(c: &mut Conn<'_>, key: Key) -> Result<Option<ClusterObject>> {
    let q = sql!(concat!(
        "SELECT ",
        columns!(),
        " FROM ",
        joined!(),
        " WHERE o.cluster_id = $1 AND o.kind = $2 AND o.entity_id = $3"
    ));
    Ok(on!(c, x => sqlx::query_as(q)
        .bind(key.cluster_id.0)
        .bind(key.kind.as_str())
        .bind(key.entity_id)
        .fetch_optional(x)
        .await)?)
}

/// The rows of these entities, in one query: for showing a page of them. They must have been read through a scope.
pub async fn list_for_entities(c: &mut Conn<'_>, kind: ObjectKind, entities: &[Uuid]) -> Result<Vec<ClusterObject>> {
    let q = c.pick(
        sql!(pg: concat!(
            "SELECT ", columns!(), " FROM ", joined!(), " WHERE o.kind = $1 AND o.entity_id = ANY($2)"
        )),
        sql!(sqlite: concat!(
            "SELECT ", columns!(), " FROM ", joined!(),
            " WHERE o.kind = $1 AND o.entity_id IN (SELECT unhex(value, '-') FROM json_each($2))"
        )),
    );
    Ok(on!(c, x => sqlx::query_as(q).bind(kind.as_str()).bind(Many(entities.to_vec())).fetch_all(x).await)?)
}

/// What has something to do on a cluster and may be tried by `now`, longest waiting first.
pub async fn due(c: &mut Conn<'_>, cluster_id: ClusterId, now: Timestamp, rows: u32) -> Result<Vec<ClusterObject>> {
    let q = sql!(concat!(
        "SELECT ",
        columns!(),
        " FROM ",
        joined!(),
        " WHERE o.cluster_id = $1 AND (o.wanted > o.applied OR o.deleted) AND o.next_attempt_at <= $2 \
         ORDER BY o.next_attempt_at, o.kind, o.entity_id LIMIT $3"
    ));
    Ok(on!(c, x => sqlx::query_as(q)
        .bind(cluster_id.0)
        .bind(Ts::from(now))
        .bind(limit(rows))
        .fetch_all(x)
        .await)?)
}

/// When the next row of a cluster is due; `None` when nothing is to be done there.
pub async fn next_due_at(c: &mut Conn<'_>, cluster_id: ClusterId) -> Result<Option<Timestamp>> {
    let q = sql!(
        "SELECT next_attempt_at FROM cluster_object WHERE cluster_id = $1 AND (wanted > applied OR deleted) \
         ORDER BY next_attempt_at LIMIT 1"
    );
    let next: Option<Ts> = on!(c, x => sqlx::query_scalar(q).bind(cluster_id.0).fetch_optional(x).await)?;
    Ok(next.map(Timestamp::from))
}

/// How far one object is: as little of its row as the full compare needs, which holds those of a whole cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct State {
    /// The kind.
    #[sqlx(try_from = "Text")]
    pub kind: ObjectKind,
    /// The entity's id.
    pub entity_id: Uuid,
    /// The version that is wanted.
    pub wanted: i64,
    /// The highest version that was applied; 0: none yet.
    pub applied: i64,
    /// It is to be deleted.
    pub deleted: bool,
}

/// The states of a cluster's objects in order of (kind as text, entity), beginning after `after`: for the periodic full compare.
pub async fn states(
    c: &mut Conn<'_>,
    cluster_id: ClusterId,
    after: Option<(ObjectKind, Uuid)>,
    rows: u32,
) -> Result<Vec<State>> {
    let q = sql!(
        "SELECT kind, entity_id, wanted, applied, deleted FROM cluster_object \
         WHERE cluster_id = $1 AND (kind, entity_id) > ($2, $3) ORDER BY kind, entity_id LIMIT $4"
    );
    let (kind, entity) = after.map_or(("", Uuid::nil()), |(kind, entity)| (kind.as_str(), entity));
    Ok(on!(c, x => sqlx::query_as(q)
        .bind(cluster_id.0)
        .bind(kind)
        .bind(entity)
        .bind(limit(rows))
        .fetch_all(x)
        .await)?)
}

/// How many resources a cluster has, and how many of them have something to do: for metrics and status.
pub async fn counts(c: &mut Conn<'_>, cluster_id: ClusterId) -> Result<(i64, i64)> {
    let q = sql!(
        "SELECT COUNT(*) AS n, COUNT(*) FILTER (WHERE wanted > applied OR deleted) AS waiting FROM cluster_object \
         WHERE cluster_id = $1"
    );
    Ok(on!(c, x => sqlx::query_as(q).bind(cluster_id.0).fetch_one(x).await)?)
}
