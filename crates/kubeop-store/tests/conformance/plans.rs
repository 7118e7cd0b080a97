//! How PostgreSQL finds the rows of every statement of the crate, in tables that are worth an index: each by an index, but for a list of
//! exceptions that names a reason for each and can only shrink. (SQLite's twin is in `statements.rs`.)

use crate::harness;
use kubeop_store::Conn;
use kubeop_store::statements::{self, Dialect};
use sqlx::{AssertSqlSafe, Executor, Row};
use std::collections::BTreeSet;

/// Tables that hold a handful of rows, whatever the size of the installation, so that reading all of them is the fastest way; or of which a
/// statement wants every row.
const SMALL: &[(&str, &str)] = &[
    ("_sqlx_migrations", "a row per migration"),
    ("cluster", "a row per cluster"),
    ("cluster_lease", "a row per cluster"),
    ("encryption_seed", "a row per rotation of the master key"),
    ("invoice_counter", "one row"),
    ("meta", "a row per setting"),
    ("platform_policy", "one row"),
    ("price", "a row per change of a rate"),
];

/// Statements, by a part of their text, that read a whole table, and why.
const EXCEPTIONS: &[(&str, &str)] = &[
    ("SELECT COUNT(*) AS n FROM project", "a figure of the platform: counts all rows, by whatever is smallest"),
    (
        "SELECT COUNT(*) AS n FROM tenant WHERE deleted_at",
        "a figure of the platform: counts all rows, by whatever is smallest",
    ),
    ("SELECT COUNT(*) AS n FROM app", "a figure of the platform: counts all rows, by whatever is smallest"),
    (
        "SELECT COUNT(*) AS n FROM event_delivery WHERE dead_at IS NULL",
        "a figure of the platform: how many events wait, of a queue that is short",
    ),
    ("SELECT COUNT(*) AS n FROM audit_chain", "`kubeop audit verify` reads every chain anyway"),
    (
        "FROM cluster_object WHERE kind = $1 AND (cluster_id = $2 OR $2 IS NULL)",
        "marking a whole kind, as a change of policy does, touches most rows of it",
    ),
];

/// Ids of fixed numbers of parents, so that an index is worth its while.
const FILL: &[&str] = &[
    "SET LOCAL session_replication_role = replica",
    "SET LOCAL statement_timeout = 0",
    "INSERT INTO cluster (id, name, labels, server, cluster_uid, auto_bootstrap, install_admission, with_mocks, version, bootstrap_state, \
     created_at, updated_at) SELECT md5('c' || i)::uuid, 'c' || i, '{}', 's', 'u' || i, true, true, true, 1, 'done', now(), now() \
     FROM generate_series(1, 20) i",
    "INSERT INTO tenant (id, cluster_id, name, quotas, labels, version, created_at, updated_at) \
     SELECT md5('t' || i)::uuid, md5('c' || i % 20)::uuid, 't' || i, '{}', '{}', 1, now() + i * interval '1 s', now() \
     FROM generate_series(1, 5000) i",
    "INSERT INTO project (tenant_id, id, cluster_id, name, namespace, granted, pod_security, labels, version, created_at, updated_at) \
     SELECT md5('t' || i % 5000)::uuid, md5('p' || i)::uuid, md5('c' || i % 20)::uuid, 'p' || (i / 5000) * 100 + i % 100, 'n' || i, '{}', 'baseline', '{}', 1, \
     now() + i * interval '1 s', now() FROM generate_series(1, 15000) i",
    "INSERT INTO app (tenant_id, id, project_id, cluster_id, name, spec, labels, version, created_at, updated_at) \
     SELECT md5('t' || i % 5000)::uuid, md5('a' || i)::uuid, md5('p' || i % 15000)::uuid, md5('c' || i % 20)::uuid, 'a' || (i / 15000) * 1000 + i % 1000, '{}', '{}', \
     1, now() + i * interval '1 s', now() FROM generate_series(1, 30000) i",
    "INSERT INTO namespace_claim SELECT cluster_id, namespace, tenant_id, id FROM project",
    "INSERT INTO host_claim SELECT name || id || '.example', tenant_id, project_id, id FROM app",
    "INSERT INTO cluster_object (cluster_id, kind, entity_id, name, namespace, wanted, applied, deleted, attempted, attempts, \
     next_attempt_at, changed_at) SELECT cluster_id, 'app', id, name, 'n', 2, 1 + (random() > 0.01)::int, FALSE, TRUE, 0, created_at, created_at \
     FROM app UNION ALL SELECT cluster_id, 'project', id, name, NULL, 2, 2, FALSE, TRUE, 0, created_at, created_at FROM project",
    "INSERT INTO cluster_observed SELECT cluster_id, kind, entity_id, '{}', 'u', now() FROM cluster_object",
    "INSERT INTO issued_kubeconfig (tenant_id, id, project_id, cluster_id, role, secret_name, secret_uid, service_account, subject, created_at, \
     expires_at, collect_at) SELECT tenant_id, id, project_id, cluster_id, 'viewer', 's', 'u', 'a', 'x', created_at, created_at, created_at FROM app",
    "INSERT INTO issued_token (jti, role, subject, created_at, expires_at, revoked_at) SELECT i::text, 'admin', 's', now(), \
     now() + i * interval '1 s', CASE WHEN i % 50 = 0 THEN now() END FROM generate_series(1, 20000) i",
    "INSERT INTO usage_hour SELECT now() + (i / 2000) * interval '1 h', md5('t' || i % 2000)::uuid, \
     '00000000-0000-0000-0000-000000000000', '', 1, 1, 1, now() FROM generate_series(1, 40000) i",
    "INSERT INTO audit_record (tenant_id, id, at, subject, role, action, object_kind, object_id, outcome, request_id, detail, seq, hash) \
     SELECT md5('t' || i % 5000)::uuid, gen_random_uuid(), now() + i * interval '1 s', 's', 'admin', 'create', 'app', i::text, 'done', 'r', '', \
     CASE WHEN i < 29900 THEN i END, CASE WHEN i < 29900 THEN '\\x00'::bytea END FROM generate_series(1, 30000) i",
    "INSERT INTO audit_chain (tenant_id, seq, hash, chains, mac, sealed_at) SELECT id, 1, '\\x00', 0, '\\x00', now() FROM tenant",
    "INSERT INTO idempotency_key (digest, request, owner, claimed_until, expires_at) SELECT sha256(i::text::bytea), '\\x00', gen_random_uuid(), \
     now(), now() + i * interval '1 s' FROM generate_series(1, 20000) i",
    "INSERT INTO billing_month SELECT md5('t' || i % 500)::uuid, '2026-01-01'::timestamptz + (i / 500) * interval '31 d', i < 19000, 0, 0 \
     FROM generate_series(1, 20000) i",
    "INSERT INTO invoice SELECT md5('t' || i % 500)::uuid, '2026-01-01'::timestamptz + (i / 500) * interval '31 d', \
     gen_random_uuid(), i, 't', 'USD', 2, 0, 0, 0, now() + i * interval '1 s' FROM generate_series(1, 20000) i",
    "INSERT INTO event_delivery (id, hook, event_id, event_type, subject, tenant_id, data, occurred_at, give_up_at, next_at, claimed_by, attempts, \
     dead_at) SELECT gen_random_uuid(), 'events', gen_random_uuid(), 'app.created', 's' || i, md5('t' || i % 5000)::uuid, '{}', now(), \
     now() + i * interval '1 s', now() + i * interval '1 s', CASE WHEN i % 500 = 0 THEN gen_random_uuid() END, 0, \
     CASE WHEN i % 50 = 1 THEN now() + i * interval '1 s' END FROM generate_series(1, 20000) i",
    "INSERT INTO invoice_line SELECT tenant_id, month, 1, month, 'cpu_milli', 'CPU', 'u', gen_random_uuid(), 1, 1, 1 FROM invoice",
    "ANALYZE",
];

#[tokio::test]
async fn postgres_finds_the_rows_of_every_statement_by_an_index() {
    harness::postgres(|store| async move {
        let mut tx = store.begin().await.unwrap();
        let Conn::Pg(c) = tx.conn() else { unreachable!() };
        for fill in FILL {
            c.execute(*fill).await.unwrap_or_else(|error| panic!("{fill}: {error}"));
        }
        let (mut bad, mut excused, mut seen) = (Vec::new(), BTreeSet::new(), 0);
        for stmt in statements::all().filter(|stmt| stmt.dialect != Dialect::Sqlite && !stmt.sql.starts_with("COPY")) {
            // The plan that is kept for a prepared statement, whatever it is bound to.
            let explain = format!("EXPLAIN (GENERIC_PLAN, COSTS OFF) {}", stmt.sql);
            let lines =
                c.fetch_all(AssertSqlSafe(explain)).await.unwrap_or_else(|error| panic!("{}: {error}", stmt.at));
            let plan: Vec<String> = lines.iter().map(|row| row.get(0)).collect();
            seen += 1;
            let scanned: Vec<&String> = plan.iter().filter(|line| reads_all(line)).collect();
            if scanned.is_empty() {
                continue;
            }
            match EXCEPTIONS.iter().find(|(part, _)| stmt.sql.contains(part)) {
                Some((part, _)) => drop(excused.insert(*part)),
                None => bad.push(format!("{}: {}\n{}", stmt.at, stmt.sql, plan.join("\n"))),
            }
        }
        assert!(bad.is_empty(), "{} statements read a whole table:\n{}", bad.len(), bad.join("\n\n"));
        for (part, reason) in EXCEPTIONS {
            assert!(excused.contains(part), "no exception is needed any more ({reason}): {part}");
        }
        assert!(seen > 100, "{seen}");
        tx.rollback().await.unwrap();
    })
    .await;
}

/// Whether a line of a plan reads every row of a table that grows.
fn reads_all(line: &str) -> bool {
    let Some((_, rest)) = line.split_once("Seq Scan on ") else { return false };
    let table = rest.split_whitespace().next().unwrap_or_default();
    !SMALL.iter().any(|(small, _)| *small == table)
}

#[test]
fn a_scan_of_a_growing_table_is_seen() {
    assert!(reads_all("  ->  Seq Scan on app a"));
    assert!(reads_all("Parallel Seq Scan on app"));
    assert!(!reads_all("Seq Scan on cluster") && !reads_all("Index Scan using app_page on app"));
}
