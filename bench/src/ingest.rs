//! Batches of 100,000 samples: through the API and through the store, against raw COPY into the same table (PostgreSQL).

use crate::figures::{line, rate};
use crate::home::{Home, now};
use anyhow::{Context, Result};
use jiff::{SignedDuration, Timestamp};
use kubeop_core::id::TenantId;
use kubeop_store::usage::{self, Sample};
use kubeop_store::{Conn, Store};
use sqlx::Executor;
use std::fmt::Write;
use std::time::{Duration, Instant};

/// Rows of a batch.
const ROWS: usize = 100_000;

pub(crate) async fn measure(home: &mut Home, batches: usize) -> Result<()> {
    let hours = ROWS / home.tenants.len();
    let (mut copied, mut stored, mut sent) = (Vec::new(), Vec::new(), Vec::new());
    let first = now() - SignedDuration::from_hours(i64::try_from((2 * batches + 1) * hours).unwrap_or(0));
    let batch = |number: usize| batch(&home.tenants, first, number * hours, hours);
    let batches_of: Vec<Vec<Sample>> = (0..2 * batches).map(batch).collect::<Result<_>>()?;
    let store = home.take().await?;
    for (number, batch) in batches_of.iter().take(batches).enumerate() {
        if store.is_shared() {
            copied.push(copy(&store, batch).await?);
        }
        let begun = Instant::now();
        let mut tx = store.begin().await?;
        let counts = usage::put(&mut tx, batch, now()).await?;
        tx.commit().await?;
        stored.push(begun.elapsed());
        anyhow::ensure!(counts.created == ROWS as u64, "batch {number}: {counts:?}");
    }
    home.give_back(store).await?;
    let api = home.api()?;
    for batch in batches_of.iter().skip(batches) {
        let body = body(batch);
        anyhow::ensure!(body.len() <= 16 << 20, "{} bytes", body.len());
        let begun = Instant::now();
        let request = api.request("POST", "/v1/usage/ingest")?.header("content-type", "application/json").body(body);
        let answer = api.send(request).await?.expect(200)?;
        sent.push(begun.elapsed());
        anyhow::ensure!(answer.json["created"] == ROWS, "{}", answer.text);
    }
    let best = |times: &[Duration]| rate(ROWS, median(times));
    let (store, api) = (best(&stored), best(&sent));
    if copied.is_empty() {
        line("usage, store", format!("{store:.0} rows/s"));
        line("usage, API", format!("{:.0} % of the store: {api:.0} rows/s", api / store * 100.0));
    } else {
        let raw = best(&copied);
        line("usage, raw COPY into an equal table", format!("{raw:.0} rows/s"));
        line("usage, store", format!("{:.0} % of COPY: {store:.0} rows/s", store / raw * 100.0));
        line("usage, API", format!("{:.0} % of COPY: {api:.0} rows/s", api / raw * 100.0));
    }
    Ok(())
}

fn median(times: &[Duration]) -> Duration {
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    sorted.get(sorted.len() / 2).copied().unwrap_or_default()
}

/// Each tenant's samples of some hours.
fn batch(tenants: &[TenantId], first: Timestamp, skip: usize, hours: usize) -> Result<Vec<Sample>> {
    let mut samples = Vec::with_capacity(ROWS);
    for hour in 0..hours {
        let at = first + SignedDuration::from_hours(i64::try_from(skip + hour).context("an hour")?);
        for tenant in tenants {
            samples.push(Sample::new(at, now(), *tenant, None, "", (250, 512))?);
        }
    }
    Ok(samples)
}

fn body(batch: &[Sample]) -> String {
    let mut text = String::from("[");
    for (n, one) in batch.iter().enumerate() {
        let comma = if n == 0 { "" } else { "," };
        // Writing to a String cannot fail.
        let _ = write!(
            text,
            r#"{comma}{{"ts":"{}","tenant_id":"{}","cpu_milli":{},"mem_mib":{}}}"#,
            one.bucket, one.tenant_id, one.cpu_milli, one.mem_mib
        );
    }
    text + "]"
}

/// The same rows, in the order of the key, as PostgreSQL takes them fastest, into a table with the same index.
async fn copy(store: &Store, batch: &[Sample]) -> Result<Duration> {
    let mut tx = store.begin().await?;
    let mut text = String::new();
    let mut rows: Vec<&Sample> = batch.iter().collect();
    rows.sort_by_key(|one| (one.bucket, one.tenant_id));
    for one in rows {
        let nil = uuid::Uuid::nil();
        let (bucket, tenant) = (one.bucket, one.tenant_id);
        writeln!(text, "{bucket}\t{tenant}\t{nil}\t\t{}\t{}\t1\t{bucket}", one.cpu_milli, one.mem_mib)?;
    }
    let Conn::Pg(conn) = tx.conn() else { anyhow::bail!("COPY is PostgreSQL's") };
    conn.execute("CREATE TABLE IF NOT EXISTS raw_usage (LIKE usage_hour INCLUDING ALL)").await?;
    let begun = Instant::now();
    let mut copy = conn.copy_in_raw("COPY raw_usage FROM STDIN").await?;
    copy.send(text.as_bytes()).await?;
    copy.finish().await?;
    tx.commit().await?;
    Ok(begun.elapsed())
}
