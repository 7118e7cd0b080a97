//! Rate limits and load shedding.
//!
//! Invariant: who is turned away is told so in our shape, and when to come again.

use crate::database;
use crate::fixture::{Answer, Fixture};
use crate::world::World;
use axum::body::{Body, Bytes};
use axum::http::{Request, StatusCode, header};
use kubeop_core::authz::{Actor, Role, system_scope};
use kubeop_core::clock::Clock;
use kubeop_manager::http::body::BodyTime;
use kubeop_manager::http::gate::Gate;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tower::ServiceExt;

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
        // Whose project it is has to be seen once where its token does not tell.
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

fn begun(bytes: usize) -> impl futures::Stream<Item = Result<Bytes, std::io::Error>> + Send + 'static {
    let first = futures::stream::iter([Ok(Bytes::from(vec![b' '; bytes]))]);
    futures::StreamExt::chain(first, futures::stream::pending())
}

/// A request of whose body all comes but the last byte.
fn stalled(token: &str, path: &str, bytes: usize) -> Request<Body> {
    Request::post(path)
        .header(header::AUTHORIZATION, format!("Bearer {token}"))
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::CONTENT_LENGTH, bytes)
        .body(Body::from_stream(begun(bytes - 1)))
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
        if bytes > 1 << 20 {
            // What has no large body needs none of their room.
            assert_eq!(get(&fixture, &token).await.status, StatusCode::OK);
            let made = fixture.call("POST", "/v1/projects", Some(&token), Some("{}")).await;
            assert_eq!(made.status, StatusCode::BAD_REQUEST, "{}", made.body);
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn too_many_large_bodies_are_shed() {
    until_shed(4, 16 << 20, "too many large requests are under way").await;
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

/// Tokens of projects that this process has not seen yet are their tenant's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_bodies_of_many_fresh_projects_take_no_room_from_others() {
    database::sqlite(|store| async {
        let setup = Fixture::over(store.clone()).await;
        let world = World::new(&setup).await;
        let mut tokens = Vec::new();
        for n in 0..22 {
            let project = serde_json::json!({"tenantID": world.mine.tenant, "name": format!("fresh-{n}")});
            let id = setup.admin("POST", "/v1/projects", &project, 201).await["id"].clone();
            let token = setup.admin("POST", "/v1/jwt/project", &serde_json::json!({"ProjectID": id}), 200).await;
            tokens.push(token["token"].as_str().unwrap().to_owned());
        }
        let fixture = Arc::new(Fixture::over(store).await);
        let mut calls = JoinSet::new();
        for token in &tokens {
            let (fixture, request) = (Arc::clone(&fixture), stalled(token, "/v1/apps", 3 << 20));
            calls.spawn(async move { fixture.send(request).await });
        }
        for _ in 0..17 {
            let refused = calls.join_next().await.unwrap().unwrap();
            assert_eq!(refused.status, StatusCode::TOO_MANY_REQUESTS, "{}", refused.body);
            told_when(&refused);
        }
        assert_eq!(calls.len(), 5);
        let theirs = Role::Tenant(kubeop_core::id::TenantId::parse(&world.theirs.tenant).unwrap());
        for role in [Role::Admin, theirs] {
            let body = format!(r#"{{"tenantID":"{}","name":"p-{}"}}"#, world.theirs.tenant, role.claim());
            let made = fixture.call("POST", "/v1/projects", Some(&fixture.token(role)), Some(&body)).await;
            assert_eq!(made.status, StatusCode::CREATED, "{}", made.body);
        }
    })
    .await;
}

/// Tokens of projects that are gone are no way around the rate.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn projects_of_no_known_tenant_share_one_rate() {
    database::sqlite(|store| async {
        let fixture = Fixture::with(store, 1).await;
        let mut statuses = Vec::new();
        for n in 0..10 {
            let gone = Role::Project(kubeop_core::id::ProjectId(fixture.manager.ids.next()));
            statuses.push(get(&fixture, &minted(&fixture, gone, n)).await.status);
        }
        assert_eq!(statuses.iter().filter(|status| **status == StatusCode::UNAUTHORIZED).count(), 4, "{statuses:?}");
    })
    .await;
}

/// An answer that is not taken, as the listener holds it.
async fn untaken(fixture: &Fixture, path: &str, token: &str) -> axum::response::Response {
    let request = Request::get(path).header(header::AUTHORIZATION, format!("Bearer {token}"));
    fixture.router().oneshot(request.body(Body::empty()).unwrap()).await.unwrap()
}

/// Has an app answer with 2 MiB.
async fn grow(fixture: &Fixture, app: &str) {
    let mut tx = fixture.manager.store.begin().await.unwrap();
    let id = kubeop_core::id::AppId::parse(app).unwrap();
    let mut row = kubeop_store::app::get(&mut tx.conn(), system_scope(), id).await.unwrap().unwrap();
    row.spec = serde_json::json!({"padding": "x".repeat(2 << 20)});
    assert!(kubeop_store::app::update(&mut tx.conn(), &mut row, fixture.clock.now()).await.unwrap());
    tx.commit().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_that_one_tenant_does_not_take_take_no_room_from_others() {
    database::sqlite(|store| async {
        let fixture = Fixture::over(store).await;
        let world = World::new(&fixture).await;
        grow(&fixture, &world.mine.app).await;
        grow(&fixture, &world.theirs.app).await;
        let mine = fixture.token(world.tenant());
        let path = |app: &str| format!("/v1/apps/{app}");
        let mut held = Vec::new();
        let mut refused = 0;
        for _ in 0..40 {
            let answer = untaken(&fixture, &path(&world.mine.app), &mine).await;
            refused += usize::from(answer.status() == StatusCode::TOO_MANY_REQUESTS);
            held.push(answer);
        }
        assert_eq!(refused, 37, "of 8 MiB");
        // Nor does anybody by the document, which is in memory once.
        for _ in 0..130 {
            let answer = untaken(&fixture, "/openapi.json", "none").await;
            assert_eq!(answer.status(), StatusCode::OK);
            held.push(answer);
        }
        let told = fixture.call("GET", &path(&world.mine.app), Some(&mine), None).await;
        told_when(&told);
        assert!(told.error().contains("large answers"), "{}", told.body);
        assert_eq!(get(&fixture, &mine).await.status, StatusCode::OK, "small ones are not concerned");
        let theirs = Role::Tenant(kubeop_core::id::TenantId::parse(&world.theirs.tenant).unwrap());
        for role in [theirs, Role::Admin] {
            let answer = fixture.call("GET", &path(&world.theirs.app), Some(&fixture.token(role)), None).await;
            assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
        }
        held.clear();
        assert_eq!(fixture.call("GET", &path(&world.mine.app), Some(&mine), None).await.status, StatusCode::OK);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_is_under_way_until_its_answer_is_taken() {
    database::sqlite(|store| async {
        let fixture = Fixture::over(store).await;
        let world = World::new(&fixture).await;
        let mine = fixture.token(world.tenant());
        let mut held = Vec::new();
        for _ in 0..64 {
            held.push(untaken(&fixture, "/v1/projects", &mine).await);
        }
        assert_eq!(get(&fixture, &mine).await.status, StatusCode::TOO_MANY_REQUESTS);
        held.pop();
        assert_eq!(get(&fixture, &mine).await.status, StatusCode::OK);
    })
    .await;
}

/// 3 MB of `[0]` would be 400 MiB as values.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_of_a_million_values_is_refused() {
    database::sqlite(|store| async {
        let fixture = Fixture::over(store).await;
        let admin = fixture.token(Role::Admin);
        let body = format!("[{}]", vec!["[0]"; 700_000].join(","));
        for (path, body) in [("/v1/apps", body.clone()), ("/v1/usage/ingest", format!("[{body}]"))] {
            let answer = fixture.call("POST", path, Some(&admin), Some(&body)).await;
            assert_eq!(answer.status, StatusCode::BAD_REQUEST);
            assert!(answer.error().contains("more than 100000 values"), "{}", answer.body);
        }
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
