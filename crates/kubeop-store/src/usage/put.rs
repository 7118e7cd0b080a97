//! Writing a batch of samples, all or nothing.

use super::{Sample, copy, sql};
use crate::column::Ts;
use crate::conn::answered;
use crate::invoice::month::{self, Written};
use crate::{Result, StoreError, Tx};
use jiff::Timestamp;
use kubeop_core::usage::MAX_VALUE;
use sqlx::{PgConnection, QueryBuilder, Sqlite, SqliteConnection};
use uuid::Uuid;

/// Rows of a statement: PostgreSQL takes arrays; SQLite at most 32,766 variables, of which a row needs 7.
const PG_CHUNK: usize = 10_000;
const SQLITE_CHUNK: usize = 4_000;

/// What a batch came to. Samples of one key in a batch count once: the last stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Keys that were not there before.
    pub created: u64,
    /// Keys that were there with other figures.
    pub updated: u64,
    /// Keys that were there with the same figures.
    pub unchanged: u64,
}

/// Hour, tenant, project or nil, source.
pub(super) type Key<'a> = (Ts, Uuid, Uuid, &'a str);
/// Millicores, MiB.
pub(super) type Figures = (i64, i64);
pub(super) type Row<'a> = (Key<'a>, Figures);

/// Sets the samples of a batch. Of two with the same key the last one counts (callers refuse such as contradict each other). The counts are
/// exact also while others write the same keys, and two batches never wait for each other in a circle: keys are taken in order.
///
/// Months that are over are held until the transaction ends, so that none of them is closed without these samples; of closed ones it is
/// noted that their usage changed, of those of which it did.
///
/// # Errors
/// `Defect` for a bucket that is no whole hour, a figure out of range or a source with NUL: the caller checks those first, by index.
pub async fn put(tx: &mut Tx, batch: &[Sample], now: Timestamp) -> Result<Counts> {
    let mut rows: Vec<Row<'_>> = Vec::with_capacity(batch.len());
    for sample in batch {
        let figures = 0..=MAX_VALUE;
        if sample.bucket.as_second() % 3600 != 0
            || sample.bucket.subsec_nanosecond() != 0
            || !figures.contains(&sample.cpu_milli)
            || !figures.contains(&sample.mem_mib)
            || sample.source.contains('\0')
        {
            return Err(StoreError::Defect("a sample that was not checked reached the store".to_owned()));
        }
        let project = sample.project_id.map_or(Uuid::nil(), |id| id.0);
        let key = (Ts::from(sample.bucket), sample.tenant_id.0, project, sample.source.as_str());
        rows.push((key, (sample.cpu_milli, sample.mem_mib)));
    }
    let rows = last_of_each(rows);
    let closed = month::hold(&mut tx.conn(), batch, now).await?;
    // Most batches have no closed month, and need not tell what of them was new.
    let mut done = Done { created: 0, updated: 0, written: (!closed.is_empty()).then(Written::new) };
    match tx {
        Tx::Sqlite(conn) => put_sqlite(conn, &rows, now.into(), &mut done).await?,
        Tx::Pg(conn) => put_pg(conn, &rows, now.into(), &mut done).await?,
    }
    if let Some(written) = &done.written {
        month::note_late(&mut tx.conn(), closed, written, now).await?;
    }
    let keys = u64::try_from(rows.len()).unwrap_or(u64::MAX);
    let Done { created, updated, .. } = done;
    Ok(Counts { created, updated, unchanged: keys.saturating_sub(created).saturating_sub(updated) })
}

/// What was written so far.
struct Done {
    created: u64,
    updated: u64,
    /// The hours of tenants of which a row was created or changed, if that matters.
    written: Option<Written>,
}

impl Done {
    fn note(&mut self, hours: impl IntoIterator<Item = (Uuid, Ts)>) {
        if let Some(written) = &mut self.written {
            written.extend(hours);
        }
    }
}

/// In order of the keys, and of equal keys only the last.
fn last_of_each(mut rows: Vec<Row<'_>>) -> Vec<Row<'_>> {
    // Stable, so that the last of equal keys is the last sent; then the one before takes its figures, and repeats go.
    rows.sort_by(|a, b| a.0.cmp(&b.0));
    rows.dedup_by(|later, kept| {
        let same = later.0 == kept.0;
        if same {
            kept.1 = later.1;
        }
        same
    });
    rows
}

/// A chunk that seems all new is copied in, which is twice as fast; if a key of it is there after all, and for what was sent before, the
/// chunk is upserted. Both take keys in order.
async fn put_pg(conn: &mut PgConnection, rows: &[Row<'_>], now: Ts, done: &mut Done) -> Result<()> {
    let mut seems_new = true;
    for chunk in rows.chunks(PG_CHUNK) {
        seems_new = seems_new && !copy::any_there(conn, chunk).await? && copy::all_new(conn, chunk, now).await?;
        if seems_new {
            done.created += u64::try_from(chunk.len()).unwrap_or(u64::MAX);
            done.note(chunk.iter().map(|(key, _)| (key.1, key.0)));
        } else {
            upsert_pg(conn, chunk, now, done).await?;
        }
    }
    Ok(())
}

/// The upsert of a chunk, and what is asked of the rows that it wrote.
macro_rules! upsert {
    ($answer:literal) => {
        sql!(pg: concat!(
            "WITH written AS (INSERT INTO usage_hour AS u \
             (bucket, tenant_id, project_id, source, cpu_milli, mem_mib, revision, updated_at) \
             SELECT b, t, p, s, c, m, 1, $7 FROM UNNEST($1::timestamptz[], $2::uuid[], $3::uuid[], $4::text[], $5::bigint[], $6::bigint[]) \
             AS x(b, t, p, s, c, m) ON CONFLICT (bucket, tenant_id, project_id, source) DO UPDATE \
             SET cpu_milli = excluded.cpu_milli, mem_mib = excluded.mem_mib, revision = u.revision + 1, updated_at = excluded.updated_at \
             WHERE u.cpu_milli <> excluded.cpu_milli OR u.mem_mib <> excluded.mem_mib RETURNING u.revision, u.tenant_id, u.bucket) ",
            $answer,
            " AS month, COUNT(*) FILTER (WHERE revision = 1) AS created, COUNT(*) FILTER (WHERE revision > 1) AS updated FROM written GROUP BY 1, 2"
        ))
    };
}

#[derive(sqlx::FromRow)]
struct WrittenRow {
    tenant_id: Option<Uuid>,
    month: Option<Ts>,
    created: i64,
    updated: i64,
}

/// Each row is inserted, or locked and compared, in the order of the arrays.
async fn upsert_pg(conn: &mut PgConnection, chunk: &[Row<'_>], now: Ts, done: &mut Done) -> Result<()> {
    let q = if done.written.is_some() {
        upsert!("SELECT tenant_id, date_trunc('month', bucket, 'UTC')")
    } else {
        upsert!("SELECT NULL::uuid AS tenant_id, NULL::timestamptz")
    };
    let column = |of: fn(&Key<'_>) -> Uuid| chunk.iter().map(|(key, _)| of(key)).collect::<Vec<Uuid>>();
    let figure = |of: fn(&Figures) -> i64| chunk.iter().map(|(_, figures)| of(figures)).collect::<Vec<i64>>();
    let upserting = sqlx::query_as(q)
        .bind(chunk.iter().map(|(key, _)| key.0).collect::<Vec<Ts>>())
        .bind(column(|key| key.1))
        .bind(column(|key| key.2))
        .bind(chunk.iter().map(|(key, _)| key.3).collect::<Vec<&str>>())
        .bind(figure(|figures| figures.0))
        .bind(figure(|figures| figures.1))
        .bind(now)
        .fetch_all(conn);
    let rows: Vec<WrittenRow> = answered(upserting).await?;
    for row in &rows {
        done.created += row.created.unsigned_abs();
        done.updated += row.updated.unsigned_abs();
    }
    done.note(rows.iter().filter_map(|row| row.tenant_id.zip(row.month)));
    Ok(())
}

/// Nobody else writes meanwhile, so a chunk may take two statements: what is new, and if anything was not, what differs.
async fn put_sqlite(conn: &mut SqliteConnection, rows: &[Row<'_>], now: Ts, done: &mut Done) -> Result<()> {
    for chunk in rows.chunks(SQLITE_CHUNK) {
        let new = insert(conn, chunk, now, " ON CONFLICT DO NOTHING", done).await?;
        done.created += new;
        if new < u64::try_from(chunk.len()).unwrap_or(u64::MAX) {
            let conflict = " ON CONFLICT (bucket, tenant_id, project_id, source) DO UPDATE SET cpu_milli = excluded.cpu_milli, \
                mem_mib = excluded.mem_mib, revision = usage_hour.revision + 1, updated_at = excluded.updated_at \
                WHERE usage_hour.cpu_milli <> excluded.cpu_milli OR usage_hour.mem_mib <> excluded.mem_mib";
            done.updated += insert(conn, chunk, now, conflict, done).await?;
        }
    }
    Ok(())
}

/// The one statement of the crate that is built at run time (its length depends on the chunk); tested with more than one chunk. How many
/// rows it wrote.
async fn insert(
    conn: &mut SqliteConnection,
    chunk: &[Row<'_>],
    now: Ts,
    conflict: &'static str,
    done: &mut Done,
) -> Result<u64> {
    let mut q = QueryBuilder::<Sqlite>::new(
        "INSERT INTO usage_hour (bucket, tenant_id, project_id, source, cpu_milli, mem_mib, revision, updated_at) ",
    );
    q.push_values(chunk, |mut row, (key, figures)| {
        row.push_bind(key.0).push_bind(key.1).push_bind(key.2).push_bind(key.3);
        row.push_bind(figures.0).push_bind(figures.1).push("1").push_bind(now);
    });
    q.push(conflict);
    // Only the text of a whole chunk comes again; others would push useful statements out of the cache.
    let whole = chunk.len() == SQLITE_CHUNK;
    if done.written.is_none() {
        return Ok(q.build().persistent(whole).execute(conn).await?.rows_affected());
    }
    q.push(" RETURNING tenant_id, bucket");
    let rows: Vec<(Uuid, Ts)> = q.build_query_as().persistent(whole).fetch_all(conn).await?;
    let count = u64::try_from(rows.len()).unwrap_or(u64::MAX);
    done.note(rows);
    Ok(count)
}
