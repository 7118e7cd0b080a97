//! Keys of a running product: rotated while it serves and while the rotation is killed, refused when they are wrong, made once by many.
//!
//! Invariant: what is asked of the database behind the product's back is only how far it is.

use anyhow::{Context, Result, ensure};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use e2e::api::{Answer, Api};
use e2e::environment;
use e2e::folder::Folder;
use e2e::kubeop::{Kubeop, Setup};
use e2e::postgres::Database;
use futures::future::join_all;
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, SqliteConnection};
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::{Duration, Instant};

const KEY: &str = "KUBEOP_KMS_MASTER_KEY";
const PREVIOUS: &str = "KUBEOP_KMS_MASTER_KEY_PREVIOUS";

fn key(byte: u8) -> String {
    BASE64_STANDARD.encode([byte; 32])
}

/// An installation that processes share: a data directory, and perhaps a PostgreSQL database.
struct Site {
    folder: Folder,
    database: Option<Database>,
}

impl Site {
    fn sqlite() -> Result<Self> {
        Ok(Self { folder: Folder::new("keys")?, database: None })
    }

    async fn postgres() -> Result<Self> {
        Ok(Self { folder: Folder::new("keys")?, database: Some(Database::create().await?) })
    }

    fn variables(&self, keys: &[(&str, u8)]) -> Vec<(String, String)> {
        let mut all = vec![("KUBEOP_DATA_DIR".to_owned(), self.folder.file("data").display().to_string())];
        all.extend(self.database.iter().map(|database| ("KUBEOP_DB_URL".to_owned(), database.url.clone())));
        all.extend(keys.iter().map(|(name, byte)| ((*name).to_owned(), key(*byte))));
        all
    }

    fn manager(&self, keys: &[(&str, u8)]) -> Setup {
        self.variables(keys).iter().fold(Setup::new("manager"), |setup, (name, value)| setup.with(name, value))
    }

    fn command(&self, arguments: &[&str], keys: &[(&str, u8)]) -> Result<Command> {
        let mut command = Command::new(environment::kubeop()?);
        command.args(arguments).env_clear().envs(self.variables(keys));
        Ok(command)
    }

    fn keys(&self, verb: &str, keys: &[(&str, u8)]) -> Result<Output> {
        self.command(&["keys", verb], keys)?.output().context("cannot start kubeop keys")
    }

    fn file(&self) -> PathBuf {
        self.folder.file("data").join("kubeop.db")
    }

    async fn look(&self) -> Result<Look> {
        Ok(match &self.database {
            Some(database) => Look::Pg(database.connect().await?),
            None => Look::Sqlite(SqliteConnection::connect(&format!("sqlite://{}", self.file().display())).await?),
        })
    }

    async fn number(&self, query: &'static str) -> Result<i64> {
        self.look().await?.number(query).await
    }

    async fn execute(&self, sql: &str) -> Result<()> {
        let sql = AssertSqlSafe(sql.to_owned());
        match self.look().await? {
            Look::Pg(mut connection) => connection.execute(sql).await.map(drop)?,
            Look::Sqlite(mut connection) => {
                connection.execute(sql).await?;
                // The last connection brings the log into the file: now, not some time after it is dropped.
                connection.close().await?;
            }
        }
        Ok(())
    }

    async fn end(self) -> Result<()> {
        match self.database {
            Some(database) => database.drop_it().await,
            None => Ok(()),
        }
    }
}

/// A connection of the test's own.
enum Look {
    Pg(PgConnection),
    Sqlite(SqliteConnection),
}

impl Look {
    async fn number(&mut self, query: &'static str) -> Result<i64> {
        Ok(match self {
            Self::Pg(connection) => sqlx::query_scalar(query).fetch_one(connection).await?,
            Self::Sqlite(connection) => sqlx::query_scalar(query).fetch_one(connection).await?,
        })
    }

    /// Answers under the newest seed, and all: of one moment, since others write all the while.
    async fn progress(&mut self) -> Result<(i64, i64)> {
        let both = "SELECT COUNT(CASE WHEN seed_id = (SELECT id FROM encryption_seed ORDER BY created_at DESC, id DESC LIMIT 1) \
                    THEN 1 END) AS newest, COUNT(seed_id) AS total FROM idempotency_key";
        Ok(match self {
            Self::Pg(connection) => sqlx::query_as(both).fetch_one(connection).await?,
            Self::Sqlite(connection) => sqlx::query_as(both).fetch_one(connection).await?,
        })
    }
}

/// A price of an hour to come, each once.
fn price(number: i64) -> Value {
    let hour = jiff::Timestamp::from_second((2_000_000_000 / 3600 + number) * 3600).unwrap_or_default();
    json!({"meter": "cpu_milli", "rate": "0.000002", "effective_from": hour.to_string()})
}

async fn post(api: &Api, number: i64) -> Result<Answer> {
    let request = api.request("POST", "/v1/platform/prices")?;
    api.send(request.header("Idempotency-Key", format!("price-{number}")).json(&price(number))).await?.expect(201)
}

async fn replays(api: &Api, number: i64) -> Result<()> {
    let answer = post(api, number).await?;
    ensure!(answer.header("idempotency-replayed") == Some("true"), "price-{number} was carried out again");
    ensure!(answer.json["effective_from"] == price(number)["effective_from"], "{}", answer.text);
    Ok(())
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Kills a rotation once it has moved something; `false`: it ended before.
async fn kill_in_the_middle(site: &Site, keys: &[(&str, u8)]) -> Result<bool> {
    let mut look = site.look().await?;
    let (before, _) = look.progress().await?;
    let fresh = look.number("SELECT count(*) FROM encryption_seed").await? == 1;
    // Slow enough that it is seen in its middle however busy the machine is.
    let mut command = site.command(&["keys", "rotate", "--pause", "2000"], keys)?;
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().context("cannot start kubeop keys")?;
    let start = Instant::now();
    loop {
        if child.try_wait().context("the rotation")?.is_some() {
            return Ok(false);
        }
        let (moved, all) = look.progress().await?;
        // Until the new seed is there, everything is under the newest.
        let begun = if fresh { moved > 0 && moved < all } else { moved > before };
        if begun || start.elapsed() > Duration::from_secs(30) {
            // SIGKILL.
            child.kill().context("the rotation cannot be killed")?;
            child.wait().context("the rotation")?;
            let (moved, all) = look.progress().await?;
            return Ok(moved < all);
        }
    }
}

async fn rotation_under_fire(site: Site, replicas: usize) -> Result<()> {
    const BEFORE: i64 = 1200;
    let (old, both, new) = ([(KEY, 1)], [(KEY, 2), (PREVIOUS, 1)], [(KEY, 2)]);
    let first = site.manager(&old).start().await?;
    let api = first.api(None)?;
    for number in 0..BEFORE {
        post(&api, number).await?;
    }
    let refused = site.keys("rotate", &new)?;
    ensure!(!refused.status.success() && said(&refused).contains("is not the key this database"), "{}", said(&refused));
    drop(first);

    let mut managers: Vec<Kubeop> = Vec::new();
    for _ in 0..replicas {
        managers.push(site.manager(&both).start().await?);
    }
    let apis = managers.iter().map(|manager| manager.api(None)).collect::<Result<Vec<_>>>()?;
    // Readers and writers, all the while.
    let (over, next) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicI64::new(BEFORE)));
    let clients: Vec<_> = apis
        .iter()
        .cloned()
        .map(|api| {
            let (over, next) = (Arc::clone(&over), Arc::clone(&next));
            tokio::spawn(async move {
                let mut slowest = Duration::ZERO;
                while !over.load(Ordering::Relaxed) {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let start = Instant::now();
                    post(&api, number).await?;
                    slowest = slowest.max(start.elapsed());
                    replays(&api, number * 7 % BEFORE).await?;
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                anyhow::Ok(slowest)
            })
        })
        .collect();
    let mut killed = 0;
    for _ in 0..8 {
        if !kill_in_the_middle(&site, &both).await? {
            break;
        }
        killed += 1;
        let checked = site.keys("check", &both)?;
        ensure!(checked.status.success() && said(&checked).contains("is still needed beside"), "{}", said(&checked));
        replays(&apis[0], 0).await?;
    }
    ensure!(killed >= 2, "the rotation was killed {killed} times in its middle");
    // Two at once finish it.
    let finished = join_all((0..2).map(|_| async { site.keys("rotate", &both) })).await;
    for output in finished {
        let output = output?;
        ensure!(output.status.success(), "{}", said(&output));
        let told = said(&output);
        ensure!(told.contains("no longer needed") || told.contains("there is nothing to rotate"), "{told}");
    }
    over.store(true, Ordering::Relaxed);
    for client in clients {
        println!("slowest answer during the rotation: {:?}", client.await.context("a client")??);
    }
    let all = next.load(Ordering::Relaxed);
    for number in (0..all).step_by(13) {
        replays(&apis[usize::try_from(number).unwrap_or(0) % apis.len()], number).await?;
    }
    drop((apis, managers));

    let checked = site.keys("check", &new)?;
    ensure!(checked.status.success() && said(&checked).contains("no other is needed"), "{}", said(&checked));
    let after = site.manager(&new).start().await?;
    for number in (0..all).step_by(29) {
        replays(&after.api(None)?, number).await?;
    }
    drop(after);
    let seeds = site.number("SELECT count(*) FROM encryption_seed").await?;
    ensure!(seeds == 1, "{seeds} seeds are left");
    println!("killed {killed} times, {all} answers");
    site.end().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rotate_beside_two_managers_on_postgres_however_often_it_is_killed() -> Result<()> {
    rotation_under_fire(Site::postgres().await?, 2).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rotate_beside_the_manager_of_a_sqlite_file_however_often_it_is_killed() -> Result<()> {
    rotation_under_fire(Site::sqlite()?, 1).await
}

/// Makes the newest migration look missing: a start that came as far as migrating would fail of that instead of the key.
const STEP_BACK: &str = "CREATE TABLE kept AS SELECT * FROM _sqlx_migrations WHERE version = (SELECT max(version) FROM _sqlx_migrations); \
    DELETE FROM _sqlx_migrations WHERE version = (SELECT version FROM kept)";
const STEP_FORWARD: &str = "INSERT INTO _sqlx_migrations SELECT * FROM kept; DROP TABLE kept";
const NEWEST: &str = "SELECT CAST(max(version) AS BIGINT) FROM _sqlx_migrations";

async fn refuses_wrong_keys(site: Site) -> Result<()> {
    let mut first = site.manager(&[(KEY, 1)]).start().await?;
    post(&first.api(None)?, 0).await?;
    first.process().signal("TERM")?;
    first.process().end(Duration::from_secs(20)).await?;
    drop(first);
    site.execute(STEP_BACK).await?;
    let schema = site.number(NEWEST).await?;
    let bytes =
        || if site.database.is_none() { fs::read(site.file()).context("the database's file") } else { Ok(Vec::new()) };
    let before = bytes()?;
    let short = BASE64_STANDARD.encode([1; 31]);
    let whole = key(1);
    for (what, value, previous) in [
        ("another key", key(2), None),
        ("a key cut off", short, None),
        ("text cut off", whole[..whole.len() - 3].to_owned(), None),
        ("no base64", "hunter2".to_owned(), None),
        ("nothing", String::new(), None),
        ("two other keys", key(2), Some(key(3))),
        ("a previous key cut off", whole.clone(), Some("AAAA".to_owned())),
    ] {
        let mut command = site.command(&["manager"], &[])?;
        command.env("KUBEOP_HTTP_ADDR", "127.0.0.1:0").env("KUBEOP_REQUIRE_AUTH", "false").env(KEY, &value);
        command.envs(previous.iter().map(|value| (PREVIOUS, value)));
        let output = command.output().context("cannot start kubeop manager")?;
        let told = said(&output);
        ensure!(output.status.code() == Some(1) && told.contains(KEY), "{what}: {told}");
        ensure!(value.is_empty() || !told.contains(&value), "{what} is quoted: {told}");
        ensure!(bytes()? == before, "{what}: the database's file was changed");
        ensure!(site.number(NEWEST).await? == schema, "{what}: the schema was migrated");
    }
    // None given and none to be made: neither.
    let output = site.command(&["manager"], &[])?.env("KUBEOP_REQUIRE_AUTH", "false").output()?;
    ensure!(
        output.status.code() == Some(1) && said(&output).contains("KUBEOP_KMS_MASTER_KEY is not set"),
        "{}",
        said(&output)
    );
    ensure!(bytes()? == before);
    site.execute(STEP_FORWARD).await?;
    let right = site.manager(&[(KEY, 1)]).start().await?;
    replays(&right.api(None)?, 0).await?;
    drop(right);
    site.end().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_key_refuses_the_start_before_a_sqlite_file_is_touched() -> Result<()> {
    refuses_wrong_keys(Site::sqlite()?).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_key_refuses_the_start_before_postgres_is_migrated() -> Result<()> {
    refuses_wrong_keys(Site::postgres().await?).await
}

/// Each used to make its own `jwt-signing.key`; all but one then failed, or signed what the others refused.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn managers_that_start_together_on_a_fresh_directory_share_its_keys() -> Result<()> {
    let site = Site::postgres().await?;
    let started = join_all((0..6).map(|_| site.manager(&[]).with_auth().start())).await;
    let all = started.into_iter().collect::<Result<Vec<_>>>()?;
    let mut names: Vec<String> = fs::read_dir(site.folder.file("data"))?
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect::<Result<_>>()?;
    names.sort();
    ensure!(names == ["jwt-signing.key", "master.key"], "{names:?}");
    let mut command = Command::new(environment::kubeop()?);
    let token = command.args(["token", "--role", "admin"]).arg("--key-dir").arg(site.folder.file("data")).output()?;
    let token = String::from_utf8_lossy(&token.stdout).trim().to_owned();
    for (number, manager) in (0..).zip(&all) {
        let api = manager.api(Some(&token))?;
        post(&api, number).await?;
        replays(&api, 0).await?;
    }
    drop(all);
    site.end().await
}
