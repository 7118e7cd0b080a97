//! Which replica of the manager serves a cluster.
//!
//! Invariant: every change of a row is a compare-and-set on (holder, counter), and the counter only rises. No clock is stored: an
//! observer takes a lease over after it saw the counter stand still for long enough by its own monotonic clock.

use crate::column::Id;
use crate::{Conn, Result, on, sql};
use kubeop_core::id::ClusterId;
use uuid::Uuid;

/// A lease as it was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct ClusterLease {
    /// The cluster.
    #[sqlx(try_from = "Id")]
    pub cluster_id: ClusterId,
    /// The replica that holds it; nil: nobody.
    pub holder: Uuid,
    /// Rises with each renewal.
    pub counter: i64,
}

/// The lease of a cluster.
pub async fn get(c: &mut Conn<'_>, cluster_id: ClusterId) -> Result<Option<ClusterLease>> {
    let q = sql!("SELECT cluster_id, holder, counter FROM cluster_lease WHERE cluster_id = $1");
    Ok(on!(c, x => sqlx::query_as(q).bind(cluster_id.0).fetch_optional(x).await)?)
}

/// All leases, for the observer.
pub async fn list(c: &mut Conn<'_>) -> Result<Vec<ClusterLease>> {
    let q = sql!("SELECT cluster_id, holder, counter FROM cluster_lease");
    Ok(on!(c, x => sqlx::query_as(q).fetch_all(x).await)?)
}

/// Takes a lease nobody holds (never taken, or released); `None` if somebody does.
pub async fn acquire(c: &mut Conn<'_>, cluster_id: ClusterId, me: Uuid) -> Result<Option<ClusterLease>> {
    let q = sql!(
        "INSERT INTO cluster_lease (cluster_id, holder, counter) VALUES ($1, $2, 1) ON CONFLICT (cluster_id) \
         DO UPDATE SET holder = excluded.holder, counter = cluster_lease.counter + 1 WHERE cluster_lease.holder = $3 \
         RETURNING cluster_id, holder, counter"
    );
    Ok(on!(c, x => sqlx::query_as(q).bind(cluster_id.0).bind(me).bind(Uuid::nil()).fetch_optional(x).await)?)
}

/// Renews a lease one holds; `None`: it was taken over, stop serving the cluster at once.
pub async fn renew(c: &mut Conn<'_>, held: &ClusterLease) -> Result<Option<ClusterLease>> {
    let q = sql!(
        "UPDATE cluster_lease SET counter = counter + 1 WHERE cluster_id = $1 AND holder = $2 AND counter = $3 \
         RETURNING cluster_id, holder, counter"
    );
    Ok(on!(c, x => sqlx::query_as(q)
        .bind(held.cluster_id.0)
        .bind(held.holder)
        .bind(held.counter)
        .fetch_optional(x)
        .await)?)
}

/// Renews everything `me` holds in one statement; what is not in the answer was taken over.
pub async fn renew_all(c: &mut Conn<'_>, me: Uuid) -> Result<Vec<ClusterLease>> {
    let q =
        sql!("UPDATE cluster_lease SET counter = counter + 1 WHERE holder = $1 RETURNING cluster_id, holder, counter");
    Ok(on!(c, x => sqlx::query_as(q).bind(me).fetch_all(x).await)?)
}

/// Takes over a lease that did not move since it was `seen`; `None` if it did.
pub async fn take_over(c: &mut Conn<'_>, seen: &ClusterLease, me: Uuid) -> Result<Option<ClusterLease>> {
    let q = sql!(
        "UPDATE cluster_lease SET holder = $4, counter = counter + 1 WHERE cluster_id = $1 AND holder = $2 AND counter = $3 \
         RETURNING cluster_id, holder, counter"
    );
    Ok(on!(c, x => sqlx::query_as(q)
        .bind(seen.cluster_id.0)
        .bind(seen.holder)
        .bind(seen.counter)
        .bind(me)
        .fetch_optional(x)
        .await)?)
}

/// Gives a lease up, so that another replica takes it without waiting; `false` if `me` does not hold it. The row stays, held by nobody,
/// so that the counter never begins again.
pub async fn release(c: &mut Conn<'_>, cluster_id: ClusterId, me: Uuid) -> Result<bool> {
    let q = sql!("UPDATE cluster_lease SET holder = $3, counter = counter + 1 WHERE cluster_id = $1 AND holder = $2");
    let rows = on!(c, x => sqlx::query(q)
        .bind(cluster_id.0)
        .bind(me)
        .bind(Uuid::nil())
        .execute(x)
        .await
        .map(|done| done.rows_affected()))?;
    Ok(rows == 1)
}
