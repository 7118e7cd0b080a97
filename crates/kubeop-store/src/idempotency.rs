//! What was answered to requests with an `Idempotency-Key`.
//!
//! Invariant: of all attempts with one key at most one owns the row, and only the owner writes the answer, in the transaction of its
//! change: an attempt whose claim was taken over cannot commit.

use crate::column::Ts;
use crate::page::limit;
use crate::{Conn, Result, on, sql};
use jiff::Timestamp;
use uuid::Uuid;

/// What an attempt asks for.
#[derive(Clone, Debug)]
pub struct Claim {
    /// Hash of caller, method, path and key.
    pub digest: Vec<u8>,
    /// Hash of what is asked for.
    pub request: Vec<u8>,
    /// The attempt.
    pub owner: Uuid,
    /// Until when it may be without an answer before another attempt takes over.
    pub claimed_until: Timestamp,
    /// When the answer is forgotten.
    pub expires_at: Timestamp,
}

/// What is known under a key.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct Kept {
    /// Hash of what was asked for.
    pub request: Vec<u8>,
    /// The attempt that answered or is under way.
    pub owner: Uuid,
    /// The seed that opens the answer.
    pub seed_id: Option<Uuid>,
    /// The answer, encrypted; none: under way.
    pub answer: Option<Vec<u8>>,
}

/// Claims a key: `None` when it is ours now, else what is there. What expired, or lost its owner without an answer, is taken over.
pub async fn claim(c: &mut Conn<'_>, claim: &Claim, now: Timestamp) -> Result<Option<Kept>> {
    let q = sql!(
        "INSERT INTO idempotency_key (digest, request, owner, claimed_until, expires_at) VALUES ($1, $2, $3, $4, $5) \
         ON CONFLICT (digest) DO UPDATE SET request = excluded.request, owner = excluded.owner, \
         claimed_until = excluded.claimed_until, expires_at = excluded.expires_at, seed_id = NULL, answer = NULL \
         WHERE idempotency_key.expires_at <= $6 OR (idempotency_key.answer IS NULL AND idempotency_key.claimed_until <= $6)"
    );
    let rows = on!(c, x => sqlx::query(q)
        .bind(&claim.digest)
        .bind(&claim.request)
        .bind(claim.owner)
        .bind(Ts::from(claim.claimed_until))
        .bind(Ts::from(claim.expires_at))
        .bind(Ts::from(now))
        .execute(x)
        .await
        .map(|done| done.rows_affected()))?;
    if rows == 1 {
        return Ok(None);
    }
    // On PostgreSQL the row that was in the way may be gone by now: then it was released, and the next attempt gets it.
    let q = sql!("SELECT request, owner, seed_id, answer FROM idempotency_key WHERE digest = $1");
    let kept: Option<Kept> = on!(c, x => sqlx::query_as(q).bind(&claim.digest).fetch_optional(x).await)?;
    Ok(Some(kept.unwrap_or_else(|| Kept {
        request: claim.request.clone(),
        owner: Uuid::nil(),
        seed_id: None,
        answer: None,
    })))
}

/// Makes sure, in the transaction of a change, that the attempt still owns its key; `false`: do not commit.
pub async fn hold(c: &mut Conn<'_>, digest: &[u8], owner: Uuid) -> Result<bool> {
    let q = sql!("UPDATE idempotency_key SET owner = owner WHERE digest = $1 AND owner = $2");
    let rows = on!(c, x => sqlx::query(q).bind(digest).bind(owner).execute(x).await.map(|done| done.rows_affected()))?;
    Ok(rows == 1)
}

/// Writes the answer; `false`: the attempt does not own its key any more, do not commit.
pub async fn answer(c: &mut Conn<'_>, digest: &[u8], owner: Uuid, seed_id: Uuid, answer: &[u8]) -> Result<bool> {
    let q = sql!("UPDATE idempotency_key SET seed_id = $3, answer = $4 WHERE digest = $1 AND owner = $2");
    let rows = on!(c, x => sqlx::query(q)
        .bind(digest)
        .bind(owner)
        .bind(seed_id)
        .bind(answer)
        .execute(x)
        .await
        .map(|done| done.rows_affected()))?;
    Ok(rows == 1)
}

/// The answers that are encrypted with this seed as (digest, answer), by digest, beginning after `after`: for encrypting them anew.
pub async fn sealed_with(c: &mut Conn<'_>, seed_id: Uuid, after: &[u8], rows: u32) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let q =
        sql!("SELECT digest, answer FROM idempotency_key WHERE seed_id = $1 AND digest > $2 ORDER BY digest LIMIT $3");
    Ok(on!(c, x => sqlx::query_as(q).bind(seed_id).bind(after).bind(limit(rows)).fetch_all(x).await)?)
}

/// Replaces an answer (seed and ciphertext) by the same one encrypted anew; `false`: it is not `old` any more.
pub async fn reseal(c: &mut Conn<'_>, digest: &[u8], old: (Uuid, &[u8]), new: (Uuid, &[u8])) -> Result<bool> {
    let q =
        sql!("UPDATE idempotency_key SET seed_id = $4, answer = $5 WHERE digest = $1 AND seed_id = $2 AND answer = $3");
    let rows = on!(c, x => sqlx::query(q)
        .bind(digest)
        .bind(old.0)
        .bind(old.1)
        .bind(new.0)
        .bind(new.1)
        .execute(x)
        .await
        .map(|done| done.rows_affected()))?;
    Ok(rows == 1)
}

/// Gives a key back that was claimed and not answered.
pub async fn release(c: &mut Conn<'_>, digest: &[u8], owner: Uuid) -> Result<()> {
    let q = sql!("DELETE FROM idempotency_key WHERE digest = $1 AND owner = $2 AND answer IS NULL");
    on!(c, x => sqlx::query(q).bind(digest).bind(owner).execute(x).await.map(|_| ()))?;
    Ok(())
}

/// Forgets some of what expired before `now`; returns how many.
pub async fn remove_expired(c: &mut Conn<'_>, now: Timestamp, rows: u32) -> Result<u64> {
    let q = c.pick(
        // An array, so that each is found by the key: of a list in the query PostgreSQL expects so many that it reads the whole table.
        sql!(pg: "DELETE FROM idempotency_key WHERE digest = ANY(ARRAY\
              (SELECT digest FROM idempotency_key WHERE expires_at <= $1 ORDER BY expires_at, digest LIMIT $2))"),
        sql!(sqlite: "DELETE FROM idempotency_key WHERE digest IN \
              (SELECT digest FROM idempotency_key WHERE expires_at <= $1 ORDER BY expires_at, digest LIMIT $2)"),
    );
    Ok(on!(c, x => sqlx::query(q)
        .bind(Ts::from(now))
        .bind(limit(rows))
        .execute(x)
        .await
        .map(|done| done.rows_affected()))?)
}
