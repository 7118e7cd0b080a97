//! Whether clusters are set up and answer, as their lease holder last saw it.
//!
//! Invariant: not a change by a caller, so the version stays.

use super::{BootstrapState, sql};
use crate::column::{Id, Many, Text, Ts, clean};
use crate::{Conn, Result, on};
use jiff::Timestamp;
use kubeop_core::id::ClusterId;
use uuid::Uuid;

/// What is known of a cluster.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct Reach {
    /// The cluster.
    #[sqlx(try_from = "Id")]
    pub id: ClusterId,
    /// How far the bootstrap is.
    #[sqlx(try_from = "Text")]
    pub bootstrap_state: BootstrapState,
    /// Why it is not further.
    pub bootstrap_message: Option<String>,
    /// Why it does not answer; `None` while it does.
    pub unreachable: Option<String>,
}

/// What is known of each of these clusters.
pub async fn reach(c: &mut Conn<'_>, ids: &[ClusterId]) -> Result<Vec<Reach>> {
    let q = c.pick(
        sql!(pg: "SELECT id, bootstrap_state, bootstrap_message, unreachable FROM cluster WHERE id = ANY($1)"),
        sql!(sqlite: "SELECT id, bootstrap_state, bootstrap_message, unreachable FROM cluster \
              WHERE id IN (SELECT unhex(value, '-') FROM json_each($1))"),
    );
    let ids: Vec<Uuid> = ids.iter().map(|id| id.0).collect();
    Ok(on!(c, x => sqlx::query_as(q).bind(Many(ids)).fetch_all(x).await)?)
}

/// Records why a cluster does not answer, or that it does (`None`); whether that is news.
pub async fn set_unreachable(c: &mut Conn<'_>, id: ClusterId, why: Option<&str>) -> Result<bool> {
    let q = sql!(
        "UPDATE cluster SET unreachable = $2 WHERE id = $1 AND deleted_at IS NULL \
         AND COALESCE(unreachable, '') <> COALESCE(CAST($2 AS TEXT), '')"
    );
    let rows = on!(c, x => sqlx::query(q)
        .bind(id.0)
        .bind(why.map(|text| clean(text, 2000)))
        .execute(x)
        .await
        .map(|done| done.rows_affected()))?;
    Ok(rows == 1)
}

/// When the cluster last answered, as far as it was noted.
pub async fn last_seen(c: &mut Conn<'_>, id: ClusterId) -> Result<Option<Timestamp>> {
    let q = sql!("SELECT last_seen FROM cluster WHERE id = $1 AND deleted_at IS NULL AND last_seen IS NOT NULL");
    let seen: Option<Ts> = on!(c, x => sqlx::query_scalar(q).bind(id.0).fetch_optional(x).await)?;
    Ok(seen.map(Timestamp::from))
}

/// Notes when the cluster answered; an earlier time than the noted one is no news.
pub async fn set_seen(c: &mut Conn<'_>, id: ClusterId, at: Timestamp) -> Result<()> {
    let q = sql!(
        "UPDATE cluster SET last_seen = $2 WHERE id = $1 AND deleted_at IS NULL AND (last_seen IS NULL OR last_seen < $2)"
    );
    on!(c, x => sqlx::query(q).bind(id.0).bind(Ts::from(at)).execute(x).await.map(|_| ()))?;
    Ok(())
}

/// Records that a cluster is ready since `since`, or that it is not (`None`); whether that is news.
pub async fn set_ready(c: &mut Conn<'_>, id: ClusterId, since: Option<Timestamp>) -> Result<bool> {
    let begins = sql!("UPDATE cluster SET ready_at = $2 WHERE id = $1 AND deleted_at IS NULL AND ready_at IS NULL");
    let ends = sql!("UPDATE cluster SET ready_at = $2 WHERE id = $1 AND deleted_at IS NULL AND ready_at IS NOT NULL");
    let q = if since.is_some() { begins } else { ends };
    let rows = on!(c, x => sqlx::query(q)
        .bind(id.0)
        .bind(since.map(Ts::from))
        .execute(x)
        .await
        .map(|done| done.rows_affected()))?;
    Ok(rows == 1)
}
