//! A transaction, a reading connection, and the borrowed connection every repository function takes.
//!
//! Invariant: dropping a [`Tx`] without [`Tx::commit`] leaves nothing behind; nothing waits for a PostgreSQL that fell silent for longer than
//! [`ANSWER`].

use crate::{Result, StoreError};
use sqlx::pool::PoolConnection;
use sqlx::{PgConnection, Postgres, Sqlite, SqliteConnection, Transaction};
use std::time::Duration;
use tokio::time::timeout;

/// How long one statement may take before PostgreSQL ends it.
pub(crate) const STATEMENT: Duration = Duration::from_secs(15);
/// How long its answer is waited for: where packets vanish, PostgreSQL ends nothing and TCP tells nobody for a quarter of an hour.
pub(crate) const ANSWER: Duration = Duration::from_secs(17);
/// The same for a statement that has nothing to do.
pub(crate) const QUICK: Duration = Duration::from_secs(3);

/// The outcome of a statement that was sent to PostgreSQL. Given up, it leaves its connection in a state that the pool does not keep.
///
/// # Errors
/// The statement's own; `Io` when no answer came within [`ANSWER`].
pub(crate) async fn answered<T>(statement: impl Future<Output = sqlx::Result<T>>) -> sqlx::Result<T> {
    within(ANSWER, statement).await
}

/// The same with another limit.
pub(crate) async fn within<T>(limit: Duration, statement: impl Future<Output = sqlx::Result<T>>) -> sqlx::Result<T> {
    timeout(limit, statement).await.unwrap_or_else(|_| {
        let silent = format!("no answer within {} s", limit.as_secs());
        Err(sqlx::Error::Io(std::io::Error::new(std::io::ErrorKind::TimedOut, silent)))
    })
}

/// An open transaction. On SQLite it is the only writer until it ends: no waiting for anything outside the database while one is open.
#[derive(Debug)]
pub enum Tx {
    /// On SQLite, begun with `BEGIN IMMEDIATE`.
    Sqlite(Transaction<'static, Sqlite>),
    /// On PostgreSQL, READ COMMITTED.
    Pg(Transaction<'static, Postgres>),
}

impl Tx {
    /// The connection, to pass to repository functions.
    pub fn conn(&mut self) -> Conn<'_> {
        match self {
            Self::Sqlite(tx) => Conn::Sqlite(tx),
            Self::Pg(tx) => Conn::Pg(tx),
        }
    }

    /// Makes everything written durable.
    ///
    /// # Errors
    /// `InDoubt` when the database did not tell whether it did; with any other nothing was written.
    pub async fn commit(self) -> Result<()> {
        match self {
            Self::Sqlite(tx) => tx.commit().await,
            Self::Pg(tx) => answered(tx.commit()).await,
        }
        .map_err(StoreError::of_commit)
    }

    /// Undoes everything written, and waits for it (dropping does the same later).
    pub async fn rollback(self) -> Result<()> {
        match self {
            Self::Sqlite(tx) => tx.rollback().await?,
            Self::Pg(tx) => answered(tx.rollback()).await?,
        }
        Ok(())
    }
}

/// A connection for reading outside a transaction. Each statement sees what was committed when it began; on SQLite it cannot write.
#[derive(Debug)]
pub enum Read {
    /// One of SQLite's readers.
    Sqlite(PoolConnection<Sqlite>),
    /// A connection of the PostgreSQL pool.
    Pg(PoolConnection<Postgres>),
}

impl Read {
    /// The connection, to pass to repository functions.
    pub fn conn(&mut self) -> Conn<'_> {
        match self {
            Self::Sqlite(conn) => Conn::Sqlite(conn),
            Self::Pg(conn) => Conn::Pg(conn),
        }
    }
}

/// A borrowed connection, inside a transaction or not, to either database.
#[derive(Debug)]
pub enum Conn<'a> {
    /// To SQLite.
    Sqlite(&'a mut SqliteConnection),
    /// To PostgreSQL.
    Pg(&'a mut PgConnection),
}

impl Conn<'_> {
    /// Of a statement that has two texts, the one for this database.
    pub(crate) fn pick(&self, pg: &'static str, sqlite: &'static str) -> &'static str {
        match self {
            Self::Sqlite(_) => sqlite,
            Self::Pg(_) => pg,
        }
    }
}

/// Expands its body once per database; inside, `$c` is a plain `&mut SqliteConnection` or `&mut PgConnection`, so that the binds and the
/// row type are checked for both drivers. Only the query and its binds belong inside, one statement a time; its text is bound with `sql!` before it.
macro_rules! on {
    ($conn:expr, $c:ident => $body:expr) => {
        match $conn {
            $crate::Conn::Sqlite($c) => {
                let $c = &mut **$c;
                $body
            }
            $crate::Conn::Pg($c) => {
                let $c = &mut **$c;
                $crate::conn::answered(async { $body }).await
            }
        }
    };
}
pub(crate) use on;
