//! The store: opening either database by URL, migrating it, and handing out connections.
//!
//! Invariant: one process at a time writes a SQLite file, through one connection, but for the short transactions of a tool beside it
//! ([`Store::open_beside`]); PostgreSQL may be shared by any number.

use crate::migrations::{self, Schema};
use crate::{Read, Result, StoreError, Tx};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{ConnectOptions, Connection, PgPool, SqlitePool, postgres as pg};
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

/// Prepared statements a connection keeps: more than the crate has.
const STATEMENTS: usize = 400;

/// How many connections, and how long to wait for one.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Connections to PostgreSQL at most.
    pub pg_connections: u32,
    /// Readers of a SQLite file (there is always one writer).
    pub sqlite_readers: u32,
    /// How long a caller waits for a connection before it is told that the database is not available.
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
    Sqlite { read: SqlitePool, write: SqlitePool, _lock: Option<Arc<File>> },
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

    /// Opens a database that is there, for reading: a SQLite file beside the process that holds it too.
    ///
    /// # Errors
    /// As [`Store::open`]; `Unavailable` when the SQLite file is not there.
    pub async fn open_to_read(url: &str, options: Options) -> Result<Self> {
        let Some(path) = sqlite_path(url) else { return Self::open(url, options).await };
        let connect = SqliteConnectOptions::new()
            .filename(path)
            .busy_timeout(Duration::from_secs(5))
            .pragma("trusted_schema", "off")
            .pragma("query_only", "on");
        let pool = SqlitePoolOptions::new()
            .max_connections(options.sqlite_readers)
            .acquire_timeout(options.acquire_timeout)
            .connect_with(connect)
            .await?;
        Ok(Self { db: Db::Sqlite { read: pool.clone(), write: pool, _lock: None } })
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
        Ok(Self { db: Db::Sqlite { read, write, _lock: None } })
    }

    async fn open_pg(url: &str, options: Options) -> Result<Self> {
        let parsed = pg::PgConnectOptions::from_str(url)
            .map_err(|_| StoreError::Url("the postgres:// database URL is malformed".to_owned()))?;
        let connect = parsed.clone().application_name("kubeop").statement_cache_capacity(STATEMENTS).options([
            ("statement_timeout", "30s"),
            ("lock_timeout", "10s"),
            ("idle_in_transaction_session_timeout", "60s"),
            ("default_transaction_isolation", "read committed"),
            // Compiling a plan takes longer than any of our statements.
            ("jit", "off"),
        ]);
        let pool = pg::PgPoolOptions::new()
            .max_connections(options.pg_connections)
            .acquire_timeout(options.acquire_timeout)
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
        make_folder(path)?;
        let lock = lock_file(path)?;
        make_private(path)?;
        let connect = SqliteConnectOptions::new()
            .filename(path)
            .foreign_keys(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(Duration::from_secs(5))
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
        Ok(Self { db: Db::Sqlite { read, write, _lock: Some(Arc::new(lock)) } })
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
            Db::Sqlite { write, .. } => Tx::Sqlite(write.begin_with("BEGIN IMMEDIATE").await?),
            Db::Pg { pool, .. } => Tx::Pg(pool.begin().await?),
        })
    }

    /// A connection for reading.
    pub async fn read(&self) -> Result<Read> {
        Ok(match &self.db {
            Db::Sqlite { read, .. } => Read::Sqlite(read.acquire().await?),
            Db::Pg { pool, .. } => Read::Pg(pool.acquire().await?),
        })
    }

    /// Whether it is PostgreSQL, which several processes may share.
    pub fn is_shared(&self) -> bool {
        matches!(self.db, Db::Pg { .. })
    }

    /// Waits for the connections to come back and closes them; then the SQLite file is free for another process once all clones are gone.
    pub async fn close(self) {
        match &self.db {
            Db::Sqlite { read, write, .. } => {
                read.close().await;
                write.close().await;
            }
            Db::Pg { pool, .. } => pool.close().await,
        }
    }
}

fn sqlite_path(url: &str) -> Option<&str> {
    url.strip_prefix("sqlite://").or_else(|| url.strip_prefix("sqlite:"))
}

fn make_folder(database: &Path) -> Result<()> {
    let Some(folder) = database.parent().filter(|folder| !folder.as_os_str().is_empty()) else { return Ok(()) };
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder
        .create(folder)
        .map_err(|cause| StoreError::File { what: format!("cannot make the folder {}", folder.display()), cause })
}

/// Makes the database's file, readable by its owner only (SQLite gives the files beside it the same mode).
fn make_private(database: &Path) -> Result<()> {
    open_private(database)
        .map(|_| ())
        .map_err(|cause| StoreError::File { what: format!("cannot open the database {}", database.display()), cause })
}

/// Takes `<database>.lock` for as long as the file stays open. SQLite itself would let two processes write in turn, each with its own
/// idea of who serves which cluster.
fn lock_file(database: &Path) -> Result<File> {
    let mut path = database.as_os_str().to_owned();
    path.push(".lock");
    let path = PathBuf::from(path);
    let fail = |cause| StoreError::File { what: format!("cannot lock {}", path.display()), cause };
    let file = open_private(&path).map_err(fail)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(StoreError::Refused(format!(
            "the database {} is in use by another kubeop process: stop that one, or use PostgreSQL to run several",
            database.display()
        ))),
        Err(TryLockError::Error(cause)) => Err(fail(cause)),
    }
}

fn open_private(path: &Path) -> std::io::Result<File> {
    let mut options = File::options();
    options.create(true).truncate(false).write(true).read(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}
