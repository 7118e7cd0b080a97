//! API tokens that were issued or revoked, by their `jti`.
//!
//! Invariant: a revoked token stays listed until it would have expired. A token that is not here (made by `kubeop token`) is not revoked.

use crate::column::{Id, Maybe, Ts, clean};
use crate::page::{limit, reach};
use crate::{Conn, Inserted, Result, Taken, on, sql};
use jiff::Timestamp;
use kubeop_core::authz::Scope;
use kubeop_core::id::{ProjectId, TenantId};

/// An issued token (itself it is nowhere).
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow, serde::Serialize)]
pub struct IssuedToken {
    /// Its `jti` claim.
    pub jti: String,
    /// Its `role` claim.
    pub role: String,
    /// The tenant it is confined to, or whose project it is confined to.
    #[sqlx(try_from = "Maybe<Id>")]
    pub tenant_id: Option<TenantId>,
    /// The project it is confined to.
    #[sqlx(try_from = "Maybe<Id>")]
    pub project_id: Option<ProjectId>,
    /// Its `sub` claim.
    pub subject: String,
    /// When it was issued.
    #[sqlx(try_from = "Ts")]
    pub created_at: Timestamp,
    /// Its `exp` claim.
    #[sqlx(try_from = "Ts")]
    pub expires_at: Timestamp,
    /// When it was revoked.
    #[sqlx(try_from = "Maybe<Ts>")]
    pub revoked_at: Option<Timestamp>,
}

macro_rules! columns {
    () => {
        "jti, role, tenant_id, project_id, subject, created_at, expires_at, revoked_at"
    };
}

/// Records a token; `Taken` is [`Taken::Id`]. An admin revokes one that was not issued here by inserting it with `revoked_at`.
pub async fn insert(c: &mut Conn<'_>, row: &IssuedToken) -> Result<Inserted> {
    let q = sql!(
        "INSERT INTO issued_token (jti, role, tenant_id, project_id, subject, created_at, expires_at, revoked_at) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (jti) DO NOTHING"
    );
    let rows = on!(c, x => sqlx::query(q)
        .bind(clean(&row.jti, 300))
        .bind(clean(&row.role, 300))
        .bind(row.tenant_id.map(|id| id.0))
        .bind(row.project_id.map(|id| id.0))
        .bind(clean(&row.subject, 300))
        .bind(Ts::from(row.created_at))
        .bind(Ts::from(row.expires_at))
        .bind(row.revoked_at.map(Ts::from))
        .execute(x)
        .await
        .map(|done| done.rows_affected()))?;
    Ok(Inserted::from_rows(rows, Taken::Id))
}

/// Whether a token was revoked.
pub async fn is_revoked(c: &mut Conn<'_>, jti: &str) -> Result<bool> {
    let q = sql!("SELECT COUNT(*) AS n FROM issued_token WHERE jti = $1 AND revoked_at IS NOT NULL");
    let rows: i64 = on!(c, x => sqlx::query_scalar(q).bind(clean(jti, 300)).fetch_one(x).await)?;
    Ok(rows > 0)
}

/// Revokes a token in `scope`; `None` if it is not there. Revoking again changes nothing.
pub async fn revoke(c: &mut Conn<'_>, scope: Scope, jti: &str, now: Timestamp) -> Result<Option<IssuedToken>> {
    let q = sql!(concat!(
        "UPDATE issued_token SET revoked_at = COALESCE(revoked_at, $4) \
         WHERE jti = $1 AND (tenant_id = $2 OR $2 IS NULL) AND (project_id = $3 OR $3 IS NULL) RETURNING ",
        columns!()
    ));
    let (tenant, project) = reach(scope);
    Ok(on!(c, x => sqlx::query_as(q)
        .bind(clean(jti, 300))
        .bind(tenant)
        .bind(project)
        .bind(Ts::from(now))
        .fetch_optional(x)
        .await)?)
}

/// The revoked tokens that would still work at `now`, by expiry, beginning after `after` (an `expires_at` and `jti`): for a replica's list
/// in memory.
pub async fn list_revoked(
    c: &mut Conn<'_>,
    now: Timestamp,
    after: Option<(Timestamp, &str)>,
    rows: u32,
) -> Result<Vec<IssuedToken>> {
    let q = sql!(concat!(
        "SELECT ",
        columns!(),
        " FROM issued_token WHERE revoked_at IS NOT NULL AND expires_at > $1 AND (expires_at, jti) > ($2, $3) \
         ORDER BY expires_at, jti LIMIT $4"
    ));
    let (expires_at, jti) = after.unwrap_or((now, ""));
    Ok(on!(c, x => sqlx::query_as(q)
        .bind(Ts::from(now))
        .bind(Ts::from(expires_at))
        .bind(jti)
        .bind(limit(rows))
        .fetch_all(x)
        .await)?)
}

/// Forgets tokens that expired before `before`; returns how many.
pub async fn remove_expired(c: &mut Conn<'_>, before: Timestamp) -> Result<u64> {
    let q = sql!("DELETE FROM issued_token WHERE expires_at < $1");
    Ok(on!(c, x => sqlx::query(q)
        .bind(Ts::from(before))
        .execute(x)
        .await
        .map(|done| done.rows_affected()))?)
}
