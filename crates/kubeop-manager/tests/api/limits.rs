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
use kubeop_manager::http::body::BodyTime;
use kubeop_manager::http::layers::Gate;
use std::sync::Arc;
use std::time::Duration;
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
fn stalled(token: &str, path: &str, bytes: usize) -> Request<Body> {
    Request::post(path)
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
            let (fixture, request) = (Arc::clone(&fixture), stalled(&token, "/v1/usage/ingest", bytes));
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

/// Bodies that never come, from one tenant: it is told to wait, and everybody else goes on, also where the database has one connection.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tenant_that_lets_its_requests_hang_takes_no_room_from_another() {
    database::sqlite(|store| async {
        let fixture = Arc::new(Fixture::over(store).await);
        let world = World::new(&fixture).await;
        let theirs = fixture.token(Role::Tenant(kubeop_core::id::TenantId::parse(&world.theirs.tenant).unwrap()));
        let mut calls = JoinSet::new();
        for n in 0..80 {
            let request = stalled(&minted(&fixture, world.tenant(), n), "/v1/projects", 100);
            let fixture = Arc::clone(&fixture);
            calls.spawn(async move { fixture.send(request).await });
        }
        for _ in 0..16 {
            let refused = calls.join_next().await.unwrap().unwrap();
            assert_eq!(refused.status, StatusCode::TOO_MANY_REQUESTS, "{}", refused.body);
            told_when(&refused);
            assert_eq!(refused.error(), "this caller has more requests under way than allowed");
        }
        for n in 0..10 {
            let body = format!(r#"{{"tenantID":"{}","name":"p{n}"}}"#, world.theirs.tenant);
            let made = fixture.call("POST", "/v1/projects", Some(&theirs), Some(&body)).await;
            assert_eq!(made.status, StatusCode::CREATED, "{}", made.body);
            assert_eq!(get(&fixture, &minted(&fixture, world.tenant(), n)).await.status, StatusCode::TOO_MANY_REQUESTS);
        }
        assert_eq!(calls.len(), 64, "the others wait");
        // Who goes away makes room.
        calls.abort_all();
        while calls.join_next().await.is_some() {}
        assert_eq!(get(&fixture, &minted(&fixture, world.tenant(), 1)).await.status, StatusCode::OK);
        assert_eq!(fixture.manager.metrics.in_flight.get(), 0, "requests that were given up are not under way");
    })
    .await;
}

/// Large bodies of one tenant leave room for those of others.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tenant_has_a_share_of_the_memory_for_bodies() {
    database::sqlite(|store| async {
        let fixture = Arc::new(Fixture::over(store).await);
        let world = World::new(&fixture).await;
        let theirs = Role::Tenant(kubeop_core::id::TenantId::parse(&world.theirs.tenant).unwrap());
        let mut calls = JoinSet::new();
        let mut send = |role: Role, n: u32| {
            let request = stalled(&minted(&fixture, role, n), "/v1/apps", 3 << 20);
            let fixture = Arc::clone(&fixture);
            calls.spawn(async move { fixture.send(request).await });
        };
        (0..7).for_each(|n| send(world.tenant(), n));
        (0..5).for_each(|n| send(theirs, n));
        for _ in 0..2 {
            let refused = calls.join_next().await.unwrap().unwrap();
            assert_eq!(refused.status, StatusCode::TOO_MANY_REQUESTS, "{}", refused.body);
        }
        assert_eq!(calls.len(), 10);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_does_not_come_in_time_is_told_so() {
    database::sqlite(|store| async {
        let time = BodyTime { idle: Duration::from_millis(100), whole: Duration::from_millis(400) };
        let fixture = Fixture::gated(store, Gate::new(0).with_body_time(time)).await;
        let token = fixture.token(Role::Admin);
        let trickle = futures::stream::unfold((), |()| async {
            tokio::time::sleep(Duration::from_millis(30)).await;
            Some((Ok::<_, std::io::Error>(Bytes::from_static(b" ")), ()))
        });
        let mut slow = stalled(&token, "/v1/tenants", 1000);
        *slow.body_mut() = Body::from_stream(trickle);
        for request in [stalled(&token, "/v1/tenants", 10), slow] {
            let answer = fixture.send(request).await;
            assert_eq!(answer.status, StatusCode::REQUEST_TIMEOUT, "{}", answer.body);
            assert!(answer.error().starts_with("the body did not come in time"), "{}", answer.body);
            assert_eq!(answer.headers["connection"], "close");
        }
    })
    .await;
}
