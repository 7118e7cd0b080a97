//! PostgreSQL that goes away under the API: told so, nothing acknowledged that was not committed, and used again when it is back.

use crate::database::proxied;
use crate::fixture::{Answer, Fixture};
use crate::pg_proxy::{Line, PgProxy};
use crate::world::add_cluster;
use axum::body::Body;
use axum::http::{Request, StatusCode, header};
use kubeop_core::authz::Role;
use kubeop_manager::sync::{Pace, supervise};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

const PATIENCE: Duration = Duration::from_secs(30);

async fn until_served(fixture: &Fixture, clusters: i64) {
    let begun = Instant::now();
    while fixture.manager.metrics.clusters_served.get() != clusters {
        assert!(begun.elapsed() < PATIENCE, "not {clusters} clusters are served");
        sleep(Duration::from_millis(20)).await;
    }
}

async fn until_ready(fixture: &Fixture, ready: bool) {
    let begun = Instant::now();
    while (fixture.call("GET", "/readyz", None, None).await.status == StatusCode::OK) != ready {
        assert!(begun.elapsed() < PATIENCE, "ready is not {ready}");
        sleep(Duration::from_millis(20)).await;
    }
}

async fn post(fixture: &Fixture, key: &str, body: &str) -> Answer {
    let request = Request::post("/v1/tenants")
        .header(header::AUTHORIZATION, format!("Bearer {}", fixture.token(Role::Admin)))
        .header(header::CONTENT_TYPE, "application/json")
        .header("Idempotency-Key", key)
        .body(Body::from(body.to_owned()))
        .unwrap();
    fixture.send(request).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_is_cut_off_is_told_in_our_shape_and_used_again() {
    proxied(|store, proxy| async move {
        let fixture = Fixture::over(store).await;
        let token = fixture.token(Role::Admin);
        until_ready(&fixture, true).await;
        for line in [Line::Cut, Line::Silent] {
            proxy.set(line);
            // Within a second no connection is asked whether it lives, so that the first may be used in vain.
            until_ready(&fixture, false).await;
            for (method, path, body) in
                [("GET", "/v1/tenants", None), ("POST", "/v1/tenants", Some(r#"{"name":"x","clusterID":"y"}"#))]
            {
                let answer = fixture.call(method, path, Some(&token), body).await;
                assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE, "{}", answer.body);
                assert_eq!(
                    (answer.error(), &answer.headers["retry-after"]),
                    ("the database is not available", &"1".parse().unwrap())
                );
            }
            assert_eq!(fixture.call("GET", "/healthz", None, None).await.status, StatusCode::OK);
            proxy.set(Line::Open);
            until_ready(&fixture, true).await;
            assert_eq!(fixture.call("GET", "/v1/tenants", Some(&token), None).await.status, StatusCode::OK);
        }
    })
    .await;
}

/// What followed the commit failed, and the answer was that of a change that was not made.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_committed_change_was_answered_as_if_it_had_failed() {
    proxied(|store, proxy| async move {
        let fixture = Fixture::over(store).await;
        let tenant = fixture.tenant("one").await;
        let token = fixture.token(Role::Admin);
        let path = format!("/v1/tenants/{tenant}");
        let waiting = format!("{path}?wait=20");
        let change = r#"{"labels":{"a":"b"}}"#;
        let (answer, ()) = tokio::join!(fixture.call("PATCH", &waiting, Some(&token), Some(change)), async {
            while fixture.call("GET", &path, Some(&token), None).await.body["version"] != 2 {
                sleep(Duration::from_millis(20)).await;
            }
            proxy.set(Line::Cut);
        });
        assert_eq!((answer.status, &answer.body["labels"]["a"]), (StatusCode::OK, &"b".into()), "{}", answer.body);
        assert_eq!(answer.headers["etag"], "\"2\"");
    })
    .await;
}

/// The first COMMIT of such a request claims its key, the second is the change's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_in_doubt_is_no_success_and_with_its_key_a_retry_has_one_effect() {
    proxied(|store, proxy| async move {
        let fixture = Fixture::over(store).await;
        let cluster = add_cluster(&fixture, "one").await;
        let lines = [
            Line::ResetBeforeCommit(0),
            Line::ResetAfterCommit(0),
            Line::ResetBeforeCommit(1),
            Line::ResetAfterCommit(1),
        ];
        for (n, line) in lines.into_iter().enumerate() {
            let (key, name) = (format!("key-{n}"), format!("tenant-{n}"));
            let body = format!(r#"{{"name":"{name}","clusterID":"{}"}}"#, cluster.id);
            proxy.set(line);
            let answer = post(&fixture, &key, &body).await;
            assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE, "{line:?}: {}", answer.body);
            assert!(answer.error().contains("whether this change was made is not known"), "{}", answer.body);
            proxy.set(Line::Open);
            let again = post(&fixture, &key, &body).await;
            assert_eq!(again.status, StatusCode::CREATED, "{line:?}: {}", again.body);
            assert_eq!(
                again.headers.contains_key("idempotency-replayed"),
                line == Line::ResetAfterCommit(1),
                "{line:?}"
            );
        }
        let audit = fixture.call("GET", "/v1/audit?limit=1000", Some(&fixture.token(Role::Admin)), None).await;
        let made = audit.body.as_array().unwrap().iter().filter(|record| record["action"] == "create").count();
        assert_eq!(made, lines.len(), "each has one effect: {}", audit.body);
    })
    .await;
}

fn quick() -> Pace {
    Pace {
        every: Duration::from_millis(50),
        round: Duration::from_millis(300),
        trust: Duration::from_millis(900),
        dead_after: Duration::from_millis(1500),
    }
}

/// A lease that cannot be renewed is not trusted: while nothing is heard of the database, another replica may serve the cluster.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_whose_database_is_silent_stops_serving_and_begins_again() {
    proxied(|store, proxy: Arc<PgProxy>| async move {
        let fixture = Fixture::over(store).await;
        add_cluster(&fixture, "one").await;
        add_cluster(&fixture, "two").await;
        let end = CancellationToken::new();
        let supervising = tokio::spawn(supervise(Arc::clone(&fixture.manager), quick(), end.clone()));
        until_served(&fixture, 2).await;
        for line in [Line::Silent, Line::Cut] {
            let begun = Instant::now();
            proxy.set(line);
            until_served(&fixture, 0).await;
            assert!(begun.elapsed() < quick().dead_after * 4, "{line:?}: {:?}", begun.elapsed());
            proxy.set(Line::Open);
            until_served(&fixture, 2).await;
        }
        end.cancel();
        supervising.await.unwrap();
    })
    .await;
}
