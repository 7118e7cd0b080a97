//! Rate limits and load shedding.
//!
//! Invariant: who is turned away is told so in our shape, and when to come again.

use crate::database;
use crate::fixture::{Answer, Fixture};
use crate::world::World;
use axum::body::{Body, Bytes};
use axum::http::{Request, StatusCode, header};
use kubeop_core::authz::{Actor, Role};
use kubeop_core::clock::Clock;
use std::sync::Arc;
use tokio::task::JoinSet;

fn told_when(answer: &Answer) {
    assert!(!answer.error().is_empty());
    assert_eq!(answer.headers["retry-after"], "1");
    assert!(answer.headers.contains_key("x-request-id"));
}

/// Another token of the same role.
fn minted(fixture: &Fixture, role: Role, n: u32) -> String {
    let actor = Actor { subject: format!("{}-{n}", role.claim()), role, token_id: Some(format!("jti-{n}")) };
    let now = fixture.clock.now();
    fixture.manager.tokens.sign(&actor, now, now + jiff::SignedDuration::from_mins(5)).unwrap()
}

async fn get(fixture: &Fixture, token: &str) -> Answer {
    fixture.call("GET", "/v1/projects", Some(token), None).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tenant_gets_no_more_by_more_tokens_and_takes_nothing_from_others() {
    database::sqlite(|store| async {
        let setup = Fixture::over(store.clone()).await;
        let world = World::new(&setup).await;
        // One a second, four at once.
        let fixture = Fixture::with(store, 1).await;
        // Whose project it is has to be seen once.
        assert_eq!(get(&fixture, &minted(&fixture, world.project(), 0)).await.status, StatusCode::OK);
        let mut refused = 0;
        for n in 1..=20 {
            let role = if n % 2 == 0 { world.tenant() } else { world.project() };
            let answer = get(&fixture, &minted(&fixture, role, n)).await;
            if answer.status == StatusCode::TOO_MANY_REQUESTS {
                told_when(&answer);
                refused += 1;
            }
        }
        assert!((14..=16).contains(&refused), "{refused} of 20 were refused");
        let theirs = Role::Tenant(kubeop_core::id::TenantId::parse(&world.theirs.tenant).unwrap());
        assert_eq!(get(&fixture, &minted(&fixture, theirs, 1)).await.status, StatusCode::OK);
        for n in 0..3 {
            assert_eq!(get(&fixture, &minted(&fixture, Role::Admin, n)).await.status, StatusCode::OK);
        }
        // Invalid tokens share one bucket, however many are made up.
        let mut statuses = Vec::new();
        for n in 0..10 {
            statuses.push(get(&fixture, &format!("made-up-{n}")).await.status);
        }
        assert_eq!(statuses.iter().filter(|status| **status == StatusCode::UNAUTHORIZED).count(), 4, "{statuses:?}");
        assert_eq!(fixture.call("GET", "/healthz", None, None).await.status, StatusCode::OK, "probes are let through");
    })
    .await;
}

/// A request whose body never comes.
fn stalled(token: &str, bytes: usize) -> Request<Body> {
    Request::post("/v1/usage/ingest")
        .header(header::AUTHORIZATION, format!("Bearer {token}"))
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::CONTENT_LENGTH, bytes)
        .body(Body::from_stream(futures::stream::pending::<Result<Bytes, std::io::Error>>()))
        .unwrap()
}

/// Sends requests that never end, one more than fit: what is turned away comes back.
async fn until_shed(fit: usize, bytes: usize, message: &'static str) {
    database::sqlite(move |store| async move {
        let fixture = Arc::new(Fixture::over(store).await);
        let token = fixture.token(Role::Admin);
        let mut calls = JoinSet::new();
        for _ in 0..=fit {
            let (fixture, request) = (Arc::clone(&fixture), stalled(&token, bytes));
            calls.spawn(async move { fixture.send(request).await });
        }
        let shed = calls.join_next().await.unwrap().unwrap();
        assert_eq!(shed.status, StatusCode::SERVICE_UNAVAILABLE, "{}", shed.body);
        told_when(&shed);
        assert_eq!(shed.error(), message);
        assert_eq!(fixture.call("GET", "/readyz", None, None).await.status, StatusCode::OK, "probes are let through");
        assert_eq!(calls.len(), fit);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn too_many_large_bodies_are_shed() {
    until_shed(4, 15 << 20, "too many large requests are under way").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn too_many_requests_are_shed() {
    until_shed(1024, 10, "too many requests are under way").await;
}
