//! PostgreSQL's fast way for samples whose keys are all new: `COPY` in binary form, inside a savepoint.
//!
//! Invariant: after `false` nothing of the chunk is there.

use super::put::Row;
use super::sql;
use crate::Result;
use crate::column::Ts;
use crate::conn::answered;
use sqlx::{Connection, PgConnection};

/// Before the rows: signature, flags, length of the extension (PostgreSQL manual, COPY, binary format).
const HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
/// After the rows: -1 columns.
const TRAILER: &[u8] = &[0xff, 0xff];

/// Whether the first, middle or last key of a chunk is there already: a batch that was sent before is told from a new one without an error
/// in the server's log.
pub(super) async fn any_there(conn: &mut PgConnection, chunk: &[Row<'_>]) -> Result<bool> {
    let q = sql!(pg: "SELECT EXISTS (SELECT 1 FROM usage_hour WHERE bucket = $1 AND tenant_id = $2 AND project_id = $3 AND source = $4) \
        OR EXISTS (SELECT 1 FROM usage_hour WHERE bucket = $5 AND tenant_id = $6 AND project_id = $7 AND source = $8) \
        OR EXISTS (SELECT 1 FROM usage_hour WHERE bucket = $9 AND tenant_id = $10 AND project_id = $11 AND source = $12) AS there");
    let mut query = sqlx::query_scalar(q);
    for (key, _) in [chunk.first(), chunk.get(chunk.len() / 2), chunk.last()].into_iter().flatten() {
        query = query.bind(key.0).bind(key.1).bind(key.2).bind(key.3);
    }
    Ok(answered(query.fetch_one(conn)).await?)
}

/// Writes the chunk if every key is new; `false` if one is not.
pub(super) async fn all_new(conn: &mut PgConnection, chunk: &[Row<'_>], now: Ts) -> Result<bool> {
    let q = sql!(pg: "COPY usage_hour (bucket, tenant_id, project_id, source, cpu_milli, mem_mib, revision, updated_at) \
        FROM STDIN (FORMAT binary)");
    let mut savepoint = answered(conn.begin()).await?;
    let copying = async {
        let mut copy = savepoint.copy_in_raw(q).await?;
        copy.send(encode(chunk, now)).await?;
        copy.finish().await
    };
    match answered(copying).await {
        Ok(_) => {
            answered(savepoint.commit()).await?;
            Ok(true)
        }
        Err(sqlx::Error::Database(error)) if error.is_unique_violation() => {
            answered(savepoint.rollback()).await?;
            Ok(false)
        }
        Err(error) => Err(error.into()),
    }
}

fn encode(chunk: &[Row<'_>], now: Ts) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEADER.len() + TRAILER.len() + chunk.len() * 140);
    out.extend_from_slice(HEADER);
    for (key, figures) in chunk {
        out.extend_from_slice(&8_i16.to_be_bytes());
        field(&mut out, &key.0.pg_micros().to_be_bytes());
        field(&mut out, key.1.as_bytes());
        field(&mut out, key.2.as_bytes());
        field(&mut out, key.3.as_bytes());
        field(&mut out, &figures.0.to_be_bytes());
        field(&mut out, &figures.1.to_be_bytes());
        field(&mut out, &1_i64.to_be_bytes());
        field(&mut out, &now.pg_micros().to_be_bytes());
    }
    out.extend_from_slice(TRAILER);
    out
}

/// Its length, and the value. (A source of 2 GiB cannot occur; its truncated length would be refused by the server.)
fn field(out: &mut Vec<u8>, value: &[u8]) {
    out.extend_from_slice(&i32::try_from(value.len()).unwrap_or(i32::MAX).to_be_bytes());
    out.extend_from_slice(value);
}
