//! Pages of a short and of a long list, and the manager's memory beside the long one.

use crate::figures::{Times, line, mib, ms};
use crate::home::Home;
use anyhow::{Context, Result};
use e2e::api::Api;
use kubeop_store::{Conn, Store};
use sqlx::{AssertSqlSafe, Executor};
use std::time::Instant;

/// The short list: an app for each project there is.
pub(crate) const FEW: usize = 1000;
/// Rows of a page.
const PAGE: usize = 100;

pub(crate) async fn measure(home: &mut Home, many: usize) -> Result<()> {
    let mut found = Vec::new();
    for count in [FEW, many] {
        let store = home.take().await?;
        fill(&store, (count / FEW - found.len()).max(1)).await?;
        home.give_back(store).await?;
        let (started, _) = home.kubeop.process().memory()?;
        let api = home.api()?;
        let first = pages(&api, "").await?;
        let project = home.projects.first().context("a project")?;
        let filtered = pages(&api, &format!("&tenant_id={}", project.tenant_id)).await?;
        let deep = deep(&api, count.min(100_000)).await?;
        let (now, most) = home.kubeop.process().memory()?;
        line(&format!("{count} apps: first page of {PAGE}"), &first);
        line(&format!("{count} apps: first page of one tenant's"), &filtered);
        line(&format!("{count} apps: pages {} rows in", count.min(100_000)), &deep);
        line(
            &format!("{count} apps: memory at start, after, at most"),
            format!("{}, {}, {}", mib(started), mib(now), mib(most)),
        );
        found.push(first);
    }
    if let [few, many] = &found[..] {
        let ratio = many.median().as_secs_f64() / few.median().as_secs_f64();
        line(
            "a page of the long list against one of the short",
            format!("{ratio:.2} x ({} against {})", ms(many.median()), ms(few.median())),
        );
    }
    Ok(())
}

/// The same page many times.
async fn pages(api: &Api, filter: &str) -> Result<Times> {
    let mut times = Vec::new();
    for _ in 0..100 {
        let begun = Instant::now();
        api.get(&format!("/v1/apps?limit={PAGE}{filter}")).await?.expect(200)?;
        times.push(begun.elapsed());
    }
    Ok(Times::new(times))
}

/// Walks `rows` rows in large pages, then measures pages from there on.
async fn deep(api: &Api, rows: usize) -> Result<Times> {
    let mut path = "/v1/apps?limit=1000".to_owned();
    for _ in 0..(rows / 1000).saturating_sub(1) {
        path = next(api, &path).await?.context("the list ended early")?;
    }
    let path = path.replace("limit=1000", &format!("limit={PAGE}"));
    let mut times = Vec::new();
    for _ in 0..100 {
        let begun = Instant::now();
        api.get(&path).await?.expect(200)?;
        times.push(begun.elapsed());
    }
    Ok(Times::new(times))
}

async fn next(api: &Api, path: &str) -> Result<Option<String>> {
    let answer = api.get(path).await?.expect(200)?;
    let link = answer.header("link").and_then(|link| link.strip_prefix('<')).and_then(|link| link.split('>').next());
    Ok(link.map(ToOwned::to_owned))
}

/// Gives every project this many apps more, with their rows for the sync, without going through the API.
async fn fill(store: &Store, apps: usize) -> Result<()> {
    let begun = Instant::now();
    let text = |id: &str, at: &str, now: &str| {
        format!(
            "INSERT INTO app (tenant_id, id, project_id, cluster_id, name, spec, labels, version, created_at, updated_at) \
             WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {apps}) \
             SELECT tenant_id, {id}, id, cluster_id, 'fill-{apps}-' || n.i, \
             '{{\"delivery\": {{\"image\": {{\"ref\": \"docker.io/library/nginx:1.25\"}}}}}}', '{{}}', 1, {at}, {at} \
             FROM n CROSS JOIN project; \
             INSERT INTO cluster_object (cluster_id, kind, entity_id, name, namespace, wanted, applied, deleted, attempted, attempts, \
             next_attempt_at, changed_at) SELECT cluster_id, 'app', id, name, 'n', 1, 1, FALSE, TRUE, 0, {now}, {now} FROM app \
             WHERE name LIKE 'fill-{apps}-%'"
        )
    };
    let mut tx = store.begin().await?;
    match tx.conn() {
        Conn::Sqlite(conn) => {
            let text = text("randomblob(16)", "1772323200000000 + n.i * 1000000", "1772323200000000");
            conn.execute(AssertSqlSafe(text)).await?;
        }
        Conn::Pg(conn) => {
            conn.execute("SET LOCAL statement_timeout = 0").await?;
            let at = "'2026-03-01'::timestamptz + n.i * interval '1 s'";
            let text = text("gen_random_uuid()", at, "'2026-03-01'::timestamptz");
            // One statement at a time: two in one text would be one transaction all the same, but hold the first's results.
            for one in text.split("; ") {
                conn.execute(AssertSqlSafe(one.to_owned())).await?;
            }
        }
    }
    tx.commit().await?;
    if store.is_shared() {
        let mut read = store.read().await?;
        if let Conn::Pg(conn) = read.conn() {
            conn.execute("SET statement_timeout = 0").await?;
            conn.execute("ANALYZE").await?;
        }
    }
    eprintln!("filled with {apps} apps a project in {:?}", begun.elapsed());
    Ok(())
}
