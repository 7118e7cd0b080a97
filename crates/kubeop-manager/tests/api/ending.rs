//! Beginning and ending: when a manager says that it is ready, and what it leaves behind.
//!
//! Invariant: a database that is copied after the end holds all that was acknowledged.

use crate::database::behind_the_back;
use crate::fixture::config;
use kubeop_core::clock::{SystemClock, SystemIds};
use kubeop_manager::{Deps, run};
use kubeop_store::{Options, Store, meta};
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

both! {
    async fn a_schema_that_is_behind_is_not_ready(fixture) {
        behind_the_back(&fixture.manager.store, "DELETE FROM _sqlx_migrations WHERE version > 3").await;
        let answer = fixture.call("GET", "/readyz", None, None).await;
        assert_eq!(answer.status, 503);
        assert!(answer.error().starts_with("not ready: the database's schema is at version 3 "), "{}", answer.body);
    }
}

/// The documented backup: stop, then copy the file.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_file_of_a_manager_that_ended_has_everything_without_its_write_ahead_log() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("kubeop.db");
    for round in 0..3 {
        let store = Store::open(&format!("sqlite://{}", path.display()), Options::default()).await.unwrap();
        store.migrate().await.unwrap();
        let mut tx = store.begin().await.unwrap();
        meta::put_if_absent(&mut tx.conn(), &format!("k{round}"), "v").await.unwrap();
        tx.commit().await.unwrap();
        let shutdown = CancellationToken::new();
        let deps = Deps {
            store,
            clock: Arc::new(SystemClock),
            ids: Arc::new(SystemIds),
            registry: Arc::default(),
            host: None,
            listener: TcpListener::bind("127.0.0.1:0").await.unwrap(),
        };
        let running = tokio::spawn(run(config(), deps, shutdown.clone()));
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
        shutdown.cancel();
        running.await.unwrap().unwrap();
        // At once, as the process would end now.
        let log = std::fs::metadata(folder.path().join("kubeop.db-wal")).map_or(0, |log| log.len());
        assert_eq!(log, 0, "round {round}");
        let copy = folder.path().join(format!("copy-{round}.db"));
        std::fs::copy(&path, &copy).unwrap();
        let copied = Store::open(&format!("sqlite://{}", copy.display()), Options::default()).await.unwrap();
        let found = meta::get(&mut copied.read().await.unwrap().conn(), &format!("k{round}")).await.unwrap();
        assert_eq!(found.as_deref(), Some("v"));
    }
}
