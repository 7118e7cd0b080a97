//! Every statement of the crate: both databases prepare it, give it the same columns, and find its rows by an index.

use crate::harness;
use kubeop_store::statements::{self, Dialect};
use kubeop_store::{Conn, Options, Store};
use sqlx::{AssertSqlSafe, Executor, Row};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

#[tokio::test]
async fn both_databases_prepare_every_statement_with_equal_columns() {
    let folder = tempfile::tempdir().unwrap();
    let sqlite = Store::open(&harness::sqlite_url(folder.path()), Options::default()).await.unwrap();
    sqlite.migrate().await.unwrap();
    let on_sqlite = statements::prepare_all(&sqlite).await.unwrap();
    harness::postgres(|postgres| async move {
        let on_pg = statements::prepare_all(&postgres).await.unwrap();
        PG.set(on_pg).unwrap();
    })
    .await;
    let on_pg = PG.get().unwrap();
    let both: BTreeSet<&str> = statements::all().filter(|s| s.dialect == Dialect::Both).map(|s| s.sql).collect();
    assert!(both.len() > 100, "{} statements", both.len());
    for (place, columns) in on_sqlite.iter().filter(|((_, sql), _)| both.contains(sql)) {
        assert_eq!(Some(columns), on_pg.get(place), "{place:?}");
    }
}

static PG: std::sync::OnceLock<BTreeMap<(&str, &str), Vec<String>>> = std::sync::OnceLock::new();

/// Twins stand next to each other in `pick(sql!(pg: ...), sql!(sqlite: ...))` and must give the same columns too.
#[tokio::test]
async fn every_source_file_with_statements_is_registered() {
    let places: BTreeSet<String> =
        statements::all().filter_map(|s| s.at.split_once("src/").map(|(_, rest)| rest.to_owned())).collect();
    let mut files = Vec::new();
    walk(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut files);
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        let name = file.to_str().unwrap().split_once("/src/").unwrap().1.to_owned();
        // These two define the macros.
        if name == "statements.rs" || name == "page.rs" {
            continue;
        }
        // A text that does not go through the register would be missed by the test above.
        for wrong in ["query(\"", "query_as(\"", "query_scalar(\"", "AssertSqlSafe"] {
            assert!(!text.contains(wrong) || name == "migrations.rs", "{name} has {wrong}");
        }
        if text.contains("sql!(") {
            assert!(places.iter().any(|at| at.starts_with(&format!("{name}:"))), "{name} registers nothing");
        }
    }
}

fn walk(folder: &Path, files: &mut Vec<std::path::PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { walk(&path, files) } else { files.push(path) }
    }
}

/// Tables that hold a handful of rows, or whose rows a statement wants all; and the rows of a page, which are there already.
const SCANNED: &[&str] =
    &["encryption_seed", "cluster", "cluster_lease", "price", "sqlite_schema", "page", "audit_chain"];

#[tokio::test]
async fn sqlite_finds_the_rows_of_every_statement_by_an_index() {
    harness::sqlite(|store| async move {
        let mut read = store.read().await.unwrap();
        let mut bad = Vec::new();
        for stmt in statements::all().filter(|s| s.dialect != Dialect::Pg) {
            let Conn::Sqlite(c) = read.conn() else { unreachable!() };
            let explain = format!("EXPLAIN QUERY PLAN {}", stmt.sql);
            for row in c.fetch_all(AssertSqlSafe(explain)).await.unwrap() {
                let step: String = row.get("detail");
                let scanned = step.strip_prefix("SCAN ").map(|rest| rest.split(' ').next().unwrap().to_owned());
                let scans = scanned.is_some_and(|table| {
                    // json_each and VALUES are arguments; a covering index is what a count reads.
                    !SCANNED.contains(&table.as_str())
                        && !step.contains("VIRTUAL TABLE")
                        && !step.contains("CONSTANT ROW")
                        && !step.contains("COVERING INDEX")
                        // A partial index of just the rows that are wanted.
                        && !step.contains("USING INDEX audit_record_unsealed")
                        && !step.contains("USING INDEX event_delivery_give_up")
                        && !stmt.sql.starts_with("SELECT COUNT(*)")
                });
                let one = stmt.sql.contains("FROM project WHERE id = $5");
                let sorts = step.contains("TEMP B-TREE FOR ORDER BY") && stmt.sql.contains("LIMIT") && !one;
                // Bumping every object of a kind on all clusters is meant to touch most of the table.
                let meant = stmt.at.contains("cluster_object/mark.rs") && stmt.sql.starts_with("UPDATE");
                if (scans && !meant) || sorts {
                    bad.push(format!("{}: {step}: {}", stmt.at, stmt.sql));
                }
            }
        }
        assert!(bad.is_empty(), "{}", bad.join("\n"));
    })
    .await;
}

/// With the generic plan, which PostgreSQL may choose after a few executions, and a table that is worth an index.
#[tokio::test]
async fn postgres_reads_every_page_of_apps_and_projects_in_index_order() {
    harness::postgres(|store| async move {
        let mut tx = store.begin().await.unwrap();
        let Conn::Pg(c) = tx.conn() else { unreachable!() };
        for fill in [
            "SET LOCAL session_replication_role = replica",
            "INSERT INTO project SELECT gen_random_uuid(), gen_random_uuid(), md5((i % 3)::text)::uuid, 'p' || i % 100, 'n', NULL, '{}', \
             'baseline', '{}', 1, now() + i * interval '1 s', now(), NULL FROM generate_series(1, 5000) i",
            "INSERT INTO app SELECT md5((i % 50)::text)::uuid, gen_random_uuid(), md5((i % 500)::text)::uuid, md5((i % 3)::text)::uuid, \
             'a' || i, '{}', '{}', 1, now() + i * interval '1 s', now(), NULL FROM generate_series(1, 50000) i",
            "ANALYZE app",
            "ANALYZE project",
            "SET LOCAL plan_cache_mode = force_generic_plan",
        ] {
            c.execute(fill).await.unwrap();
        }
        let mut seen = 0;
        for stmt in statements::all().filter(|s| s.at.contains("app/list.rs") || s.at.contains("project/list.rs")) {
            c.execute(AssertSqlSafe(format!("PREPARE one AS {}", stmt.sql))).await.unwrap();
            let explain = "EXPLAIN (COSTS OFF) EXECUTE one(NULL, NULL, NULL, NULL, NULL, NULL, 100)";
            let lines: Vec<String> =
                c.fetch_all(AssertSqlSafe(explain)).await.unwrap().iter().map(|row| row.get(0)).collect();
            let plan = lines.join("\n");
            c.execute("DEALLOCATE one").await.unwrap();
            // By a name in one project there is at most one row, so a sort of it costs nothing.
            let single = stmt.sql.contains("WHERE project_id = $5 AND name") || stmt.sql.contains("WHERE id = $5");
            let single = single || stmt.sql.contains("FROM project WHERE tenant_id = $4 AND name");
            assert!(plan.contains("Index"), "{}\n{plan}", stmt.at);
            assert!(!plan.contains("Seq Scan"), "{}\n{plan}", stmt.at);
            assert!(single || !plan.contains("Sort"), "{} {}\n{plan}", stmt.at, stmt.sql);
            seen += 1;
        }
        assert!(seen >= 12);
        tx.rollback().await.unwrap();
    })
    .await;
}
