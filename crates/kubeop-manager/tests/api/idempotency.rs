//! `Idempotency-Key`: once, and the same answer, whatever happens between.
//!
//! Invariant: walked from the document, so that a POST that is added is tried.

use crate::database::behind_the_back;
use crate::fixture::{Answer, Fixture, operations};
use crate::world::World;
use axum::body::Body;
use axum::http::{Request, StatusCode, header};
use jiff::SignedDuration;
use kubeop_core::authz::Role;
use kubeop_core::clock::Clock;
use kubeop_manager::jobs::answers;
use kubeop_store::idempotency;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use uuid::Uuid;

async fn post(fixture: &Fixture, role: Role, path: &str, key: &str, body: &str) -> Answer {
    let request = Request::post(path)
        .header(header::AUTHORIZATION, format!("Bearer {}", fixture.token(role)))
        .header(header::CONTENT_TYPE, "application/json")
        .header("Idempotency-Key", key)
        .body(Body::from(body.to_owned()))
        .unwrap();
    fixture.send(request).await
}

fn replayed(answer: &Answer) -> bool {
    answer.headers.contains_key("idempotency-replayed")
}

fn kept_headers(answer: &Answer) -> Vec<Option<String>> {
    ["location", "etag", "content-type", "cache-control"]
        .iter()
        .map(|name| answer.headers.get(*name).map(|value| value.to_str().unwrap().to_owned()))
        .collect()
}

async fn records(fixture: &Fixture) -> Vec<Value> {
    let answer = fixture.call("GET", "/v1/audit?limit=1000", Some(&fixture.token(Role::Admin)), None).await;
    answer.body.as_array().unwrap().clone()
}

/// How each POST is asked for; `None`: it needs a cluster that answers, and shares all of the code.
fn body_of(path: &str, world: &World) -> Option<Value> {
    match path {
        "/v1/tenants" => Some(json!({"name": "again", "clusterID": world.cluster})),
        "/v1/projects" => Some(json!({"tenantID": world.mine.tenant, "name": "again"})),
        "/v1/apps" => Some(json!({"projectID": world.mine.project, "name": "again", "image": "nginx:1"})),
        "/v1/jwt/project" => Some(json!({"ProjectID": world.mine.project})),
        "/v1/jwt/tenant" => Some(json!({"TenantID": world.mine.tenant})),
        "/v1/platform/prices" => Some(json!({"meter": "cpu_milli", "rate": "0.000002"})),
        "/v1/usage/ingest" => {
            Some(json!([{"ts": "2026-01-01T00:00:00Z", "tenant_id": world.mine.tenant, "cpu_milli": 1, "mem_mib": 2}]))
        }
        // The last needs a delivery that failed: events.rs.
        "/v1/clusters" | "/v1/platform/bootstrap" | "/v1/platform/autoscale" | "/v1/webhooks/dead/{id}/replay" => None,
        other => panic!("POST {other} is not tried"),
    }
}

both! {
    async fn every_post_is_carried_out_once_and_answers_the_same(fixture) {
        let world = World::new(&fixture).await;
        for path in operations().into_iter().filter(|(method, _)| method == "POST").map(|(_, path)| path) {
            let Some(body) = body_of(&path, &world) else { continue };
            let before = records(&fixture).await.len();
            let first = post(&fixture, Role::Admin, &path, "k1", &body.to_string()).await;
            assert!(first.status.is_success() && !replayed(&first), "{path} {}", first.body);
            assert_eq!(records(&fixture).await.len(), before + 1, "{path}");
            // White space and the order of members do not make another request; nor does the time one is willing to wait.
            let pretty = serde_json::to_string_pretty(&body).unwrap();
            let (again, path_again) =
                if path == "/v1/usage/ingest" { (body.to_string(), path.clone()) } else { (pretty, path.clone()) };
            let second = post(&fixture, Role::Admin, &path_again, "k1", &again).await;
            assert!(replayed(&second), "{path} {} {}", second.status, second.body);
            assert_eq!((second.status, &second.body), (first.status, &first.body), "{path}");
            assert_eq!(kept_headers(&second), kept_headers(&first), "{path}");
            let secret = first.headers.contains_key("cache-control");
            let log = records(&fixture).await;
            assert_eq!(log.len(), before + 1 + usize::from(secret), "{path}: a credential that is shown again is on record");
            if secret {
                assert_eq!(log.last().unwrap()["action"], "replay");
            }
            let other = post(&fixture, Role::Admin, &path, "k1", "{\"name\":\"other\"}").await;
            assert_eq!(other.status, StatusCode::CONFLICT, "{path}");
            assert!(other.error().contains("was used for another request"), "{}", other.body);
        }
    }

    async fn a_key_is_the_callers_own_and_of_one_path(fixture) {
        let world = World::new(&fixture).await;
        let body = |name: &str| json!({"projectID": world.mine.project, "name": name, "image": "nginx:1"}).to_string();
        let one = post(&fixture, world.tenant(), "/v1/apps", "k", &body("one")).await;
        assert_eq!(one.status, StatusCode::CREATED);
        for role in [Role::Admin, world.project()] {
            let other = post(&fixture, role, "/v1/apps", "k", &body("one")).await;
            assert_eq!(other.status, StatusCode::CONFLICT, "it is carried out, and the name is taken");
            assert!(other.error().contains("exists already"), "{}", other.body);
        }
        let project = json!({"tenantID": world.mine.tenant, "name": "p"}).to_string();
        assert_eq!(post(&fixture, world.tenant(), "/v1/projects", "k", &project).await.status, StatusCode::CREATED);
        // A query that changes what is done makes another request; `wait` does not.
        let waiting = post(&fixture, world.tenant(), "/v1/apps?wait=0", "k", &body("one")).await;
        assert_eq!((waiting.status, replayed(&waiting)), (StatusCode::CREATED, true));
    }

    async fn of_many_at_once_exactly_one_is_carried_out(fixture) {
        let world = World::new(&fixture).await;
        let fixture = Arc::new(fixture);
        let body = json!({"projectID": world.mine.project, "name": "many", "image": "nginx:1"}).to_string();
        let before = records(&fixture).await.len();
        let calls: Vec<_> = (0..24)
            .map(|_| {
                let (fixture, body) = (Arc::clone(&fixture), body.clone());
                tokio::spawn(async move {
                    loop {
                        let answer = post(&fixture, Role::Admin, "/v1/apps", "many", &body).await;
                        if answer.status != StatusCode::CONFLICT {
                            return answer;
                        }
                        assert!(answer.error().contains("still under way"), "{}", answer.body);
                        assert_eq!(answer.headers["retry-after"], "1");
                        tokio::time::sleep(Duration::from_millis(20)).await;
                    }
                })
            })
            .collect();
        let (mut ids, mut originals) = (std::collections::BTreeSet::new(), 0);
        for call in calls {
            let answer = call.await.unwrap();
            assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.body);
            ids.insert(answer.body["id"].to_string());
            originals += usize::from(!replayed(&answer));
        }
        assert_eq!((ids.len(), originals), (1, 1));
        assert_eq!(records(&fixture).await.len(), before + 1);
    }

    async fn a_caller_who_goes_away_after_the_change_finds_its_answer(fixture) {
        let world = World::new(&fixture).await;
        let fixture = Arc::new(fixture);
        let body = json!({"projectID": world.mine.project, "name": "gone", "image": "nginx:1"}).to_string();
        let before = records(&fixture).await.len();
        // The cluster never answers: the first call waits for what does not come, and is cut off.
        let call = {
            let (fixture, body) = (Arc::clone(&fixture), body.clone());
            tokio::spawn(async move { post(&fixture, Role::Admin, "/v1/apps?wait=60", "gone", &body).await })
        };
        while records(&fixture).await.len() == before {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        call.abort();
        assert!(call.await.is_err());
        let again = post(&fixture, Role::Admin, "/v1/apps", "gone", &body).await;
        assert_eq!((again.status, replayed(&again)), (StatusCode::CREATED, true), "{}", again.body);
        assert_eq!(again.headers["location"], format!("/v1/apps/{}", again.body["id"].as_str().unwrap()));
        assert_eq!(records(&fixture).await.len(), before + 1);
    }

    async fn what_was_refused_or_failed_leaves_the_key_free(fixture) {
        let world = World::new(&fixture).await;
        let tenant = |name: &str| json!({"name": name, "clusterID": world.cluster}).to_string();
        for bad in [tenant("Not a name"), tenant("mine"), "}{".to_owned(), "{\"zzz\":1}".to_owned()] {
            let answer = post(&fixture, Role::Admin, "/v1/tenants", "free", &bad).await;
            assert!(answer.status.is_client_error() && !answer.error().contains("Idempotency"), "{}", answer.body);
        }
        // The change and the answer are one: where the record fails there is neither.
        behind_the_back(&fixture.manager.store, "ALTER TABLE audit_record RENAME TO elsewhere").await;
        let answer = post(&fixture, Role::Admin, "/v1/tenants", "free", &tenant("new")).await;
        assert!(answer.status.is_server_error(), "{}", answer.body);
        behind_the_back(&fixture.manager.store, "ALTER TABLE elsewhere RENAME TO audit_record").await;
        let answer = post(&fixture, Role::Admin, "/v1/tenants", "free", &tenant("new")).await;
        assert_eq!((answer.status, replayed(&answer)), (StatusCode::CREATED, false), "{}", answer.body);
    }

    async fn a_crash_before_the_change_is_made_good_after_a_while_and_the_late_one_cannot_commit(fixture) {
        let world = World::new(&fixture).await;
        let body = json!({"name": "crash", "clusterID": world.cluster}).to_string();
        let done = post(&fixture, Role::Admin, "/v1/tenants", "crash", &body).await;
        // As a process that was killed between claim and change leaves it.
        let owner = Uuid::from_u128(7);
        let store = &fixture.manager.store;
        let literal = if store.is_shared() { format!("'{owner}'") } else { format!("x'{}'", owner.simple()) };
        let sql = format!("UPDATE idempotency_key SET answer = NULL, seed_id = NULL, owner = {literal}");
        assert_eq!(behind_the_back(store, &sql).await, 1);
        let id = done.body["id"].as_str().unwrap();
        fixture.admin("DELETE", &format!("/v1/tenants/{id}"), &json!(null), 204).await;
        let answer = post(&fixture, Role::Admin, "/v1/tenants", "crash", &body).await;
        assert_eq!((answer.status, answer.headers["retry-after"].to_str().unwrap()), (StatusCode::CONFLICT, "1"));
        fixture.clock.set(fixture.clock.now() + SignedDuration::from_secs(121));
        let answer = post(&fixture, Role::Admin, "/v1/tenants", "crash", &body).await;
        assert_eq!((answer.status, replayed(&answer)), (StatusCode::CREATED, false), "{}", answer.body);
        // The one that was thought dead is fenced.
        let mut tx = store.begin().await.unwrap();
        let digest: Vec<u8> = match tx.conn() {
            kubeop_store::Conn::Sqlite(c) => sqlx::query_scalar("SELECT digest FROM idempotency_key").fetch_one(c).await.unwrap(),
            kubeop_store::Conn::Pg(c) => sqlx::query_scalar("SELECT digest FROM idempotency_key").fetch_one(c).await.unwrap(),
        };
        assert!(!idempotency::hold(&mut tx.conn(), &digest, owner).await.unwrap());
        tx.rollback().await.unwrap();
    }

    async fn a_day_later_it_is_forgotten_and_collected(fixture) {
        let world = World::new(&fixture).await;
        let body = json!({"ProjectID": world.mine.project}).to_string();
        let first = post(&fixture, Role::Admin, "/v1/jwt/project", "day", &body).await;
        fixture.clock.set(fixture.clock.now() + SignedDuration::from_hours(23));
        assert_eq!(answers::round(&fixture.manager).await.unwrap(), 0);
        assert!(replayed(&post(&fixture, Role::Admin, "/v1/jwt/project", "day", &body).await));
        fixture.clock.set(fixture.clock.now() + SignedDuration::from_hours(2));
        let again = post(&fixture, Role::Admin, "/v1/jwt/project", "day", &body).await;
        assert!(!replayed(&again) && again.body["jti"] != first.body["jti"]);
        fixture.clock.set(fixture.clock.now() + SignedDuration::from_hours(25));
        assert_eq!(answers::round(&fixture.manager).await.unwrap(), 1);
    }

    async fn answers_are_stored_encrypted(fixture) {
        let world = World::new(&fixture).await;
        let body = json!({"ProjectID": world.mine.project}).to_string();
        let token = post(&fixture, Role::Admin, "/v1/jwt/project", "secret-key", &body).await.body["token"].clone();
        let token = token.as_str().unwrap().as_bytes();
        let mut tx = fixture.manager.store.begin().await.unwrap();
        let row: (Vec<u8>, Vec<u8>, Vec<u8>) = match tx.conn() {
            kubeop_store::Conn::Sqlite(c) => sqlx::query_as("SELECT digest, request, answer FROM idempotency_key").fetch_one(c).await.unwrap(),
            kubeop_store::Conn::Pg(c) => sqlx::query_as("SELECT digest, request, answer FROM idempotency_key").fetch_one(c).await.unwrap(),
        };
        assert_eq!((row.0.len(), row.1.len()), (32, 32));
        assert!(row.2.len() > token.len());
        assert!(!row.2.windows(16).any(|part| token.windows(16).any(|secret| secret == part)));
    }

    async fn a_malformed_key_is_refused_but_only_to_whom_may_call(fixture) {
        let world = World::new(&fixture).await;
        let body = json!({"name": "key", "clusterID": world.cluster}).to_string();
        for key in ["", " ", "a b", "tab\t", "ü", &"x".repeat(256)] {
            let answer = post(&fixture, Role::Admin, "/v1/tenants", key, &body).await;
            assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{key:?}");
            assert!(answer.error().starts_with("Idempotency-Key"), "{}", answer.body);
            assert_eq!(post(&fixture, world.tenant(), "/v1/tenants", key, &body).await.status, StatusCode::FORBIDDEN);
        }
        let request = Request::post("/v1/tenants").header("Idempotency-Key", "ok").body(Body::from("{}")).unwrap();
        assert_eq!(fixture.send(request).await.status, StatusCode::UNAUTHORIZED);
        let longest = "x".repeat(255);
        assert_eq!(post(&fixture, Role::Admin, "/v1/tenants", &longest, &body).await.status, StatusCode::CREATED);
    }
}
