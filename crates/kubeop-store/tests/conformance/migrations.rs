//! Migrations that are cut off anywhere are carried out whole by the next start, and once.

use crate::harness::{PgDatabase, sqlite_url};
use crate::pg_proxy::{Line, PgProxy};
use kubeop_store::{Conn, Options, Schema, Store, newest_schema};
use sqlx::Executor;
use std::fs;
use std::path::Path;
use std::time::Duration;

/// A version is there whole or not at all: migrating goes on from there. The version that was found.
async fn completes(store: &Store) -> i64 {
    let found = match store.schema().await.unwrap() {
        Schema::Current => newest_schema(),
        Schema::Behind { found, .. } => found,
        Schema::Ahead { found, .. } => panic!("at version {found}"),
    };
    store.migrate().await.unwrap();
    assert_eq!(store.schema().await.unwrap(), Schema::Current);
    found
}

/// Pages of the write-ahead log come one after the other: a process that is killed, or a machine that loses its power, leaves a beginning
/// of it. So every state that migrating can leave is tried, torn pages among them.
#[tokio::test]
async fn on_sqlite_killed_at_every_page_that_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("kubeop.db");
    let log = folder.path().join("kubeop.db-wal");
    let store = Store::open(&sqlite_url(folder.path()), Options::default()).await.unwrap();
    let empty = fs::read(&file).unwrap();
    store.migrate().await.unwrap();
    assert_eq!(fs::read(&file).unwrap(), empty, "all of it is in the log");
    let written = fs::read(&log).unwrap();
    store.close().await;
    let (head, frame) = (32, 24 + 4096);
    let frames = (written.len() - head) / frame;
    assert!(frames > 60, "{frames} pages");
    let mut found = std::collections::BTreeSet::new();
    // Each tenth page also torn in its middle.
    let cuts = (0..=frames).map(|n| head + n * frame).chain((0..frames).step_by(10).map(|n| head + n * frame + 2000));
    for (n, cut) in cuts.enumerate() {
        let place = folder.path().join(n.to_string());
        fs::create_dir(&place).unwrap();
        fs::write(place.join("kubeop.db"), &empty).unwrap();
        fs::write(place.join("kubeop.db-wal"), &written[..cut]).unwrap();
        let store = Store::open(&sqlite_url(&place), Options::default()).await.unwrap();
        found.insert(completes(&store).await);
        store.close().await;
        fs::remove_dir_all(&place).unwrap();
    }
    assert_eq!(found, (0..=newest_schema()).collect(), "every version was met as the last whole one");
}

/// The connection breaks before each message that migrating sends.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres_cut_off_before_every_message() {
    let database = PgDatabase::create(None).await;
    let proxy = PgProxy::before(&database.url).await;
    let options = Options { acquire_timeout: Duration::from_secs(2), ..Options::default() };
    let (cut, sound) =
        tokio::try_join!(Store::open(&proxy.url, options), Store::open(&database.url, Options::default())).unwrap();
    let mut found = std::collections::BTreeSet::new();
    let mut messages = 0;
    loop {
        proxy.set(Line::CutAfter(messages));
        let done = cut.migrate().await.is_ok();
        found.insert(completes(&sound).await);
        if done {
            break;
        }
        let mut tx = sound.begin().await.unwrap();
        let Conn::Pg(c) = tx.conn() else { unreachable!() };
        c.execute("DROP SCHEMA public CASCADE").await.unwrap();
        c.execute("CREATE SCHEMA public").await.unwrap();
        tx.commit().await.unwrap();
        messages += 1;
    }
    println!("{messages} messages");
    assert!(messages > 10, "{messages} messages");
    assert_eq!(found, (0..=newest_schema()).collect(), "every version was met as the last whole one");
    kubeop_store::statements::prepare_all(&sound).await.unwrap();
    drop((cut, sound));
    database.drop().await;
}

/// Several processes on one file: one migrates, the others are told that it is in use.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_starts_at_the_same_time_on_one_file_one_migrates() {
    let folder = tempfile::tempdir().unwrap();
    let start = |folder: &Path| {
        let url = sqlite_url(folder);
        tokio::spawn(async move {
            let store = Store::open(&url, Options::default()).await?;
            store.migrate().await.map(|()| store)
        })
    };
    let all: Vec<_> = (0..6).map(|_| start(folder.path())).collect();
    let mut kept = Vec::new();
    for one in all {
        match one.await.unwrap() {
            Ok(store) => kept.push(store),
            Err(error) => assert!(error.to_string().contains("is in use by another kubeop process"), "{error}"),
        }
    }
    assert_eq!(kept.len(), 1);
    assert_eq!(kept[0].schema().await.unwrap(), Schema::Current);
}
