//! Figures, not tests: `cargo test --release -p kubeop-store figures -- --ignored --nocapture --test-threads 1`.

use crate::fixture::{add_tree, all, as_tenant, at, hour};
use crate::harness;
use crate::usage::sample;
use kubeop_store::usage::{self, Sample};
use kubeop_store::{Conn, Filter, Page, Store, app};
use sqlx::{AssertSqlSafe, Executor};
use std::fmt::Write;
use std::time::{Duration, Instant};

#[expect(clippy::cast_precision_loss, reason = "a figure to look at")]
fn rate(what: &str, rows: usize, took: Duration) {
    println!("{what}: {rows} rows in {took:?}: {:.0} rows/s", rows as f64 / took.as_secs_f64());
}

async fn put(store: &Store, what: &str, batch: &[Sample]) {
    let begun = Instant::now();
    let mut tx = store.begin().await.unwrap();
    let counts = usage::put(&mut tx, batch, at(0)).await.unwrap();
    tx.commit().await.unwrap();
    rate(&format!("{what} {counts:?}"), batch.len(), begun.elapsed());
}

async fn usage_figures(store: Store) {
    let hour_of = |hours: i64, tenants: u128| (0..tenants).map(move |n| sample(hours, n * 7919 % 100_003, 5));
    for round in 0..2 {
        let batch: Vec<Sample> = (0..20).flat_map(|hours| hour_of(round * 20 + hours, 5_000)).collect();
        put(&store, "new, 20 hours x 5,000 tenants", &batch).await;
        put(&store, "replay", &batch).await;
        let changed: Vec<Sample> = batch.into_iter().map(|one| Sample { cpu_milli: 6, ..one }).collect();
        put(&store, "all changed", &changed).await;
        let hourly: Vec<Sample> = hour_of(100 + round, 100_000).collect();
        put(&store, "new, one hour x 100,000 tenants", &hourly).await;
    }
    for hours in 0..744 {
        let batch: Vec<Sample> = hour_of(200 + hours, 1_000).collect();
        let mut tx = store.begin().await.unwrap();
        usage::put(&mut tx, &batch, at(0)).await.unwrap();
        tx.commit().await.unwrap();
    }
    let mut read = store.read().await.unwrap();
    let c = &mut read.conn();
    let month = (hour(200), hour(944));
    for _ in 0..2 {
        let begun = Instant::now();
        let sums = usage::sums(c, crate::usage::tenant(7919), month, &[hour(400)]).await.unwrap();
        println!("a tenant's month of 744,000 rows: {:?}, {} lines", begun.elapsed(), sums.len());
    }
    let page: Vec<_> = (0..100).map(|n| crate::usage::tenant(n * 7919 % 100_003)).collect();
    let begun = Instant::now();
    let totals = usage::totals(c, &page, month).await.unwrap();
    println!("a page of 100 tenants' months: {:?}, {} totals", begun.elapsed(), totals.len());
    let begun = Instant::now();
    usage::total(c, month).await.unwrap();
    println!("the month of all: {:?}", begun.elapsed());
}

/// The same rows by COPY into an equal table.
async fn copy_figures(store: Store) {
    let mut tx = store.begin().await.unwrap();
    let Conn::Pg(c) = tx.conn() else { unreachable!() };
    for round in 0..3 {
        c.execute("DROP TABLE IF EXISTS raw_usage").await.unwrap();
        c.execute("CREATE TABLE raw_usage (LIKE usage_hour INCLUDING ALL)").await.unwrap();
        let mut text = String::new();
        for hours in 0..20 {
            let mut hourly: Vec<Sample> = (0..5_000).map(|n| sample(hours, n * 7919 % 100_003, 5)).collect();
            hourly.sort_by_key(|one| one.tenant_id);
            for one in hourly {
                let nil = uuid::Uuid::nil();
                writeln!(text, "{}\t{}\t{nil}\t\t5\t10\t1\t{}", one.bucket, one.tenant_id, at(0)).unwrap();
            }
        }
        let begun = Instant::now();
        let mut copy = c.copy_in_raw("COPY raw_usage FROM STDIN").await.unwrap();
        copy.send(text.as_bytes()).await.unwrap();
        copy.finish().await.unwrap();
        rate(&format!("raw COPY, round {round}"), 100_000, begun.elapsed());
    }
}

async fn list_figures(store: Store) {
    let (_, tenants, _) = add_tree(&store, 100, 10).await;
    let mut tx = store.begin().await.unwrap();
    let begun = Instant::now();
    let columns = "(tenant_id, id, project_id, cluster_id, name, spec, labels, version, created_at, updated_at)";
    let fill = |id: &str, at: &str| {
        format!(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000) INSERT INTO app {columns} \
             SELECT tenant_id, {id}, id, cluster_id, 'app-' || n.i, '{{\"delivery\": {{\"image\": {{\"ref\": \"nginx\"}}}}}}', '{{}}', 1, \
             {at}, {at} FROM n CROSS JOIN project"
        )
    };
    match tx.conn() {
        Conn::Sqlite(c) => {
            c.execute(AssertSqlSafe(fill("randomblob(16)", "1772323200000000 + n.i * 1000000"))).await.map(|_| ())
        }
        Conn::Pg(c) => c
            .execute(AssertSqlSafe(
                String::from("SET LOCAL statement_timeout = 0; ")
                    + &fill("gen_random_uuid()", "'2026-03-01'::timestamptz + n.i * interval '1 s'"),
            ))
            .await
            .map(|_| ()),
    }
    .unwrap();
    tx.commit().await.unwrap();
    rate("filling with apps", 1_000_000, begun.elapsed());
    if store.is_shared() {
        let mut tx = store.begin().await.unwrap();
        let Conn::Pg(c) = tx.conn() else { unreachable!() };
        c.execute("ANALYZE").await.unwrap();
        tx.commit().await.unwrap();
    }
    let mut read = store.read().await.unwrap();
    let c = &mut read.conn();
    let tenant = tenants[50].id;
    for (what, scope, filter) in [
        ("all", all(), Filter::default()),
        ("of a tenant", as_tenant(tenant), Filter::default()),
        ("of a tenant by name", as_tenant(tenant), Filter { name: Some("app-77"), ..Filter::default() }),
        ("by name", all(), Filter { name: Some("app-77"), ..Filter::default() }),
    ] {
        for (place, after) in [
            ("first", None),
            ("middle", Some((at(500), uuid::Uuid::nil()))),
            ("last", Some((at(999), uuid::Uuid::nil()))),
        ] {
            let page = Page { after, limit: 100 };
            let mut times: Vec<Duration> = Vec::new();
            let mut rows = 0;
            for _ in 0..20 {
                let begun = Instant::now();
                rows = app::list(c, scope, &filter, &page).await.unwrap().len();
                times.push(begun.elapsed());
            }
            times.sort();
            println!("1,000,000 apps, {what}, {place} page: {rows} rows in {:?} (median of 20)", times[10]);
        }
    }
    let begun = Instant::now();
    app::count(c).await.unwrap();
    println!("counting 1,000,000 apps: {:?}", begun.elapsed());
}

#[tokio::test]
#[ignore = "figures"]
async fn usage_on_sqlite() {
    harness::sqlite(usage_figures).await;
}

#[tokio::test]
#[ignore = "figures"]
async fn usage_on_postgres() {
    harness::postgres(usage_figures).await;
}

#[tokio::test]
#[ignore = "figures"]
async fn usage_by_raw_copy() {
    harness::postgres(copy_figures).await;
}

#[tokio::test]
#[ignore = "figures"]
async fn lists_on_sqlite() {
    harness::sqlite(list_figures).await;
}

#[tokio::test]
#[ignore = "figures"]
async fn lists_on_postgres() {
    harness::postgres(list_figures).await;
}
