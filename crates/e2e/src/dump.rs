//! PostgreSQL's own tools for backups, and a server that they understand.

use crate::environment;
use crate::supervised::Supervised;
use anyhow::{Context, Result, bail};
use sqlx::{Connection, PgConnection, Row};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::process::Command;

/// A start with `initdb` takes two seconds on an idle machine.
const PATIENCE: Duration = Duration::from_mins(2);

/// `pg_dump` and its like.
#[derive(Debug)]
pub struct Tools {
    directory: PathBuf,
    major: u32,
}

/// A server that is not newer than the tools, for these refuse one that is.
#[derive(Debug)]
pub struct Server {
    /// How it is reached.
    pub url: String,
    _own: Option<Supervised>,
}

impl Tools {
    /// Those of the machine, if it has any.
    pub async fn find() -> Result<Option<Self>> {
        let Some(directory) = environment::postgres_tools()? else {
            println!(
                "skipped: there is no pg_dump of PostgreSQL 15 or later on this machine (package postgresql-client)"
            );
            return Ok(None);
        };
        let mut tools = Self { directory, major: 0 };
        let version = tools.run("pg_dump", &["--version"]).await?;
        let number = version.split_once("(PostgreSQL) ").map(|(_, number)| number);
        let major =
            number.and_then(|number| number.split(|letter: char| !letter.is_ascii_digit()).next()?.parse().ok());
        tools.major = major.with_context(|| format!("pg_dump says it is {version:?}"))?;
        Ok(Some(tools))
    }

    /// Runs one of them to its end; what it printed.
    pub async fn run(&self, program: &str, arguments: &[&str]) -> Result<String> {
        let mut command = Command::new(self.directory.join(program));
        command.args(arguments);
        Self::end(program, command).await
    }

    async fn end(what: &str, mut command: Command) -> Result<String> {
        command.stdin(Stdio::null()).kill_on_drop(true);
        let ran = tokio::time::timeout(PATIENCE, command.output()).await;
        let ran =
            ran.with_context(|| format!("{what} does not end"))?.with_context(|| format!("cannot start {what}"))?;
        if !ran.status.success() {
            bail!("{what}: {} {}", ran.status, String::from_utf8_lossy(&ran.stderr).trim());
        }
        Ok(String::from_utf8_lossy(&ran.stdout).into_owned())
    }

    /// Runs a command line as the documentation gives it, with the database in `KUBEOP_DB_URL`.
    pub async fn shell(&self, line: &str, url: &str, folder: &Path) -> Result<()> {
        let path = format!("{}:{}", self.directory.display(), environment::path()?);
        let mut command = Command::new("sh");
        command.args(["-euc", line]).current_dir(folder).env("PATH", path).env("KUBEOP_DB_URL", url);
        Self::end(line, command).await.map(drop)
    }

    /// The server of the test run, or an older one of our own.
    pub async fn server(&self) -> Result<Server> {
        let url = environment::postgres()?;
        let mut connection = PgConnection::connect(&url).await.context("KUBEOP_TEST_POSTGRES_URL does not answer")?;
        let row = sqlx::query("SELECT current_setting('server_version_num')::int4 / 10000").fetch_one(&mut connection);
        let major: i32 = row.await.and_then(|row| row.try_get(0)).context("the server's version")?;
        if u32::try_from(major).is_ok_and(|major| major <= self.major) {
            return Ok(Server { url, _own: None });
        }
        let mut own = Supervised::start("PostgreSQL", |_, command| {
            command.args(["postgres", "run", "--at-most", &self.major.to_string()]);
        })?;
        Ok(Server { url: own.line(PATIENCE)?, _own: Some(own) })
    }
}
