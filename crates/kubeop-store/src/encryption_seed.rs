//! Seeds of envelope encryption, each wrapped by a master key.
//!
//! Invariant: a seed is never removed while something is sealed with it (a foreign key holds that); `wrapped` alone opens nothing. The
//! newest seed encrypts; [`newest`] holds it, so that it is not removed before what is sealed with it is written.

use crate::column::{Ts, clean};
use crate::{Conn, Result, on, sql};
use jiff::Timestamp;
use uuid::Uuid;

/// A wrapped seed.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct EncryptionSeed {
    /// Its id, kept beside each ciphertext.
    pub id: Uuid,
    /// Which master key wrapped it.
    pub master_key_id: String,
    /// The ciphertext of the seed.
    pub wrapped: Vec<u8>,
    /// When it was made.
    #[sqlx(try_from = "Ts")]
    pub created_at: Timestamp,
}

/// Adds a seed.
pub async fn insert(c: &mut Conn<'_>, row: &EncryptionSeed) -> Result<()> {
    let q = sql!("INSERT INTO encryption_seed (id, master_key_id, wrapped, created_at) VALUES ($1, $2, $3, $4)");
    on!(c, x => sqlx::query(q)
        .bind(row.id)
        .bind(clean(&row.master_key_id, 200))
        .bind(&row.wrapped)
        .bind(Ts::from(row.created_at))
        .execute(x)
        .await
        .map(|_| ()))?;
    Ok(())
}

/// The seed of this id.
pub async fn get(c: &mut Conn<'_>, id: Uuid) -> Result<Option<EncryptionSeed>> {
    let q = sql!("SELECT id, master_key_id, wrapped, created_at FROM encryption_seed WHERE id = $1");
    Ok(on!(c, x => sqlx::query_as(q).bind(id).fetch_optional(x).await)?)
}

/// All seeds, oldest first: there are a handful.
pub async fn list(c: &mut Conn<'_>) -> Result<Vec<EncryptionSeed>> {
    let q = sql!("SELECT id, master_key_id, wrapped, created_at FROM encryption_seed ORDER BY created_at, id");
    Ok(on!(c, x => sqlx::query_as(q).fetch_all(x).await)?)
}

/// The id of the seed to encrypt with; none before the first start. In a transaction it cannot be removed until the end of that.
pub async fn newest(c: &mut Conn<'_>) -> Result<Option<Uuid>> {
    let q = c.pick(
        sql!(pg: "SELECT id FROM encryption_seed ORDER BY created_at DESC, id DESC LIMIT 1 FOR KEY SHARE"),
        sql!(sqlite: "SELECT id FROM encryption_seed ORDER BY created_at DESC, id DESC LIMIT 1"),
    );
    Ok(on!(c, x => sqlx::query_scalar(q).fetch_optional(x).await)?)
}

/// Replaces the wrapping of a seed (a new master key) if it is as `row` says; the seed itself stays. `false`: someone else was first.
pub async fn rewrap(c: &mut Conn<'_>, row: &EncryptionSeed, master_key_id: &str, wrapped: &[u8]) -> Result<bool> {
    let q = sql!("UPDATE encryption_seed SET master_key_id = $3, wrapped = $4 WHERE id = $1 AND wrapped = $2");
    let rows = on!(c, x => sqlx::query(q)
        .bind(row.id)
        .bind(&row.wrapped)
        .bind(clean(master_key_id, 200))
        .bind(wrapped)
        .execute(x)
        .await
        .map(|done| done.rows_affected()))?;
    Ok(rows == 1)
}

/// Removes a seed that nothing is sealed with; `false` if something is, or it is gone.
///
/// # Errors
/// `Conflict` if something was sealed with it in this very moment.
pub async fn remove_unused(c: &mut Conn<'_>, id: Uuid) -> Result<bool> {
    let q = sql!(
        "DELETE FROM encryption_seed WHERE id = $1 AND NOT EXISTS (SELECT 1 FROM cluster WHERE seed_id = $1) \
         AND NOT EXISTS (SELECT 1 FROM idempotency_key WHERE seed_id = $1) \
         AND NOT EXISTS (SELECT 1 FROM audit_chain WHERE seed_id = $1)"
    );
    let rows = on!(c, x => sqlx::query(q).bind(id).execute(x).await.map(|done| done.rows_affected()))?;
    Ok(rows == 1)
}
