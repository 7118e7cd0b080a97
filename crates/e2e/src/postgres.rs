//! A database of a test's own on the PostgreSQL of the test run.

use crate::environment;
use anyhow::{Context, Result};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};
use std::sync::atomic::{AtomicU32, Ordering};

static NUMBER: AtomicU32 = AtomicU32::new(0);

/// An empty database; dropped by [`Database::drop_it`], or with the server of the test run.
#[derive(Debug)]
pub struct Database {
    name: String,
    server: String,
    /// How it is reached.
    pub url: String,
}

impl Database {
    /// Makes one.
    pub async fn create() -> Result<Self> {
        Self::create_on(&environment::postgres()?).await
    }

    /// Makes one on another server.
    pub async fn create_on(server: &str) -> Result<Self> {
        let name = format!("e2e_{}_{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let mut connection = PgConnection::connect(server).await.context("the PostgreSQL does not answer")?;
        for statement in [format!("DROP DATABASE IF EXISTS {name}"), format!("CREATE DATABASE {name}")] {
            connection.execute(AssertSqlSafe(statement.clone())).await.with_context(|| statement)?;
        }
        let url = with_database(server, &name);
        Ok(Self { name, server: server.to_owned(), url })
    }

    /// Its name on the server.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The server's port on this machine.
    pub fn port(&self) -> Result<u16> {
        self.authority()?
            .rsplit_once(':')
            .and_then(|(_, port)| port.parse().ok())
            .context("the server's URL has no port")
    }

    /// How it is reached at another address.
    pub fn url_at(&self, host: &str, port: u16) -> Result<String> {
        let authority = self.authority()?;
        let user = authority.rsplit_once('@').map(|(user, _)| format!("{user}@")).unwrap_or_default();
        Ok(self.url.replacen(authority, &format!("{user}{host}:{port}"), 1))
    }

    /// `user:password@host:port` of the URL.
    fn authority(&self) -> Result<&str> {
        let after = self.url.split_once("://").map(|(_, after)| after);
        after.and_then(|after| after.split('/').next()).context("KUBEOP_TEST_POSTGRES_URL is no URL")
    }

    /// A connection to it.
    pub async fn connect(&self) -> Result<PgConnection> {
        PgConnection::connect(&self.url).await.context("cannot connect to the test's database")
    }

    /// Drops it, also while it is in use.
    pub async fn drop_it(self) -> Result<()> {
        let mut connection = PgConnection::connect(&self.server).await.context("the PostgreSQL does not answer")?;
        connection
            .execute(AssertSqlSafe(format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name)))
            .await
            .context("cannot drop a database")?;
        Ok(())
    }
}

/// The server's URL with another database.
fn with_database(server: &str, name: &str) -> String {
    let (before, query) = server.split_once('?').map_or((server, None), |(before, query)| (before, Some(query)));
    let authority = before.find("://").map_or(0, |at| at + 3);
    let end = before.get(authority..).and_then(|rest| rest.find('/')).map_or(before.len(), |at| authority + at);
    let base = before.get(..end).unwrap_or(before);
    query.map_or_else(|| format!("{base}/{name}"), |query| format!("{base}/{name}?{query}"))
}

#[cfg(test)]
mod tests {
    #[test]
    fn only_the_database_of_the_url_changes() {
        assert_eq!(
            super::with_database("postgres://u:p@h:1/postgres?sslmode=disable", "x"),
            "postgres://u:p@h:1/x?sslmode=disable"
        );
        assert_eq!(super::with_database("postgres://u@h:1", "x"), "postgres://u@h:1/x");
    }
}
