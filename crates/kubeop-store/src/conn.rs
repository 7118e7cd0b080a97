//! A transaction, a reading connection, and the borrowed connection every repository function takes.
//!
//! Invariant: dropping a [`Tx`] without [`Tx::commit`] leaves nothing behind.

use crate::Result;
use sqlx::pool::PoolConnection;
use sqlx::{PgConnection, Postgres, Sqlite, SqliteConnection, Transaction};

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
    pub async fn commit(self) -> Result<()> {
        match self {
            Self::Sqlite(tx) => tx.commit().await?,
            Self::Pg(tx) => tx.commit().await?,
        }
        Ok(())
    }

    /// Undoes everything written, and waits for it (dropping does the same later).
    pub async fn rollback(self) -> Result<()> {
        match self {
            Self::Sqlite(tx) => tx.rollback().await?,
            Self::Pg(tx) => tx.rollback().await?,
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
/// row type are checked for both drivers. Only the query and its binds belong inside; statements are bound with `sql!` before it.
macro_rules! on {
    ($conn:expr, $c:ident => $body:expr) => {
        match $conn {
            $crate::Conn::Sqlite($c) => {
                let $c = &mut **$c;
                $body
            }
            $crate::Conn::Pg($c) => {
                let $c = &mut **$c;
                $body
            }
        }
    };
}
pub(crate) use on;
