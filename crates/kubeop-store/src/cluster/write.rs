//! Writing clusters.

use super::{BootstrapState, Cluster, Sealed, columns, sql};
use crate::column::{Ts, clean};
use crate::{Conn, Inserted, Result, Taken, on};
use jiff::Timestamp;
use kubeop_core::id::ClusterId;
use sqlx::types::Json;

/// Adds a cluster as `row` says. `Taken` is [`Taken::ClusterUid`] or [`Taken::Name`], in that order.
pub async fn insert(c: &mut Conn<'_>, row: &Cluster, kubeconfig: &Sealed) -> Result<Inserted> {
    let q = sql!(
        "INSERT INTO cluster (id, name, labels, server, cluster_uid, public_server, kubeconfig, seed_id, auto_bootstrap, \
         install_admission, with_mocks, version, bootstrap_state, bootstrap_message, created_at, updated_at) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16) ON CONFLICT DO NOTHING"
    );
    let rows = on!(c, x => sqlx::query(q)
        .bind(row.id.0)
        .bind(row.name.as_str())
        .bind(Json(&row.labels))
        .bind(&row.server)
        .bind(&row.cluster_uid)
        .bind(&row.public_server)
        .bind(&kubeconfig.bytes)
        .bind(kubeconfig.seed_id)
        .bind(row.auto_bootstrap)
        .bind(row.install_admission)
        .bind(row.with_mocks)
        .bind(row.version)
        .bind(row.bootstrap_state.as_str())
        .bind(&row.bootstrap_message)
        .bind(Ts::from(row.created_at))
        .bind(Ts::from(row.updated_at))
        .execute(x)
        .await
        .map(|done| done.rows_affected()))?;
    if rows == 1 {
        return Ok(Inserted::Yes);
    }
    let what = if super::by_uid(c, &row.cluster_uid).await?.is_some() {
        Taken::ClusterUid
    } else if super::by_name(c, row.name.as_str()).await?.is_some() {
        Taken::Name
    } else {
        Taken::Id
    };
    Ok(Inserted::Taken(what))
}

/// Takes the cluster's row until the transaction ends, so that what is decided from it still holds at the commit. `None` if deleted.
pub async fn lock(c: &mut Conn<'_>, id: ClusterId) -> Result<Option<Cluster>> {
    let q = sql!(concat!(
        "UPDATE cluster SET version = version WHERE id = $1 AND deleted_at IS NULL RETURNING ",
        columns!()
    ));
    Ok(on!(c, x => sqlx::query_as(q).bind(id.0).fetch_optional(x).await)?)
}

/// Writes what a caller may change (labels, addresses, switches) if the row still has `row.version`; then `row` shows the new version.
/// `false`: someone else was first, or it is deleted.
pub async fn update(c: &mut Conn<'_>, row: &mut Cluster, now: Timestamp) -> Result<bool> {
    let q = sql!(
        "UPDATE cluster SET labels = $3, server = $4, public_server = $5, auto_bootstrap = $6, install_admission = $7, \
         with_mocks = $8, updated_at = $9, version = version + 1 WHERE id = $1 AND version = $2 AND deleted_at IS NULL"
    );
    let rows = on!(c, x => sqlx::query(q)
        .bind(row.id.0)
        .bind(row.version)
        .bind(Json(&row.labels))
        .bind(&row.server)
        .bind(&row.public_server)
        .bind(row.auto_bootstrap)
        .bind(row.install_admission)
        .bind(row.with_mocks)
        .bind(Ts::from(now))
        .execute(x)
        .await
        .map(|done| done.rows_affected()))?;
    if rows == 1 {
        row.version += 1;
        row.updated_at = now;
    }
    Ok(rows == 1)
}

/// Replaces the sealed kubeconfig; `false` if the cluster is deleted.
pub async fn set_kubeconfig(c: &mut Conn<'_>, id: ClusterId, kubeconfig: &Sealed) -> Result<bool> {
    let q = sql!("UPDATE cluster SET kubeconfig = $2, seed_id = $3 WHERE id = $1 AND deleted_at IS NULL");
    let rows = on!(c, x => sqlx::query(q)
        .bind(id.0)
        .bind(&kubeconfig.bytes)
        .bind(kubeconfig.seed_id)
        .execute(x)
        .await
        .map(|done| done.rows_affected()))?;
    Ok(rows == 1)
}

/// Replaces the sealed kubeconfig by the same one sealed anew, if it is still `old`; not a change by a caller, so the version stays.
pub async fn reseal(c: &mut Conn<'_>, id: ClusterId, old: &Sealed, new: &Sealed) -> Result<bool> {
    let q = sql!("UPDATE cluster SET kubeconfig = $4, seed_id = $5 WHERE id = $1 AND kubeconfig = $2 AND seed_id = $3");
    let rows = on!(c, x => sqlx::query(q)
        .bind(id.0)
        .bind(&old.bytes)
        .bind(old.seed_id)
        .bind(&new.bytes)
        .bind(new.seed_id)
        .execute(x)
        .await
        .map(|done| done.rows_affected()))?;
    Ok(rows == 1)
}

/// Records how far the bootstrap is; not a change by a caller, so the version stays. `false` if the cluster is deleted, or being removed: that
/// ends with its deletion, or by [`take_back`].
pub async fn set_bootstrap(
    c: &mut Conn<'_>,
    id: ClusterId,
    state: BootstrapState,
    message: Option<&str>,
) -> Result<bool> {
    let q = sql!(
        "UPDATE cluster SET bootstrap_state = $2, bootstrap_message = $3 \
         WHERE id = $1 AND deleted_at IS NULL AND (bootstrap_state <> 'removing' OR $2 = 'removing')"
    );
    let rows = on!(c, x => sqlx::query(q)
        .bind(id.0)
        .bind(state.as_str())
        .bind(message.map(|text| clean(text, 2000)))
        .execute(x)
        .await
        .map(|done| done.rows_affected()))?;
    Ok(rows == 1)
}

/// Records that a bootstrap failed, and why. A cluster that was set up stays so: what it holds goes on working, and only the upgrade failed.
/// `false` if it is deleted or being removed.
pub async fn fail_bootstrap(c: &mut Conn<'_>, id: ClusterId, message: &str) -> Result<bool> {
    let q = sql!(
        "UPDATE cluster SET bootstrap_message = $2, \
         bootstrap_state = CASE WHEN bootstrap_state = 'done' THEN bootstrap_state ELSE 'failed' END \
         WHERE id = $1 AND deleted_at IS NULL AND bootstrap_state <> 'removing'"
    );
    let rows = on!(c, x => sqlx::query(q)
        .bind(id.0)
        .bind(clean(message, 2000))
        .execute(x)
        .await
        .map(|done| done.rows_affected()))?;
    Ok(rows == 1)
}

/// A cluster from which kubeOP was being removed is to be set up again. `false` if it is deleted or was not being removed.
pub async fn take_back(c: &mut Conn<'_>, id: ClusterId) -> Result<bool> {
    let q = sql!(
        "UPDATE cluster SET bootstrap_state = 'pending', bootstrap_message = NULL \
         WHERE id = $1 AND deleted_at IS NULL AND bootstrap_state = 'removing'"
    );
    let rows = on!(c, x => sqlx::query(q).bind(id.0).execute(x).await.map(|done| done.rows_affected()))?;
    Ok(rows == 1)
}

/// Marks it deleted and forgets its credential, if the row still has `row.version`. Name and API server are free again at the commit.
pub async fn mark_deleted(c: &mut Conn<'_>, row: &mut Cluster, now: Timestamp) -> Result<bool> {
    let q = sql!(
        "UPDATE cluster SET deleted_at = $3, updated_at = $3, kubeconfig = NULL, seed_id = NULL, version = version + 1 \
         WHERE id = $1 AND version = $2 AND deleted_at IS NULL"
    );
    let rows = on!(c, x => sqlx::query(q)
        .bind(row.id.0)
        .bind(row.version)
        .bind(Ts::from(now))
        .execute(x)
        .await
        .map(|done| done.rows_affected()))?;
    if rows == 1 {
        row.version += 1;
        row.updated_at = now;
        row.deleted_at = Some(now);
    }
    Ok(rows == 1)
}
