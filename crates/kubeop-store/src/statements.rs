//! The register of all SQL statements, and the check that both databases understand each of them.
//!
//! Invariant: every statement's text goes through `sql!`, so that [`prepare_all`] sees it.

use crate::conn::on;
use crate::{Result, Store, StoreError};
use sqlx::{Column, Executor, SqlSafeStr, Statement};
use std::collections::BTreeMap;

/// Which database a statement is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// One text for both.
    Both,
    /// PostgreSQL only; its twin is next to it.
    Pg,
    /// SQLite only; its twin is next to it.
    Sqlite,
}

/// A statement and where it stands in the source.
#[derive(Clone, Copy, Debug)]
pub struct Stmt {
    /// The text.
    pub sql: &'static str,
    /// `file:line`.
    pub at: &'static str,
    /// Which databases it is for.
    pub dialect: Dialect,
}

inventory::collect!(Stmt);

/// Every statement of the crate.
pub fn all() -> impl Iterator<Item = &'static Stmt> {
    inventory::iter::<Stmt>.into_iter()
}

/// Prepares every statement that is meant for the store's database; returns its columns by place and text.
///
/// # Errors
/// The first statement the database refuses, with its place. The schema must be current.
pub async fn prepare_all(store: &Store) -> Result<BTreeMap<(&'static str, &'static str), Vec<String>>> {
    let mut seen = BTreeMap::new();
    let mut read = store.read().await?;
    for stmt in all() {
        let mut conn = read.conn();
        let ours = conn.pick("pg", "sqlite");
        if !matches!((stmt.dialect, ours), (Dialect::Both, _) | (Dialect::Pg, "pg") | (Dialect::Sqlite, "sqlite")) {
            continue;
        }
        let prepared: sqlx::Result<Vec<String>> = on!(&mut conn, x => x
            .prepare(stmt.sql.into_sql_str())
            .await
            .map(|st| st.columns().iter().map(|column| column.name().to_owned()).collect()));
        let columns = prepared.map_err(|cause| StoreError::Statement { at: stmt.at, cause })?;
        seen.insert((stmt.at, stmt.sql), columns);
    }
    Ok(seen)
}

/// Evaluates to its text, a constant expression, and registers it. `sql!(pg: ...)` and `sql!(sqlite: ...)` are for one database.
macro_rules! sql {
    (pg: $s:expr) => {
        $crate::statements::sql!(@ Pg, $s)
    };
    (sqlite: $s:expr) => {
        $crate::statements::sql!(@ Sqlite, $s)
    };
    (@ $dialect:ident, $s:expr) => {{
        const TEXT: &str = $s;
        inventory::submit! {
            $crate::statements::Stmt {
                sql: TEXT,
                at: concat!(file!(), ":", line!()),
                dialect: $crate::statements::Dialect::$dialect,
            }
        }
        TEXT
    }};
    ($s:expr) => {
        $crate::statements::sql!(@ Both, $s)
    };
}
pub(crate) use sql;
