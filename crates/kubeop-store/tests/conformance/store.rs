//! Opening, migrating, refusing.

use crate::harness::{self, PgDatabase, sqlite_url};
use kubeop_core::{Error, ErrorKind};
use kubeop_store::{Conn, Options, Schema, Store, StoreError, meta, newest_schema};
use sqlx::Executor;
use std::fs;
use std::time::Duration;

both! {
    async fn a_migrated_database_is_current_and_answers(store) {
        store.ping().await.unwrap();
        assert_eq!(store.schema().await.unwrap(), Schema::Current);
        store.schema().await.unwrap().check().unwrap();
        store.migrate().await.unwrap();
    }

    async fn dropping_a_transaction_undoes_it(store) {
        let mut tx = store.begin().await.unwrap();
        meta::put_if_absent(&mut tx.conn(), "k", "v").await.unwrap();
        drop(tx);
        let mut tx = store.begin().await.unwrap();
        meta::put_if_absent(&mut tx.conn(), "k", "w").await.unwrap();
        tx.rollback().await.unwrap();
        assert_eq!(meta::get(&mut store.read().await.unwrap().conn(), "k").await.unwrap(), None);
    }

    /// Callers hang up at any point: while a transaction begins, writes or is committed.
    async fn a_transaction_that_is_cancelled_anywhere_leaves_the_writer_free(store) {
        for n in 0..300_u64 {
            let (cancelled, key) = (store.clone(), format!("k{n}"));
            let writing = tokio::spawn(async move {
                let mut tx = cancelled.begin().await.unwrap();
                meta::put_if_absent(&mut tx.conn(), &key, "v").await.unwrap();
                if n % 3 == 0 { tx.rollback().await } else { tx.commit().await }
            });
            match n % 2 {
                0 => tokio::time::sleep(Duration::from_micros(n * 7)).await,
                _ => {
                    for _ in 0..n {
                        tokio::task::yield_now().await;
                    }
                }
            }
            writing.abort();
            let _ = writing.await;
            let next = async {
                let mut tx = store.begin().await.unwrap();
                meta::put_if_absent(&mut tx.conn(), "next", "v").await.unwrap();
                tx.commit().await.unwrap();
            };
            tokio::time::timeout(Duration::from_secs(20), next).await.unwrap_or_else(|_| panic!("taken after {n}"));
        }
    }

    async fn a_schema_of_a_newer_kubeop_is_refused_with_a_sentence(store) {
        let mut tx = store.begin().await.unwrap();
        let newer = "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
            VALUES (99, 'later', TRUE, '', 0)";
        match tx.conn() {
            Conn::Sqlite(c) => c.execute(newer).await.map(|_| ()),
            Conn::Pg(c) => c.execute(newer).await.map(|_| ()),
        }
        .unwrap();
        tx.commit().await.unwrap();
        let needed = newest_schema();
        assert_eq!(store.schema().await.unwrap(), Schema::Ahead { found: 99, needed });
        let error = Error::from(store.migrate().await.unwrap_err());
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert_eq!(
            error.message(),
            format!("the database's schema is at version 99, newer than the {needed} this kubeop knows: run the newer kubeop")
        );
    }

    async fn a_schema_of_another_build_is_refused_with_a_sentence(store) {
        let mut tx = store.begin().await.unwrap();
        let changed = "UPDATE _sqlx_migrations SET checksum = '' WHERE version = 1";
        match tx.conn() {
            Conn::Sqlite(c) => c.execute(changed).await.map(|_| ()),
            Conn::Pg(c) => c.execute(changed).await.map(|_| ()),
        }
        .unwrap();
        tx.commit().await.unwrap();
        let error = store.migrate().await.unwrap_err();
        assert!(error.to_string().contains("another build"), "{error}");
    }
}

#[tokio::test]
async fn an_empty_sqlite_file_is_behind_until_it_is_migrated() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}/made/on/the/way/kubeop.db", folder.path().display());
    let store = Store::open(&url, Options::default()).await.unwrap();
    assert_eq!(store.schema().await.unwrap(), Schema::Behind { found: 0, needed: newest_schema() });
    let error = store.schema().await.unwrap().check().unwrap_err();
    assert!(error.to_string().contains("run `kubeop migrate`"), "{error}");
    store.migrate().await.unwrap();
    assert_eq!(store.schema().await.unwrap(), Schema::Current);
    assert!(!store.is_shared());
}

#[tokio::test]
async fn an_empty_postgres_database_is_migrated_by_several_at_once() {
    let database = PgDatabase::create(None).await;
    let one = Store::open(&database.url, Options::default()).await.unwrap();
    assert_eq!(one.schema().await.unwrap(), Schema::Behind { found: 0, needed: newest_schema() });
    let other = Store::open(&database.url, Options::default()).await.unwrap();
    let (a, b, c) = tokio::join!(one.migrate(), other.migrate(), one.migrate());
    a.unwrap();
    b.unwrap();
    c.unwrap();
    assert_eq!(other.schema().await.unwrap(), Schema::Current);
    assert!(one.is_shared());
    one.close().await;
    other.close().await;
    database.drop().await;
}

/// As `kubeop manager` does it: the master key is looked at first, through a connection of its own.
#[tokio::test]
async fn a_look_at_a_killed_process_file_hides_from_nobody_that_it_was_killed() {
    let folder = tempfile::tempdir().unwrap();
    let (killed, file) = (folder.path().join("killed"), folder.path().join("kubeop.db"));
    fs::create_dir(&killed).unwrap();
    let store = Store::open(&sqlite_url(folder.path()), Options::default()).await.unwrap();
    store.migrate().await.unwrap();
    let mut tx = store.begin().await.unwrap();
    let Conn::Sqlite(c) = tx.conn() else { unreachable!() };
    // Larger than what is checked at every start.
    c.execute("CREATE TABLE ballast AS SELECT zeroblob(80000000) AS bytes").await.unwrap();
    tx.commit().await.unwrap();
    let mut tx = store.begin().await.unwrap();
    let Conn::Sqlite(c) = tx.conn() else { unreachable!() };
    c.execute("COMMIT").await.unwrap();
    let _: i64 = sqlx::query_scalar("PRAGMA wal_checkpoint(TRUNCATE)").fetch_one(&mut *c).await.unwrap();
    c.execute("BEGIN").await.unwrap();
    meta::put_if_absent(&mut tx.conn(), "k", "v").await.unwrap();
    tx.commit().await.unwrap();
    let copy = killed.join("kubeop.db");
    fs::copy(&file, &copy).unwrap();
    fs::copy(folder.path().join("kubeop.db-wal"), killed.join("kubeop.db-wal")).unwrap();
    store.close().await;
    // Its disk lost a page.
    let mut bytes = fs::read(&copy).unwrap();
    let middle = bytes.len() / 2 / 4096 * 4096;
    bytes[middle..middle + 4096].fill(0xff);
    fs::write(&copy, bytes).unwrap();
    let log = fs::read(killed.join("kubeop.db-wal")).unwrap();
    assert!(!log.is_empty());
    let looked = Store::open_to_read(&sqlite_url(&killed), Options::default()).await.unwrap();
    let seen = meta::get(&mut looked.read().await.unwrap().conn(), "k").await.unwrap();
    assert_eq!(seen.as_deref(), Some("v"), "what is in the log is seen");
    looked.close().await;
    assert!(fs::read(killed.join("kubeop.db-wal")).unwrap() == log, "the log is as it was");
    let refused = Store::open(&sqlite_url(&killed), Options::default()).await.unwrap_err();
    assert!(refused.to_string().contains("is damaged"), "{refused}");
}

#[tokio::test]
async fn closing_brings_the_log_into_the_file_whoever_still_reads() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&sqlite_url(folder.path()), Options::default()).await.unwrap();
    store.migrate().await.unwrap();
    let mut tx = store.begin().await.unwrap();
    meta::put_if_absent(&mut tx.conn(), "k", "v").await.unwrap();
    tx.commit().await.unwrap();
    let reading = store.read().await.unwrap();
    let closing = tokio::time::timeout(Duration::from_secs(2), store.clone().close()).await;
    assert!(closing.is_err(), "a connection did not come back");
    let alone = tempfile::tempdir().unwrap();
    fs::copy(folder.path().join("kubeop.db"), alone.path().join("kubeop.db")).unwrap();
    let copied = Store::open(&sqlite_url(alone.path()), Options::default()).await.unwrap();
    let found = meta::get(&mut copied.read().await.unwrap().conn(), "k").await.unwrap();
    assert_eq!(found.as_deref(), Some("v"));
    drop(reading);
}

#[tokio::test]
async fn a_sqlite_file_in_use_is_refused_with_a_sentence() {
    let folder = tempfile::tempdir().unwrap();
    let first = Store::open(&sqlite_url(folder.path()), Options::default()).await.unwrap();
    let error = Store::open(&sqlite_url(folder.path()), Options::default()).await.unwrap_err();
    assert!(matches!(error, StoreError::Refused(_)));
    assert!(error.to_string().contains("is in use by another kubeop process"), "{error}");
    first.close().await;
    let again = Store::open(&sqlite_url(folder.path()), Options::default()).await.unwrap();
    again.migrate().await.unwrap();
}

#[cfg(unix)]
#[tokio::test]
async fn the_files_of_a_sqlite_database_are_private() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&sqlite_url(folder.path()), Options::default()).await.unwrap();
    store.migrate().await.unwrap();
    let mut files = 0;
    for entry in fs::read_dir(folder.path()).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o077, 0, "{:?}", entry.path());
        files += 1;
    }
    assert!(files >= 3, "database, write-ahead log, lock");
}

#[tokio::test]
async fn a_url_that_cannot_be_used_is_named_without_its_password() {
    for (url, part) in [
        ("mysql://root:hunter2@db/x", "begins with \"mysql\""),
        ("/var/lib/kubeop.db", "sqlite://PATH or postgres://"),
        ("sqlite::memory:", "is not a usable sqlite path"),
        ("sqlite://", "is not a usable sqlite path"),
        ("sqlite://a.db?mode=rwc", "without parameters"),
        ("postgres://user:hunter2@host:port/x", "malformed"),
    ] {
        let error = Error::from(Store::open(url, Options::default()).await.unwrap_err());
        assert_eq!(error.kind(), ErrorKind::Invalid, "{url}");
        assert!(error.message().contains(part), "{url}: {error}");
        assert!(!error.chain().contains("hunter2"), "{url}: {}", error.chain());
    }
}

#[tokio::test]
async fn a_postgres_that_does_not_answer_is_unavailable() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let url = format!("postgres://kubeop:hunter2@127.0.0.1:{free}/kubeop");
    let options = Options { acquire_timeout: Duration::from_millis(500), ..Options::default() };
    let error = Error::from(Store::open(&url, options).await.unwrap_err());
    assert_eq!((error.kind(), error.message()), (ErrorKind::Unavailable, "the database is not available"));
    assert!(!error.chain().contains("hunter2"));
}

#[tokio::test]
async fn an_exhausted_pool_is_unavailable() {
    let options = Options { acquire_timeout: Duration::from_millis(200), ..Options::default() };
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&sqlite_url(folder.path()), options).await.unwrap();
    let _writing = store.begin().await.unwrap();
    let error = Error::from(store.begin().await.unwrap_err());
    assert_eq!(error.kind(), ErrorKind::Unavailable);
}

#[tokio::test]
async fn a_sqlite_reader_cannot_write() {
    harness::sqlite(|store| async move {
        let error = meta::put_if_absent(&mut store.read().await.unwrap().conn(), "k", "v").await.unwrap_err();
        assert!(matches!(error, StoreError::Unavailable(_) | StoreError::Database(_)), "{error:?}");
    })
    .await;
}

#[tokio::test]
async fn sqlite_is_opened_durable_and_strict() {
    harness::sqlite(|store| async move {
        let mut tx = store.begin().await.unwrap();
        let Conn::Sqlite(c) = tx.conn() else { unreachable!() };
        for (pragma, value) in [("synchronous", 2_i64), ("foreign_keys", 1), ("trusted_schema", 0)] {
            let found: i64 =
                sqlx::query_scalar(sqlx::AssertSqlSafe(format!("PRAGMA {pragma}"))).fetch_one(&mut *c).await.unwrap();
            assert_eq!(found, value, "{pragma}");
        }
        let mode: String = sqlx::query_scalar("PRAGMA journal_mode").fetch_one(&mut *c).await.unwrap();
        assert_eq!(mode, "wal");
    })
    .await;
}

#[tokio::test]
async fn postgres_sessions_have_time_outs() {
    harness::postgres(|store| async move {
        let mut tx = store.begin().await.unwrap();
        let Conn::Pg(c) = tx.conn() else { unreachable!() };
        for (setting, value) in [
            ("statement_timeout", "15s"),
            ("lock_timeout", "10s"),
            ("idle_in_transaction_session_timeout", "1min"),
            ("transaction_isolation", "read committed"),
            ("application_name", "kubeop"),
        ] {
            let found: String =
                sqlx::query_scalar(sqlx::AssertSqlSafe(format!("SHOW {setting}"))).fetch_one(&mut *c).await.unwrap();
            assert_eq!(found, value, "{setting}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_reader_looks_into_a_file_that_another_process_holds_and_cannot_write() {
    let folder = tempfile::tempdir().unwrap();
    let url = sqlite_url(folder.path());
    let holder = Store::open(&url, Options::default()).await.unwrap();
    holder.migrate().await.unwrap();
    let reader = Store::open_to_read(&url, Options::default()).await.unwrap();
    meta::put_if_absent(&mut holder.begin().await.unwrap().conn(), "k", "v").await.unwrap();
    assert!(meta::get(&mut reader.read().await.unwrap().conn(), "k").await.unwrap().is_none());
    let mut tx = holder.begin().await.unwrap();
    meta::put_if_absent(&mut tx.conn(), "k", "v").await.unwrap();
    tx.commit().await.unwrap();
    assert!(meta::get(&mut reader.read().await.unwrap().conn(), "k").await.unwrap().is_some());
    assert!(meta::put_if_absent(&mut reader.read().await.unwrap().conn(), "l", "v").await.is_err());
    let absent = format!("{url}-absent");
    assert!(Store::open_to_read(&absent, Options::default()).await.is_err());
}
