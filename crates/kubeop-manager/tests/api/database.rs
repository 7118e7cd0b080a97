//! A fresh database of each kind per test, and a way behind the store's back.
//!
//! Invariant: no test sees another's rows; PostgreSQL databases are dropped whether the test passes or not.

use crate::pg_proxy::PgProxy;
use kubeop_store::{Conn, Options, Store, Tx};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

fn patient() -> Options {
    Options { acquire_timeout: Duration::from_mins(2), ..Options::default() }
}

fn finish(outcome: Result<(), tokio::task::JoinError>) {
    if let Err(error) = outcome {
        std::panic::resume_unwind(error.into_panic());
    }
}

/// Runs `check` on a new, migrated SQLite file.
pub(crate) async fn sqlite<F: Future<Output = ()> + Send + 'static>(check: impl FnOnce(Store) -> F) {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}/kubeop.db", folder.path().display());
    let store = Store::open(&url, patient()).await.unwrap();
    store.migrate().await.unwrap();
    finish(tokio::spawn(check(store)).await);
}

/// Runs `check` on a new, migrated PostgreSQL database.
pub(crate) async fn postgres<F: Future<Output = ()> + Send + 'static>(check: impl FnOnce(Store) -> F) {
    at_postgres(async |url| {
        let store = Store::open(&url, Options { pg_connections: 8, ..patient() }).await.unwrap();
        store.migrate().await.unwrap();
        tokio::spawn(check(store)).await
    })
    .await;
}

/// The same by way of a proxy, with little patience for connections.
pub(crate) async fn proxied<F: Future<Output = ()> + Send + 'static>(check: impl FnOnce(Store, Arc<PgProxy>) -> F) {
    at_postgres(async |url| {
        let proxy = Arc::new(PgProxy::before(&url).await);
        let options = Options { pg_connections: 4, acquire_timeout: Duration::from_millis(700), ..Options::default() };
        let store = Store::open(&proxy.url, options).await.unwrap();
        store.migrate().await.unwrap();
        tokio::spawn(check(store, proxy)).await
    })
    .await;
}

async fn at_postgres(check: impl AsyncFnOnce(String) -> Result<(), tokio::task::JoinError>) {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    #[expect(clippy::disallowed_methods, reason = "tests are told the server by the environment")]
    let server = std::env::var("KUBEOP_TEST_POSTGRES_URL")
        .unwrap_or_else(|_| panic!("KUBEOP_TEST_POSTGRES_URL is not set: run cargo xtask test"));
    let name = format!("kubeop_manager_{}_{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
    let (base, query) = server.split_once('?').map_or((server.as_str(), None), |(base, query)| (base, Some(query)));
    let (scheme, rest) = base.split_once("://").unwrap();
    let authority = rest.split('/').next().unwrap();
    let url = format!("{scheme}://{authority}/{name}{}", query.map(|q| format!("?{q}")).unwrap_or_default());
    on_server(&server, format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)")).await;
    on_server(&server, format!("CREATE DATABASE {name} TEMPLATE template0")).await;
    let outcome = check(url).await;
    on_server(&server, format!("DROP DATABASE {name} WITH (FORCE)")).await;
    finish(outcome);
}

async fn on_server(server: &str, sql: String) {
    let mut conn = PgConnection::connect(server).await.unwrap();
    conn.execute(AssertSqlSafe(sql)).await.unwrap();
}

/// Does what somebody with the database's password could do.
pub(crate) async fn behind_the_back(store: &Store, sql: &str) -> u64 {
    let mut tx: Tx = store.begin().await.unwrap();
    let sql = AssertSqlSafe(sql.to_owned());
    let done = match tx.conn() {
        Conn::Sqlite(c) => c.execute(sql).await.unwrap().rows_affected(),
        Conn::Pg(c) => c.execute(sql).await.unwrap().rows_affected(),
    };
    tx.commit().await.unwrap();
    done
}

/// Every row of every table as text, by table; bytes are in hexadecimal digits.
pub(crate) async fn dump(store: &Store) -> BTreeMap<String, Vec<String>> {
    let mut tx: Tx = store.begin().await.unwrap();
    let mut all = BTreeMap::new();
    match tx.conn() {
        Conn::Sqlite(c) => {
            let tables = "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'";
            let tables: Vec<String> = sqlx::query_scalar(tables).fetch_all(&mut *c).await.unwrap();
            for table in tables {
                let columns = AssertSqlSafe(format!("SELECT name FROM pragma_table_info('{table}')"));
                let columns: Vec<String> = sqlx::query_scalar(columns).fetch_all(&mut *c).await.unwrap();
                let quoted: Vec<String> = columns.iter().map(|column| format!("quote(\"{column}\")")).collect();
                let rows =
                    AssertSqlSafe(format!("SELECT {} AS line FROM {table} ORDER BY line", quoted.join(" || '|' || ")));
                all.insert(table, sqlx::query_scalar(rows).fetch_all(&mut *c).await.unwrap());
            }
        }
        Conn::Pg(c) => {
            let tables = "SELECT table_name::text FROM information_schema.tables WHERE table_schema = 'public'";
            let tables: Vec<String> = sqlx::query_scalar(tables).fetch_all(&mut *c).await.unwrap();
            for table in tables {
                let rows = AssertSqlSafe(format!("SELECT t::text AS line FROM {table} AS t ORDER BY line"));
                all.insert(table, sqlx::query_scalar(rows).fetch_all(&mut *c).await.unwrap());
            }
        }
    }
    tx.rollback().await.unwrap();
    assert!(all.len() > 20, "{} tables", all.len());
    all
}

/// A literal of bytes.
pub(crate) fn bytes(store: &Store, bytes: &[u8]) -> String {
    let digits = kubeop_core::hex::encode(bytes);
    if store.is_shared() { format!("'\\x{digits}'::bytea") } else { format!("x'{digits}'") }
}

/// A literal of an id.
pub(crate) fn id(store: &Store, id: uuid::Uuid) -> String {
    if store.is_shared() { format!("'{id}'") } else { format!("x'{}'", id.simple()) }
}
