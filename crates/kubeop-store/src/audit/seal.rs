//! Sealing the audit log: the place of each record in its tenant's chain, and the end of each chain.
//!
//! Invariant: whoever seals holds the platform's row of `audit_chain` until the commit; a record without a place is sealed whenever its
//! transaction became visible, so that none is skipped or sealed twice, in whatever order they were committed.

use super::{AuditRecord, Row, columns};
use crate::column::{Id, Ts};
use crate::conn::answered;
use crate::page::limit;
use crate::{Conn, Result, StoreError, on, sql};
use jiff::Timestamp;
use kubeop_core::hex;
use kubeop_core::id::TenantId;
use serde_json::json;
use uuid::Uuid;

/// The end of a chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    /// Whose; none: the platform's.
    pub tenant_id: Option<TenantId>,
    /// The last place that is sealed; 0: none yet.
    pub seq: i64,
    /// The hash there; empty: none yet.
    pub hash: Vec<u8>,
    /// With the platform's alone: how many chains there are, itself included.
    pub chains: i64,
    /// The seed of the key under `mac`.
    pub seed_id: Option<Uuid>,
    /// What binds the fields above to this installation.
    pub mac: Vec<u8>,
    /// When it was last extended.
    pub sealed_at: Timestamp,
}

#[derive(sqlx::FromRow)]
struct ChainRow {
    #[sqlx(try_from = "Id")]
    tenant_id: TenantId,
    seq: i64,
    hash: Vec<u8>,
    chains: i64,
    seed_id: Option<Uuid>,
    mac: Vec<u8>,
    #[sqlx(try_from = "Ts")]
    sealed_at: Timestamp,
}

impl From<ChainRow> for Chain {
    fn from(row: ChainRow) -> Self {
        Self {
            tenant_id: (!row.tenant_id.0.is_nil()).then_some(row.tenant_id),
            seq: row.seq,
            hash: row.hash,
            chains: row.chains,
            seed_id: row.seed_id,
            mac: row.mac,
            sealed_at: row.sealed_at,
        }
    }
}

impl Chain {
    /// A chain without a record.
    pub fn new(tenant_id: Option<TenantId>, now: Timestamp) -> Self {
        Self { tenant_id, seq: 0, hash: Vec::new(), chains: 0, seed_id: None, mac: Vec::new(), sealed_at: now }
    }
}

/// A record's place and the hash there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seal {
    /// Whose chain; none: the platform's.
    pub tenant_id: Option<TenantId>,
    /// The record.
    pub id: Uuid,
    /// Its place, from 1.
    pub seq: i64,
    /// The hash there.
    pub hash: Vec<u8>,
}

macro_rules! chain_columns {
    () => {
        "tenant_id, seq, hash, chains, seed_id, mac, sealed_at"
    };
}

fn key(tenant_id: Option<TenantId>) -> Uuid {
    tenant_id.map_or(Uuid::nil(), |id| id.0)
}

/// Whether there is anything to seal.
pub async fn has_unsealed(c: &mut Conn<'_>) -> Result<bool> {
    let q = sql!("SELECT tenant_id FROM audit_record WHERE seq IS NULL ORDER BY tenant_id LIMIT 1");
    let found: Option<Uuid> = on!(c, x => sqlx::query_scalar(q).fetch_optional(x).await)?;
    Ok(found.is_some())
}

/// How many records of before `before` are not sealed.
pub async fn count_unsealed(c: &mut Conn<'_>, before: Timestamp) -> Result<i64> {
    let q = sql!("SELECT COUNT(*) AS n FROM audit_record WHERE seq IS NULL AND at < $1");
    Ok(on!(c, x => sqlx::query_scalar(q).bind(Ts::from(before)).fetch_one(x).await)?)
}

/// Takes the turn to seal until the transaction ends, and returns the end of the platform's chain. Another sealer waits.
pub async fn begin_sealing(c: &mut Conn<'_>, now: Timestamp) -> Result<Chain> {
    let empty: &[u8] = &[];
    // The no-op update takes the row where it is there already.
    let q = sql!(concat!(
        "INSERT INTO audit_chain (tenant_id, seq, hash, chains, seed_id, mac, sealed_at) VALUES ($1, 0, $2, 0, NULL, $2, $3) \
         ON CONFLICT (tenant_id) DO UPDATE SET seq = audit_chain.seq RETURNING ",
        chain_columns!()
    ));
    let row: ChainRow =
        on!(c, x => sqlx::query_as(q).bind(Uuid::nil()).bind(empty).bind(Ts::from(now)).fetch_one(x).await)?;
    Ok(row.into())
}

/// Records that are not sealed, chain by chain, each in order of (at, id).
pub async fn unsealed(c: &mut Conn<'_>, rows: u32) -> Result<Vec<AuditRecord>> {
    let q = sql!(concat!(
        "SELECT ",
        columns!(),
        " FROM audit_record WHERE seq IS NULL ORDER BY tenant_id, at, id LIMIT $1"
    ));
    let rows: Vec<Row> = on!(c, x => sqlx::query_as(q).bind(limit(rows)).fetch_all(x).await)?;
    Ok(rows.into_iter().map(AuditRecord::from).collect())
}

/// The end of a chain, if it has begun.
pub async fn chain(c: &mut Conn<'_>, tenant_id: Option<TenantId>) -> Result<Option<Chain>> {
    let q = sql!(concat!("SELECT ", chain_columns!(), " FROM audit_chain WHERE tenant_id = $1"));
    let row: Option<ChainRow> = on!(c, x => sqlx::query_as(q).bind(key(tenant_id)).fetch_optional(x).await)?;
    Ok(row.map(Chain::from))
}

/// The chains after that of `after`, by tenant; the platform's is the first.
pub async fn chains(c: &mut Conn<'_>, after: Option<Option<TenantId>>, rows: u32) -> Result<Vec<Chain>> {
    let first = sql!(concat!("SELECT ", chain_columns!(), " FROM audit_chain ORDER BY tenant_id LIMIT $1"));
    let next = sql!(concat!(
        "SELECT ",
        chain_columns!(),
        " FROM audit_chain WHERE tenant_id > $1 ORDER BY tenant_id LIMIT $2"
    ));
    let rows: Vec<ChainRow> = match after {
        None => on!(c, x => sqlx::query_as(first).bind(limit(rows)).fetch_all(x).await)?,
        Some(after) => on!(c, x => sqlx::query_as(next).bind(key(after)).bind(limit(rows)).fetch_all(x).await)?,
    };
    Ok(rows.into_iter().map(Chain::from).collect())
}

/// The chains whose ends are authenticated with this seed, as [`chains`] gives them.
pub async fn chains_with(
    c: &mut Conn<'_>,
    seed_id: Uuid,
    after: Option<Option<TenantId>>,
    rows: u32,
) -> Result<Vec<Chain>> {
    let first =
        sql!(concat!("SELECT ", chain_columns!(), " FROM audit_chain WHERE seed_id = $1 ORDER BY tenant_id LIMIT $2"));
    let next = sql!(concat!(
        "SELECT ",
        chain_columns!(),
        " FROM audit_chain WHERE seed_id = $1 AND tenant_id > $2 ORDER BY tenant_id LIMIT $3"
    ));
    let rows: Vec<ChainRow> = match after {
        None => on!(c, x => sqlx::query_as(first).bind(seed_id).bind(limit(rows)).fetch_all(x).await)?,
        Some(after) => {
            on!(c, x => sqlx::query_as(next).bind(seed_id).bind(key(after)).bind(limit(rows)).fetch_all(x).await)?
        }
    };
    Ok(rows.into_iter().map(Chain::from).collect())
}

/// How many chains there are.
pub async fn count_chains(c: &mut Conn<'_>) -> Result<i64> {
    let q = sql!("SELECT COUNT(*) AS n FROM audit_chain");
    Ok(on!(c, x => sqlx::query_scalar(q).fetch_one(x).await)?)
}

/// Gives records their places.
///
/// # Errors
/// `Defect` if one of them is sealed already, or gone: the transaction must not be committed.
pub async fn seal(c: &mut Conn<'_>, seals: &[Seal]) -> Result<()> {
    let for_pg = sql!(pg: "UPDATE audit_record AS r SET seq = s.seq, hash = s.hash \
        FROM UNNEST($1::uuid[], $2::uuid[], $3::bigint[], $4::bytea[]) AS s (tenant_id, id, seq, hash) \
        WHERE r.tenant_id = s.tenant_id AND r.id = s.id AND r.seq IS NULL");
    let for_sqlite = sql!(sqlite: "UPDATE audit_record AS r SET seq = s.seq, hash = s.hash \
        FROM (SELECT unhex(value ->> 0, '-') AS tenant_id, unhex(value ->> 1, '-') AS id, value ->> 2 AS seq, \
        unhex(value ->> 3) AS hash FROM json_each($1)) AS s \
        WHERE r.tenant_id = s.tenant_id AND r.id = s.id AND r.seq IS NULL");
    let done = match c {
        Conn::Pg(x) => {
            let sealing = sqlx::query(for_pg)
                .bind(seals.iter().map(|seal| key(seal.tenant_id)).collect::<Vec<_>>())
                .bind(seals.iter().map(|seal| seal.id).collect::<Vec<_>>())
                .bind(seals.iter().map(|seal| seal.seq).collect::<Vec<_>>())
                .bind(seals.iter().map(|seal| seal.hash.clone()).collect::<Vec<_>>())
                .execute(&mut **x);
            answered(sealing).await?.rows_affected()
        }
        Conn::Sqlite(x) => {
            let list: Vec<_> = seals
                .iter()
                .map(|seal| {
                    json!([key(seal.tenant_id).to_string(), seal.id.to_string(), seal.seq, hex::encode(&seal.hash)])
                })
                .collect();
            let list = serde_json::Value::Array(list).to_string();
            sqlx::query(for_sqlite).bind(list).execute(&mut **x).await?.rows_affected()
        }
    };
    if done == u64::try_from(seals.len()).unwrap_or(u64::MAX) {
        Ok(())
    } else {
        Err(StoreError::Defect(format!("{} audit records were to be sealed, {done} could be", seals.len())))
    }
}

/// Writes the end of a chain.
pub async fn put_chain(c: &mut Conn<'_>, chain: &Chain) -> Result<()> {
    let q = sql!(
        "INSERT INTO audit_chain (tenant_id, seq, hash, chains, seed_id, mac, sealed_at) VALUES ($1, $2, $3, $4, $5, $6, $7) \
         ON CONFLICT (tenant_id) DO UPDATE SET seq = excluded.seq, hash = excluded.hash, chains = excluded.chains, \
         seed_id = excluded.seed_id, mac = excluded.mac, sealed_at = excluded.sealed_at"
    );
    on!(c, x => sqlx::query(q)
        .bind(key(chain.tenant_id))
        .bind(chain.seq)
        .bind(&chain.hash)
        .bind(chain.chains)
        .bind(chain.seed_id)
        .bind(&chain.mac)
        .bind(Ts::from(chain.sealed_at))
        .execute(x)
        .await
        .map(|_| ()))?;
    Ok(())
}

/// The next tenant that has a sealed record, by id; the platform's (nil) is the first.
pub async fn next_sealed(c: &mut Conn<'_>, after: Option<Option<TenantId>>) -> Result<Option<Option<TenantId>>> {
    let first = sql!("SELECT tenant_id FROM audit_record WHERE seq IS NOT NULL ORDER BY tenant_id, seq LIMIT 1");
    let next = sql!(
        "SELECT tenant_id FROM audit_record WHERE seq IS NOT NULL AND tenant_id > $1 ORDER BY tenant_id, seq LIMIT 1"
    );
    let found: Option<Uuid> = match after {
        None => on!(c, x => sqlx::query_scalar(first).fetch_optional(x).await)?,
        Some(after) => on!(c, x => sqlx::query_scalar(next).bind(key(after)).fetch_optional(x).await)?,
    };
    Ok(found.map(|id| (!id.is_nil()).then_some(TenantId(id))))
}

/// Sealed records of a tenant at places that no chain has.
pub async fn count_misplaced(c: &mut Conn<'_>, tenant_id: Option<TenantId>) -> Result<i64> {
    let q = sql!("SELECT COUNT(*) AS n FROM audit_record WHERE tenant_id = $1 AND seq <= 0");
    Ok(on!(c, x => sqlx::query_scalar(q).bind(key(tenant_id)).fetch_one(x).await)?)
}

/// The sealed records of a chain after a place, in order.
pub async fn sealed(c: &mut Conn<'_>, tenant_id: Option<TenantId>, after: i64, rows: u32) -> Result<Vec<AuditRecord>> {
    let q = sql!(concat!(
        "SELECT ",
        columns!(),
        " FROM audit_record WHERE tenant_id = $1 AND seq > $2 ORDER BY seq LIMIT $3"
    ));
    let rows: Vec<Row> =
        on!(c, x => sqlx::query_as(q).bind(key(tenant_id)).bind(after).bind(limit(rows)).fetch_all(x).await)?;
    Ok(rows.into_iter().map(AuditRecord::from).collect())
}
