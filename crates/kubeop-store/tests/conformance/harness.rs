//! A fresh database of each kind per test.
//!
//! Invariant: no test sees another's rows; PostgreSQL databases are dropped whether the test passes or not.

use kubeop_store::{Options, Store};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

/// Waits for a connection as long as a busy machine may need: what is tested here is not time.
fn patient() -> Options {
    Options { acquire_timeout: std::time::Duration::from_mins(2), ..Options::default() }
}

/// Defines tests that run on both databases: `both! { async fn name(store) { ... } }` makes `name::sqlite` and `name::postgres`.
macro_rules! both {
    ($($(#[$meta:meta])* async fn $name:ident($store:ident) $body:block)*) => {$(
        $(#[$meta])*
        mod $name {
            use super::*;

            async fn check($store: kubeop_store::Store) $body

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn sqlite() {
                crate::harness::sqlite(check).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn postgres() {
                crate::harness::postgres(check).await;
            }
        }
    )*};
}

/// Runs `check` on a new, migrated SQLite file.
pub(crate) async fn sqlite<F: Future<Output = ()> + Send + 'static>(check: impl FnOnce(Store) -> F) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&sqlite_url(folder.path()), patient()).await.unwrap();
    store.migrate().await.unwrap();
    let outcome = tokio::spawn(check(store.clone())).await;
    store.close().await;
    finish(outcome);
}

/// The URL of a database in a folder.
pub(crate) fn sqlite_url(folder: &Path) -> String {
    format!("sqlite://{}/kubeop.db", folder.display())
}

/// Runs `check` on a new, migrated PostgreSQL database.
pub(crate) async fn postgres<F: Future<Output = ()> + Send + 'static>(check: impl FnOnce(Store) -> F) {
    let database = PgDatabase::create(Some(&migrated().await)).await;
    let store = Store::open(&database.url, patient()).await.unwrap();
    let outcome = tokio::spawn(check(store.clone())).await;
    store.close().await;
    database.drop().await;
    finish(outcome);
}

fn finish(outcome: Result<(), tokio::task::JoinError>) {
    if let Err(error) = outcome {
        std::panic::resume_unwind(error.into_panic());
    }
}

/// The server the tests use.
fn server_url() -> String {
    #[expect(clippy::disallowed_methods, reason = "tests are told the server by the environment")]
    let url = std::env::var("KUBEOP_TEST_POSTGRES_URL");
    url.unwrap_or_else(|_| panic!("KUBEOP_TEST_POSTGRES_URL is not set: run cargo xtask test"))
}

/// A connection to the server's own database.
pub(crate) async fn admin() -> PgConnection {
    PgConnection::connect(&server_url()).await.expect("the PostgreSQL of KUBEOP_TEST_POSTGRES_URL does not answer")
}

pub(crate) async fn execute(conn: &mut PgConnection, sql: String) {
    conn.execute(AssertSqlSafe(sql)).await.unwrap();
}

/// A database of a test's own.
pub(crate) struct PgDatabase {
    name: String,
    pub(crate) url: String,
}

impl PgDatabase {
    /// A copy of `template`, or an empty one.
    pub(crate) async fn create(template: Option<&str>) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("kubeop_store_{}_{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let mut admin = admin().await;
        execute(&mut admin, format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)")).await;
        execute(&mut admin, format!("CREATE DATABASE {name} TEMPLATE {}", template.unwrap_or("template0"))).await;
        Self { url: url_of(&name), name }
    }

    pub(crate) async fn drop(self) {
        execute(&mut admin().await, format!("DROP DATABASE {} WITH (FORCE)", self.name)).await;
    }
}

/// The server's URL with another database.
fn url_of(database: &str) -> String {
    let server = server_url();
    let (base, query) = server.split_once('?').map_or((server.as_str(), ""), |(base, query)| (base, query));
    let (scheme, rest) = base.split_once("://").expect("KUBEOP_TEST_POSTGRES_URL is not a URL");
    let authority = rest.split('/').next().unwrap_or(rest);
    let query = if query.is_empty() { String::new() } else { format!("?{query}") };
    format!("{scheme}://{authority}/{database}{query}")
}

/// The name of a migrated database to copy. It is made once per state of the migrations and stays for the next run.
pub(crate) async fn migrated() -> String {
    // Of what is compiled in, not of the files: those may change between a build and its run.
    let name = format!("kubeop_template_{}", kubeop_store::schema_fingerprint(true).unwrap());
    let mut admin = admin().await;
    // One process makes it, the others wait here; the lock goes with the connection.
    admin.execute("SELECT pg_advisory_lock(7462001)").await.unwrap();
    let made: bool = sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM pg_database WHERE datname = $1)")
        .bind(&name)
        .fetch_one(&mut admin)
        .await
        .unwrap();
    if !made {
        let half = format!("{name}_half");
        execute(&mut admin, format!("DROP DATABASE IF EXISTS {half} WITH (FORCE)")).await;
        execute(&mut admin, format!("CREATE DATABASE {half} TEMPLATE template0")).await;
        let store = Store::open(&url_of(&half), Options::default()).await.unwrap();
        store.migrate().await.unwrap();
        store.close().await;
        execute(&mut admin, format!("ALTER DATABASE {half} RENAME TO {name}")).await;
    }
    admin.close().await.unwrap();
    name
}
