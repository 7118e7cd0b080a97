//! The store: opening either database by URL, migrating it, and handing out connections.
//!
//! Invariant: one process at a time writes a SQLite file, through one connection, but for the short transactions of a tool beside it
//! ([`Store::open_beside`]); PostgreSQL may be shared by any number.

use crate::conn::{QUICK, STATEMENT, answered, within};
use crate::migrations::{self, Schema};
use crate::sqlite_file::Held;
use crate::{Read, Result, StoreError, Tx};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{ConnectOptions, Connection, PgConnection, PgPool, SqlitePool, postgres as pg};
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

/// Prepared statements a connection keeps: more than the crate has.
const STATEMENTS: usize = 400;
/// A connection that was used more recently is handed out again without asking it whether it lives.
const FRESH: Duration = Duration::from_secs(1);

/// How many connections, and how long to wait for one.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Connections to PostgreSQL at most.
    pub pg_connections: u32,
    /// Readers of a SQLite file (there is always one writer).
    pub sqlite_readers: u32,
    /// How long a caller waits for a connection, or for another process that holds the SQLite file, before it is told that the database is
    /// not available.
    pub acquire_timeout: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self { pg_connections: 16, sqlite_readers: 4, acquire_timeout: Duration::from_secs(5) }
    }
}

/// The database; a clone is another handle to the same pools.
#[derive(Clone, Debug)]
pub struct Store {
    db: Db,
}

#[derive(Clone, Debug)]
enum Db {
    Sqlite { read: SqlitePool, write: SqlitePool, held: Option<Arc<Held>> },
    Pg { pool: PgPool, options: Box<pg::PgConnectOptions> },
}

impl Store {
    /// Opens `sqlite://PATH`, `sqlite:PATH` or `postgres://...`; a SQLite file and its folder are made if missing. Does not migrate.
    ///
    /// # Errors
    /// A sentence when the URL cannot be used or another process holds the SQLite file; `Unavailable` when PostgreSQL does not answer.
    pub async fn open(url: &str, options: Options) -> Result<Self> {
        if url.starts_with("postgres://") || url.starts_with("postgresql://") {
            Self::open_pg(url, options).await
        } else if let Some(path) = sqlite_path(url) {
            Self::open_sqlite(path, options).await
        } else {
            // Only the scheme is repeated: the rest may hold a password.
            let scheme = url.split_once(':').map_or("", |(scheme, _)| scheme);
            Err(StoreError::Url(format!(
                "the database URL begins with {:?}: sqlite://PATH or postgres://... is needed",
                kubeop_core::id::shorten(scheme)
            )))
        }
    }

    /// Opens a database that is there, for reading: a SQLite file beside the process that holds it too. What a process that was killed left in
    /// the write-ahead log is seen and stays there, so that the next one to open the file for writing knows how the last one ended.
    ///
    /// # Errors
    /// As [`Store::open`]; `Unavailable` when the SQLite file is not there.
    pub async fn open_to_read(url: &str, options: Options) -> Result<Self> {
        let Some(path) = sqlite_path(url) else { return Self::open(url, options).await };
        let connect = SqliteConnectOptions::new()
            .filename(path)
            .read_only(true)
            .busy_timeout(options.acquire_timeout)
            .pragma("trusted_schema", "off")
            .pragma("query_only", "on");
        let pool = SqlitePoolOptions::new()
            .max_connections(options.sqlite_readers)
            .acquire_timeout(options.acquire_timeout)
            .connect_with(connect)
            .await?;
        Ok(Self { db: Db::Sqlite { read: pool.clone(), write: pool, held: None } })
    }

    /// Whether there is a database to open: a SQLite file may not have been made yet.
    pub fn is_there(url: &str) -> bool {
        sqlite_path(url).is_none_or(|path| Path::new(path).exists())
    }

    /// Opens a database that is there, for writing: a SQLite file beside the process that holds it too. Neither knows of the other, so what is
    /// written must not depend on what only the other remembers; both wait for each other's transactions, which therefore have to be short.
    ///
    /// # Errors
    /// As [`Store::open`]; `Unavailable` when the SQLite file is not there.
    pub async fn open_beside(url: &str, options: Options) -> Result<Self> {
        let Some(path) = sqlite_path(url) else { return Self::open(url, options).await };
        let connect = SqliteConnectOptions::new()
            .filename(path)
            .foreign_keys(true)
            .synchronous(SqliteSynchronous::Full)
            // Longer than a manager takes for its longest transaction (a batch of usage).
            .busy_timeout(Duration::from_secs(30))
            .pragma("trusted_schema", "off");
        let write = SqlitePoolOptions::new()
            .max_connections(1)
            .acquire_timeout(options.acquire_timeout)
            .connect_with(connect.clone())
            .await?;
        let read = SqlitePoolOptions::new()
            .max_connections(options.sqlite_readers)
            .acquire_timeout(options.acquire_timeout)
            .connect_lazy_with(connect.pragma("query_only", "on"));
        Ok(Self { db: Db::Sqlite { read, write, held: None } })
    }

    async fn open_pg(url: &str, options: Options) -> Result<Self> {
        let parsed = pg::PgConnectOptions::from_str(url)
            .map_err(|_| StoreError::Url("the postgres:// database URL is malformed".to_owned()))?;
        let connect = parsed.clone().application_name("kubeop").statement_cache_capacity(STATEMENTS).options([
            ("statement_timeout", format!("{}s", STATEMENT.as_secs())),
            ("lock_timeout", "10s".to_owned()),
            ("idle_in_transaction_session_timeout", "60s".to_owned()),
            ("default_transaction_isolation", "read committed".to_owned()),
            // Compiling a plan takes longer than any of our statements.
            ("jit", "off".to_owned()),
        ]);
        let pool = pg::PgPoolOptions::new()
            .max_connections(options.pg_connections)
            .acquire_timeout(options.acquire_timeout)
            // The pool's own test has no limit, so that a silent server would keep its connections for ever.
            .test_before_acquire(false)
            .before_acquire(|conn, meta| {
                let fresh = meta.idle_for < FRESH;
                Box::pin(async move { if fresh { Ok(true) } else { lives(conn).await } })
            })
            .after_release(|conn, _| Box::pin(lives(conn)))
            .connect_with(connect)
            .await?;
        Ok(Self { db: Db::Pg { pool, options: Box::new(parsed.application_name("kubeop-migrate")) } })
    }

    async fn open_sqlite(path: &str, options: Options) -> Result<Self> {
        if path.is_empty() || path.starts_with(":memory:") || path.contains(['?', '#', '\0']) {
            return Err(StoreError::Url(format!(
                "{:?} is not a usable sqlite path: the path of a file without parameters is needed, as in sqlite:///var/lib/kubeop/kubeop.db",
                kubeop_core::id::shorten(path)
            )));
        }
        let path = Path::new(path);
        let held = Held::take(path).await?;
        let connect = SqliteConnectOptions::new()
            .filename(path)
            .foreign_keys(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(options.acquire_timeout)
            .pragma("trusted_schema", "off")
            .pragma("cache_size", "-65536")
            .statement_cache_capacity(STATEMENTS)
            .optimize_on_close(true, None);
        let write = SqlitePoolOptions::new()
            .max_connections(1)
            .acquire_timeout(options.acquire_timeout)
            .idle_timeout(None)
            .max_lifetime(None)
            .test_before_acquire(false)
            .connect_with(connect.clone())
            .await?;
        let read = SqlitePoolOptions::new()
            .max_connections(options.sqlite_readers)
            .acquire_timeout(options.acquire_timeout)
            .idle_timeout(None)
            .max_lifetime(None)
            .test_before_acquire(false)
            .connect_lazy_with(connect.optimize_on_close(false, None).pragma("query_only", "on"));
        Ok(Self { db: Db::Sqlite { read, write, held: Some(Arc::new(held)) } })
    }

    /// Brings the schema to this binary's version. Any number of processes may do so at once.
    ///
    /// # Errors
    /// A sentence when a newer kubeop migrated the database already.
    pub async fn migrate(&self) -> Result<()> {
        match &self.db {
            Db::Sqlite { write, .. } => migrations::run(&mut *write.acquire().await?, false).await,
            Db::Pg { options, .. } => {
                // Its own connection, without the pool's time-outs: it may wait for another replica's migration.
                let mut conn = options.connect().await?;
                let done = migrations::run(&mut conn, true).await;
                if let Err(error) = conn.close().await {
                    tracing::debug!(%error, "closing the migration's connection");
                }
                done
            }
        }
    }

    /// How the database's schema relates to this binary.
    pub async fn schema(&self) -> Result<Schema> {
        let found = match &self.db {
            Db::Sqlite { read, .. } => {
                let q = crate::sql!(sqlite: "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE name = '_sqlx_migrations') AS made");
                let mut conn = read.acquire().await?;
                let made: bool = sqlx::query_scalar(q).fetch_one(&mut *conn).await?;
                if made { migrations::applied(&mut *conn).await? } else { 0 }
            }
            Db::Pg { pool, .. } => {
                let q = crate::sql!(pg: "SELECT to_regclass('_sqlx_migrations') IS NOT NULL AS made");
                let mut conn = pool.acquire().await?;
                let made: bool = sqlx::query_scalar(q).fetch_one(&mut *conn).await?;
                if made { migrations::applied(&mut *conn).await? } else { 0 }
            }
        };
        Ok(Schema::of(found))
    }

    /// Whether the database answers.
    pub async fn ping(&self) -> Result<()> {
        let q = crate::sql!("SELECT 1 AS one");
        let mut read = self.read().await?;
        crate::conn::on!(&mut read.conn(), x => sqlx::query(q).execute(x).await.map(|_| ()))?;
        Ok(())
    }

    /// Opens a transaction that may write.
    pub async fn begin(&self) -> Result<Tx> {
        Ok(match &self.db {
            Db::Sqlite { write, held, .. } => {
                still_there(held.as_ref())?;
                Tx::Sqlite(write.begin_with("BEGIN IMMEDIATE").await?)
            }
            Db::Pg { pool, .. } => Tx::Pg(answered(pool.begin()).await?),
        })
    }

    /// A connection for reading.
    pub async fn read(&self) -> Result<Read> {
        Ok(match &self.db {
            Db::Sqlite { read, held, .. } => {
                still_there(held.as_ref())?;
                Read::Sqlite(read.acquire().await?)
            }
            Db::Pg { pool, .. } => Read::Pg(pool.acquire().await?),
        })
    }

    /// Whether it is PostgreSQL, which several processes may share.
    pub fn is_shared(&self) -> bool {
        matches!(self.db, Db::Pg { .. })
    }

    /// Waits for the connections to come back and closes them; then the SQLite file is whole without its write-ahead log, and free for another
    /// process once all clones are gone.
    pub async fn close(self) {
        match &self.db {
            Db::Sqlite { read, write, held } => {
                let closing = async {
                    if held.is_some()
                        && let Err(error) = empty_log(write).await
                    {
                        tracing::warn!(%error, "failed to bring the write-ahead log into the database");
                    }
                    write.close().await;
                };
                // A reader that does not come back keeps none of what was written out of the file.
                tokio::join!(read.close(), closing);
            }
            Db::Pg { pool, .. } => pool.close().await,
        }
    }
}

/// Brings all of the write-ahead log into the file.
async fn empty_log(write: &SqlitePool) -> sqlx::Result<()> {
    let q = crate::sql!(sqlite: "PRAGMA wal_checkpoint(TRUNCATE)");
    sqlx::query(q).execute(&mut *write.acquire().await?).await?;
    Ok(())
}

pub(crate) fn sqlite_path(url: &str) -> Option<&str> {
    url.strip_prefix("sqlite://").or_else(|| url.strip_prefix("sqlite:"))
}

fn still_there(held: Option<&Arc<Held>>) -> Result<()> {
    held.map_or(Ok(()), |held| held.still_there())
}

/// Whether a connection answers, and has nothing left to undo. An error has the pool drop it without a word to the server.
async fn lives(conn: &mut PgConnection) -> sqlx::Result<bool> {
    within(QUICK, conn.ping()).await.map(|()| true)
}
