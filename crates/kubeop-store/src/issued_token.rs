//! API tokens that were issued or revoked, by their `jti`.
//!
//! Invariant: a revoked token stays listed until it would have expired, and whatever it issued is revoked with it. A token that is not here
//! (made by `kubeop token`) is not revoked.

use crate::column::{Id, Many, Maybe, Ts, clean};
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
    /// The `jti` of the token that issued it.
    pub parent_jti: Option<String>,
}

macro_rules! columns {
    () => {
        "jti, role, tenant_id, project_id, subject, created_at, expires_at, revoked_at, parent_jti"
    };
}

/// Records a token; `Taken` is [`Taken::Id`]. An admin revokes one that was not issued here by inserting it with `revoked_at`.
pub async fn insert(c: &mut Conn<'_>, row: &IssuedToken) -> Result<Inserted> {
    let q = sql!(
        "INSERT INTO issued_token (jti, role, tenant_id, project_id, subject, created_at, expires_at, revoked_at, parent_jti) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT (jti) DO NOTHING"
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
        .bind(row.parent_jti.as_deref().map(|jti| clean(jti, 300)))
        .execute(x)
        .await
        .map(|done| done.rows_affected()))?;
    Ok(Inserted::from_rows(rows, Taken::Id))
}

/// Whether a token was revoked, or the one that issued it: that one may have been revoked while it did.
pub async fn is_revoked(c: &mut Conn<'_>, jti: &str) -> Result<bool> {
    let q = sql!(
        "SELECT COUNT(*) AS n FROM issued_token WHERE revoked_at IS NOT NULL \
         AND (jti = $1 OR jti = (SELECT parent_jti FROM issued_token WHERE jti = $1))"
    );
    let rows: i64 = on!(c, x => sqlx::query_scalar(q).bind(clean(jti, 300)).fetch_one(x).await)?;
    Ok(rows > 0)
}

/// Keeps a token that issues another from being revoked before the transaction ends; `false`: it is revoked.
pub async fn hold(c: &mut Conn<'_>, jti: &str) -> Result<bool> {
    let q = c.pick(
        sql!(pg: "SELECT jti FROM issued_token WHERE jti = $1 FOR SHARE"),
        sql!(sqlite: "SELECT jti FROM issued_token WHERE jti = $1"),
    );
    let _: Option<String> = on!(c, x => sqlx::query_scalar(q).bind(clean(jti, 300)).fetch_optional(x).await)?;
    Ok(!is_revoked(c, jti).await?)
}

/// Revokes whatever a token issued, and what that issued in turn; returns how many.
pub async fn revoke_issued_by(c: &mut Conn<'_>, jti: &str, now: Timestamp) -> Result<u64> {
    let q = c.pick(
        sql!(pg: "UPDATE issued_token SET revoked_at = $2 WHERE parent_jti = ANY($1) AND revoked_at IS NULL RETURNING jti"),
        sql!(sqlite: "UPDATE issued_token SET revoked_at = $2 WHERE parent_jti IN (SELECT value FROM json_each($1)) \
              AND revoked_at IS NULL RETURNING jti"),
    );
    let (mut parents, mut all) = (vec![clean(jti, 300)], 0);
    while !parents.is_empty() {
        let bound = Many(std::mem::take(&mut parents));
        parents = on!(c, x => sqlx::query_scalar(q).bind(bound).bind(Ts::from(now)).fetch_all(x).await)?;
        all += u64::try_from(parents.len()).unwrap_or(u64::MAX);
    }
    Ok(all)
}

/// Revokes a token in `scope`, but not yet what it issued ([`revoke_issued_by`]); `None` if it is not there. Revoking again changes nothing.
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

/// Forgets some of the tokens that expired before `before`; returns how many.
pub async fn remove_expired(c: &mut Conn<'_>, before: Timestamp, rows: u32) -> Result<u64> {
    let q = c.pick(
        sql!(pg: "DELETE FROM issued_token WHERE jti = ANY(ARRAY\
              (SELECT jti FROM issued_token WHERE expires_at < $1 ORDER BY expires_at LIMIT $2))"),
        sql!(sqlite: "DELETE FROM issued_token WHERE jti IN \
              (SELECT jti FROM issued_token WHERE expires_at < $1 ORDER BY expires_at LIMIT $2)"),
    );
    Ok(on!(c, x => sqlx::query(q)
        .bind(Ts::from(before))
        .bind(limit(rows))
        .execute(x)
        .await
        .map(|done| done.rows_affected()))?)
}
