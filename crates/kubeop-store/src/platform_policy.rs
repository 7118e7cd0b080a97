//! The platform policy: one row.
//!
//! Invariant: each replacement raises the version by one; nothing lowers it.

use crate::column::Ts;
use crate::{Conn, Result, on, sql};
use jiff::Timestamp;
use serde_json::Value;
use sqlx::types::Json;

/// The policy as stored.
#[derive(Clone, Debug, PartialEq, sqlx::FromRow)]
pub struct PlatformPolicy {
    /// The policy.
    #[sqlx(json)]
    pub policy: Value,
    /// Its version, from 1.
    pub version: i64,
    /// When it was replaced.
    #[sqlx(try_from = "Ts")]
    pub updated_at: Timestamp,
}

/// The policy, once there is one.
pub async fn get(c: &mut Conn<'_>) -> Result<Option<PlatformPolicy>> {
    let q = sql!("SELECT policy, version, updated_at FROM platform_policy WHERE id = 1");
    Ok(on!(c, x => sqlx::query_as(q).fetch_optional(x).await)?)
}

/// Writes the first policy unless there is one; returns the one that is there now.
pub async fn put_if_absent(c: &mut Conn<'_>, policy: &Value, now: Timestamp) -> Result<PlatformPolicy> {
    let q = sql!(
        "INSERT INTO platform_policy (id, policy, version, updated_at) VALUES (1, $1, 1, $2) \
         ON CONFLICT (id) DO UPDATE SET version = platform_policy.version RETURNING policy, version, updated_at"
    );
    Ok(on!(c, x => sqlx::query_as(q).bind(Json(policy)).bind(Ts::from(now)).fetch_one(x).await)?)
}

/// Replaces the policy, and returns it with its new version. With `expected`, only if that is the version there (0: none yet); else
/// `None`.
pub async fn put(
    c: &mut Conn<'_>,
    expected: Option<i64>,
    policy: &Value,
    now: Timestamp,
) -> Result<Option<PlatformPolicy>> {
    let insert = sql!(
        "INSERT INTO platform_policy (id, policy, version, updated_at) VALUES (1, $1, 1, $2) \
         ON CONFLICT (id) DO NOTHING RETURNING policy, version, updated_at"
    );
    let update = sql!(
        "UPDATE platform_policy SET policy = $1, version = version + 1, updated_at = $2 \
         WHERE id = 1 AND (version = $3 OR $3 IS NULL) RETURNING policy, version, updated_at"
    );
    if matches!(expected, None | Some(0)) {
        let first: Option<PlatformPolicy> = on!(c, x => sqlx::query_as(insert)
            .bind(Json(policy))
            .bind(Ts::from(now))
            .fetch_optional(x)
            .await)?;
        if first.is_some() || expected.is_some() {
            return Ok(first);
        }
    }
    Ok(on!(c, x => sqlx::query_as(update)
        .bind(Json(policy))
        .bind(Ts::from(now))
        .bind(expected)
        .fetch_optional(x)
        .await)?)
}

/// The furthest that a version is raised to what a cluster claims to hold: a cluster cannot use versions up.
const FURTHEST: i64 = 1_000_000;

/// Gives the policy as it is a later version than `held`, if that is later than its own; whether it was.
pub async fn outrun(c: &mut Conn<'_>, held: i64) -> Result<bool> {
    let q = sql!("UPDATE platform_policy SET version = $1 WHERE id = 1 AND version < $1 - 1 AND version > $1 - 1 - $2");
    let rows = on!(c, x => sqlx::query(q)
        .bind(held.saturating_add(1))
        .bind(FURTHEST)
        .execute(x)
        .await
        .map(|done| done.rows_affected()))?;
    Ok(rows == 1)
}
