//! PostgreSQL that cannot be reached, falls silent, or breaks a connection in the middle of a COMMIT.

use crate::harness::{PgDatabase, migrated};
use crate::pg_proxy::{Line, PgProxy};
use kubeop_core::{Error, ErrorKind};
use kubeop_store::{Conn, Options, Result, Store, StoreError, meta};
use std::time::Duration;
use tokio::time::{Instant, timeout};

/// Far longer than anything here may take, and shorter than the end of patience of TCP.
const PATIENCE: Duration = Duration::from_secs(30);

async fn behind_proxy(connections: u32, check: impl AsyncFnOnce(&Store, &PgProxy)) {
    let database = PgDatabase::create(Some(&migrated().await)).await;
    let proxy = PgProxy::before(&database.url).await;
    let options =
        Options { pg_connections: connections, acquire_timeout: Duration::from_millis(700), ..Options::default() };
    let store = Store::open(&proxy.url, options).await.unwrap();
    timeout(PATIENCE * 2, check(&store, &proxy)).await.unwrap();
    drop(store);
    database.drop().await;
}

async fn put(store: &Store, key: &str) -> Result<()> {
    let mut tx = store.begin().await?;
    meta::put_if_absent(&mut tx.conn(), key, "v").await?;
    tx.commit().await
}

async fn there(store: &Store, key: &str) -> bool {
    meta::get(&mut store.read().await.unwrap().conn(), key).await.unwrap().is_some()
}

/// Until the database answers again; how long that took.
async fn recovery(store: &Store) -> Duration {
    let begun = Instant::now();
    while store.ping().await.is_err() {
        assert!(begun.elapsed() < PATIENCE, "the pool did not recover");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    begun.elapsed()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cut_server_is_unavailable_at_once_and_used_again_when_it_is_back() {
    behind_proxy(4, async |store, proxy| {
        put(store, "before").await.unwrap();
        let mut open = store.begin().await.unwrap();
        proxy.set(Line::Cut);
        let error = meta::get(&mut open.conn(), "before").await.unwrap_err();
        assert_eq!(Error::from(error).kind(), ErrorKind::Unavailable);
        drop(open);
        for _ in 0..6 {
            let error = Error::from(put(store, "meanwhile").await.unwrap_err());
            assert_eq!((error.kind(), error.message()), (ErrorKind::Unavailable, "the database is not available"));
        }
        proxy.set(Line::Open);
        recovery(store).await;
        put(store, "after").await.unwrap();
        assert!(!there(store, "meanwhile").await && there(store, "before").await);
    })
    .await;
}

/// As behind a firewall that forgot the connections: no reset comes, ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_server_keeps_no_connection_of_the_pool() {
    behind_proxy(3, async |store, proxy| {
        put(store, "before").await.unwrap();
        let mut busy = Vec::new();
        for _ in 0..3 {
            busy.push(store.begin().await.unwrap());
        }
        proxy.set(Line::Silent);
        for mut tx in busy {
            // Given up in the middle of a statement, as a request whose time is over.
            let waiting =
                timeout(Duration::from_millis(50), async { meta::get(&mut tx.conn(), "before").await.map(|_| ()) });
            waiting.await.unwrap_err();
        }
        let error = Error::from(put(store, "meanwhile").await.unwrap_err());
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        proxy.set(Line::Open);
        let took = recovery(store).await;
        assert!(took < Duration::from_secs(10), "{took:?}");
        // All three places of the pool are free again.
        let all = [store.begin().await.unwrap(), store.begin().await.unwrap(), store.begin().await.unwrap()];
        assert!(matches!(store.begin().await.unwrap_err(), StoreError::Unavailable(_)));
        drop(all);
        assert!(!there(store, "meanwhile").await);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_that_is_not_answered_is_in_doubt_and_never_a_success() {
    behind_proxy(3, async |store, proxy| {
        for (line, done) in [(Line::ResetBeforeCommit(0), false), (Line::ResetAfterCommit(0), true)] {
            let key = format!("{line:?}");
            proxy.set(line);
            let error = put(store, &key).await.unwrap_err();
            assert!(matches!(error, StoreError::InDoubt(_)), "{error:?}");
            let error = Error::from(error);
            assert_eq!(error.kind(), ErrorKind::Unavailable);
            assert!(error.message().contains("whether this change was made is not known"), "{error}");
            recovery(store).await;
            assert_eq!(there(store, &key).await, done, "{key}");
        }
        // The same where nothing is heard at all: the caller who gives up knows nothing, and the row says what happened.
        proxy.set(Line::SilentAfterCommit(0));
        timeout(Duration::from_millis(500), put(store, "silent")).await.unwrap_err();
        recovery(store).await;
        assert!(there(store, "silent").await);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_ends_its_sessions_is_used_again() {
    behind_proxy(3, async |store, _| {
        let mut tx = store.begin().await.unwrap();
        let Conn::Pg(killer) = tx.conn() else { unreachable!() };
        // Some are idle in the pool, one is in the middle of a transaction.
        let (idle, mut busy) = (store.begin().await.unwrap(), store.begin().await.unwrap());
        drop(idle);
        sqlx::query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()")
            .execute(killer)
            .await
            .unwrap();
        let error = meta::put_if_absent(&mut busy.conn(), "k", "v").await.unwrap_err();
        assert_eq!(Error::from(error).kind(), ErrorKind::Unavailable);
        drop((busy, tx));
        recovery(store).await;
        put(store, "k").await.unwrap();
    })
    .await;
}
