//! A SQLite file on a full disk, locked by others, taken away, damaged.

use crate::harness::sqlite_url;
use kubeop_core::{Error, ErrorKind};
use kubeop_store::{Conn, Options, Result, Store, StoreError, meta};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Executor, SqliteConnection};
use std::fs;
use std::path::Path;
use std::time::Duration;

fn impatient() -> Options {
    Options { acquire_timeout: Duration::from_millis(200), ..Options::default() }
}

async fn migrated(folder: &Path) -> Store {
    let store = Store::open(&sqlite_url(folder), impatient()).await.unwrap();
    store.migrate().await.unwrap();
    store
}

async fn put(store: &Store, key: &str, value: &str) -> Result<()> {
    let mut tx = store.begin().await?;
    meta::put_if_absent(&mut tx.conn(), key, value).await?;
    tx.commit().await
}

async fn value(store: &Store, key: &str) -> Option<String> {
    meta::get(&mut store.read().await.unwrap().conn(), key).await.unwrap()
}

/// Another program at the file, as somebody's `sqlite3`.
async fn stranger(folder: &Path) -> SqliteConnection {
    SqliteConnectOptions::new().filename(folder.join("kubeop.db")).connect().await.unwrap()
}

fn unavailable(error: StoreError) -> String {
    let error = Error::from(error);
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{}", error.chain());
    error.message().to_owned()
}

#[tokio::test]
async fn a_full_database_is_unavailable_holds_what_was_acknowledged_and_goes_on_when_there_is_room() {
    let folder = tempfile::tempdir().unwrap();
    let store = migrated(folder.path()).await;
    let limit = async |pages: &str| {
        let mut tx = store.begin().await.unwrap();
        let Conn::Sqlite(c) = tx.conn() else { unreachable!() };
        c.execute(AssertSqlSafe(format!("PRAGMA max_page_count = {pages}"))).await.unwrap();
        tx.rollback().await.unwrap();
    };
    limit("1").await; // The least that is possible: as many as there are.
    let large = "x".repeat(20_000);
    let mut acknowledged = Vec::new();
    let mut refused = 0;
    for n in 0..30 {
        let key = format!("k{n}");
        // Small ones may still find room where large ones do not.
        match put(&store, &key, if n % 2 == 0 { &large } else { "small" }).await {
            Ok(()) => acknowledged.push(key),
            Err(error) => {
                assert_eq!(unavailable(error), "the database is not available");
                refused += 1;
            }
        }
    }
    assert!(refused >= 15, "{refused} of 30 were refused");
    limit("1000000").await;
    put(&store, "after", &large).await.unwrap();
    store.close().await;
    let again = migrated(folder.path()).await;
    for key in acknowledged {
        assert!(value(&again, &key).await.is_some(), "{key} was acknowledged");
    }
    assert_eq!(value(&again, "after").await, Some(large));
}

#[tokio::test]
async fn a_file_that_another_program_locks_is_unavailable_until_it_lets_go() {
    let folder = tempfile::tempdir().unwrap();
    let store = migrated(folder.path()).await;
    let mut other = stranger(folder.path()).await;
    other.execute("BEGIN IMMEDIATE").await.unwrap();
    for _ in 0..3 {
        assert_eq!(unavailable(put(&store, "k", "v").await.unwrap_err()), "the database is not available");
        assert_eq!(value(&store, "k").await, None, "reading goes on");
    }
    other.execute("COMMIT").await.unwrap();
    put(&store, "k", "v").await.unwrap();
    other.close().await.unwrap();
}

#[tokio::test]
async fn a_file_that_was_removed_or_replaced_takes_in_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let store = migrated(folder.path()).await;
    put(&store, "k", "v").await.unwrap();
    let (file, aside) = (folder.path().join("kubeop.db"), folder.path().join("aside"));
    fs::rename(&file, &aside).unwrap();
    let told = unavailable(put(&store, "l", "v").await.unwrap_err());
    assert!(told.contains("was removed or replaced while it was in use"), "{told}");
    fs::copy(&aside, &file).unwrap();
    assert!(put(&store, "l", "v").await.is_err(), "a copy is another file");
    assert!(store.ping().await.is_err());
    fs::rename(&aside, &file).unwrap();
    put(&store, "l", "v").await.unwrap();
}

#[tokio::test]
async fn a_damaged_file_is_refused_with_the_way_out_and_nothing_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("kubeop.db");
    let store = migrated(folder.path()).await;
    for n in 0..200 {
        put(&store, &format!("k{n}"), &"x".repeat(500)).await.unwrap();
    }
    store.close().await;
    let sound = fs::read(&file).unwrap();
    let page = 4096;
    for (what, from, until) in
        [("header", 0, 16), ("first page", 100, page), ("middle", sound.len() / 2, sound.len() / 2 + page)]
    {
        let mut bytes = sound.clone();
        bytes[from..until].fill(0xa5);
        fs::write(&file, &bytes).unwrap();
        let told = unavailable(Store::open(&sqlite_url(folder.path()), impatient()).await.unwrap_err());
        assert!(told.contains("is damaged") && told.contains("backup") && told.contains(".recover"), "{what}: {told}");
        assert_eq!(fs::read(&file).unwrap(), bytes, "{what}: written to");
    }
    fs::write(&file, &sound[..sound.len() / 2]).unwrap();
    assert!(
        unavailable(Store::open(&sqlite_url(folder.path()), impatient()).await.unwrap_err()).contains("is damaged")
    );
    fs::write(&file, &sound).unwrap();
    assert!(value(&migrated(folder.path()).await, "k199").await.is_some());
}

#[tokio::test]
async fn a_row_that_refers_to_nothing_is_damage() {
    let folder = tempfile::tempdir().unwrap();
    migrated(folder.path()).await.close().await;
    let mut other = SqliteConnectOptions::new()
        .filename(folder.path().join("kubeop.db"))
        .journal_mode(SqliteJournalMode::Wal)
        .foreign_keys(false)
        .connect()
        .await
        .unwrap();
    other
        .execute("INSERT INTO invoice_line VALUES (x'00', 0, 1, 0, 'm', 'd', 'u', x'00', '1', '1', '1')")
        .await
        .unwrap();
    other.close().await.unwrap();
    let told = unavailable(Store::open(&sqlite_url(folder.path()), impatient()).await.unwrap_err());
    assert!(told.contains("a row of invoice_line refers to one that is not there"), "{told}");
}

/// `docs/operations/run.md`: a backup of a running manager, and what a reader beside it sees.
#[tokio::test]
async fn a_backup_beside_the_process_that_holds_the_file_is_whole() {
    let folder = tempfile::tempdir().unwrap();
    let store = migrated(folder.path()).await;
    put(&store, "k", "v").await.unwrap();
    let copy = folder.path().join("backup.db");
    let mut other = stranger(folder.path()).await;
    other.execute(AssertSqlSafe(format!("VACUUM INTO '{}'", copy.display()))).await.unwrap();
    other.close().await.unwrap();
    put(&store, "later", "v").await.unwrap();
    store.close().await;
    let restored = Store::open(&format!("sqlite://{}", copy.display()), impatient()).await.unwrap();
    restored.schema().await.unwrap().check().unwrap();
    assert_eq!((value(&restored, "k").await.as_deref(), value(&restored, "later").await), (Some("v"), None));
}

/// Every connection that may write waits for the disk before it acknowledges.
#[tokio::test]
async fn the_one_writer_is_opened_durable_however_often_it_is_taken() {
    let folder = tempfile::tempdir().unwrap();
    let store = migrated(folder.path()).await;
    for _ in 0..5 {
        let mut tx = store.begin().await.unwrap();
        assert!(matches!(store.begin().await.unwrap_err(), StoreError::Unavailable(_)), "there is one writer");
        let Conn::Sqlite(c) = tx.conn() else { unreachable!() };
        let synchronous: i64 = sqlx::query_scalar("PRAGMA synchronous").fetch_one(&mut *c).await.unwrap();
        assert_eq!(synchronous, 2);
        tx.rollback().await.unwrap();
    }
}
