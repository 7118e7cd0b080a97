//! Events to the outside: what is told, in which order, and what happens when the receiver fails.
//!
//! Invariant: what is committed is told at least once, what is not committed never; delivery is the real one, over HTTP.

use crate::database::{self, behind_the_back};
use crate::fixture::{Fixture, config};
use crate::receiver::{Arrival, Receiver, Reply, SECRET, signature};
use crate::world::World;
use axum::body::Body;
use axum::http::Request;
use jiff::{SignedDuration, Timestamp};
use kubeop_core::authz::{Role, system_scope};
use kubeop_core::clock::Clock;
use kubeop_manager::config::Config;
use kubeop_manager::events;
use kubeop_manager::events::hook::Target;
use kubeop_manager::metrics::HookLabels;
use kubeop_store::audit::{self, AuditFilter};
use kubeop_store::{Page, Store, event_delivery};
use secrecy::SecretString;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

/// A manager that tells a receiver of everything.
async fn telling(store: Store, receiver: &Receiver) -> Fixture {
    Fixture::configured(store, Config { event_hook: Some(receiver.target()), ..config() }).await
}

/// Delivers until it is dropped, as a process that is killed.
fn deliver(fixture: &Fixture) -> AbortOnDropHandle<()> {
    let serving = events::serve(Arc::clone(&fixture.manager), CancellationToken::new());
    AbortOnDropHandle::new(tokio::spawn(serving))
}

async fn policy(fixture: &Fixture, registry: &str) {
    fixture.admin("PUT", "/v1/platform/policy", &json!({"imageAllowlist": [registry]}), 200).await;
}

async fn pending(fixture: &Fixture) -> i64 {
    event_delivery::figures(&mut fixture.manager.store.read().await.unwrap().conn()).await.unwrap().pending
}

async fn empty(fixture: &Fixture) {
    let waiting = async {
        while pending(fixture).await > 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_mins(1), waiting)
        .await
        .unwrap_or_else(|_| panic!("the outbox does not become empty"));
}

/// Waits until so many attempts failed, as far as it is recorded.
async fn failed(fixture: &Fixture, count: u64) {
    let labels = HookLabels { hook: "events" };
    let waiting = async {
        while fixture.manager.metrics.events.failed.get_or_create(&labels).get() < count {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_mins(1), waiting).await.unwrap_or_else(|_| panic!("no failure is recorded"));
}

fn later(fixture: &Fixture, by: SignedDuration) {
    fixture.clock.set(fixture.clock.now() + by);
}

async fn dead(fixture: &Fixture) -> Value {
    fixture.admin("GET", "/v1/webhooks/dead", &json!({}), 200).await
}

/// Fails unless it is signed and says what every event says.
fn check(arrival: &Arrival) {
    assert_eq!(arrival.path, "/hook?token=in-the-query");
    assert_eq!(arrival.header("content-type"), "application/cloudevents+json; charset=utf-8");
    assert_eq!(arrival.header("user-agent"), "kubeop/0");
    assert_eq!(arrival.header("x-kubeop-event"), arrival.kind());
    assert_eq!(arrival.header("x-kubeop-signature"), signature(&arrival.body));
    let time = arrival.header("x-kubeop-timestamp");
    let timed = [time.as_bytes(), b".", &arrival.body].concat();
    assert_eq!(arrival.header("x-kubeop-timestamp-signature"), signature(&timed));
    let event = &arrival.event;
    assert_eq!((&event["specversion"], &event["datacontenttype"]), (&json!("1.0"), &json!("application/json")));
    assert!(event["source"].as_str().unwrap().starts_with("urn:uuid:"));
    assert!(event["time"].as_str().unwrap().parse::<Timestamp>().is_ok());
    let data = &event["data"];
    for field in ["action", "kind", "id"] {
        assert!(data[field].is_string(), "{event}");
    }
    assert!(data["actor"]["role"] == "admin", "{event}");
}

both! {
    async fn nothing_is_written_for_nobody(fixture) {
        World::new(&fixture).await;
        assert_eq!(pending(&fixture).await, 0);
    }
}

/// `name::sqlite` and `name::postgres` over a store alone.
macro_rules! on_both {
    ($(async fn $name:ident($store:ident) $body:block)*) => {$(
        mod $name {
            use super::*;

            async fn check_it($store: Store) $body

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn sqlite() {
                database::sqlite(check_it).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn postgres() {
                database::postgres(check_it).await;
            }
        }
    )*};
}

on_both! {
    async fn every_change_is_told_signed_and_in_order(store) {
        let receiver = Receiver::start().await;
        let fixture = telling(store, &receiver).await;
        let world = World::new(&fixture).await;
        let delivering = deliver(&fixture);
        let (app, project) = (&world.mine.app, &world.mine.project);
        for team in ["a", "b", "c"] {
            fixture.admin("PATCH", &format!("/v1/apps/{app}"), &json!({"labels": {"team": team}}), 200).await;
        }
        policy(&fixture, "docker.io").await;
        let price = json!({"meter": "cpu_milli", "rate": "0.5", "effective_from": "2199-01-01T00:00:00Z"});
        fixture.admin("POST", "/v1/platform/prices", &price, 201).await;
        let hour = fixture.clock.now().to_string();
        let usage = json!([{"ts": hour, "tenant_id": world.mine.tenant, "cpu_milli": 1, "mem_mib": 1}]);
        fixture.admin("POST", "/v1/usage/ingest", &usage, 200).await;
        fixture.admin("DELETE", &format!("/v1/jwt/{}", world.mine.jti), &json!({}), 204).await;
        fixture.admin("DELETE", &format!("/v1/apps/{app}"), &json!({}), 204).await;
        fixture.admin("DELETE", &format!("/v1/projects/{project}"), &json!({}), 204).await;
        // Refused, so not told.
        fixture.admin("DELETE", &format!("/v1/tenants/{}", world.mine.tenant), &json!({}), 409).await;
        empty(&fixture).await;
        let arrived = receiver.arrived();
        arrived.iter().for_each(check);

        // All that is on record as done was told, under the record's id; besides, that the app and the project are gone.
        let filter = AuditFilter::default();
        let mut read = fixture.manager.store.read().await.unwrap();
        let records = audit::list(&mut read.conn(), system_scope(), &filter, &Page::first(1000)).await.unwrap();
        let recorded: BTreeSet<String> =
            records.iter().filter(|record| record.outcome == "done").map(|record| record.id.to_string()).collect();
        let told: BTreeSet<String> = arrived
            .iter()
            .filter(|arrival| arrival.kind().rsplit('.').next() != Some("gone"))
            .map(|arrival| arrival.event["id"].as_str().unwrap().to_owned())
            .collect();
        assert_eq!(told, recorded);
        assert_eq!(arrived.len(), recorded.len() + 2);

        let mut by_subject: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for arrival in &arrived {
            by_subject.entry(arrival.subject()).or_default().push(arrival.kind().strip_prefix("io.kubeop.").unwrap());
        }
        assert_eq!(
            by_subject[format!("app/{app}").as_str()],
            ["app.created", "app.updated", "app.updated", "app.updated", "app.deleted", "app.gone"]
        );
        assert_eq!(by_subject[format!("project/{project}").as_str()], ["project.created", "project.deleted", "project.gone"]);
        assert_eq!(by_subject["policy/platform"], ["policy.updated"]);
        assert_eq!(by_subject[format!("token/{}", world.mine.jti).as_str()], ["token.issued", "token.revoked"]);
        assert!(by_subject.contains_key("price/cpu_milli@2199-01-01T00:00:00Z"), "{:?}", by_subject.keys());
        assert!(arrived.iter().any(|arrival| arrival.kind() == "io.kubeop.usage.ingested"));
        let sequences: BTreeMap<&str, Vec<&str>> = arrived.iter().fold(BTreeMap::new(), |mut all, arrival| {
            all.entry(arrival.subject()).or_default().push(arrival.event["sequence"].as_str().unwrap());
            all
        });
        assert!(sequences.values().all(|places| places.is_sorted_by(|one, next| one < next)), "{sequences:?}");

        let made = arrived.iter().find(|arrival| arrival.kind() == "io.kubeop.app.created").unwrap();
        let data = &made.event["data"];
        assert_eq!(data["name"], "site");
        assert_eq!((&data["project_id"], &data["tenant_id"]), (&json!(project), &json!(world.mine.tenant)));
        assert_eq!((&data["cluster_id"], &data["id"]), (&json!(world.cluster), &json!(app)));
        let record = records.iter().find(|record| made.event["id"] == record.id.to_string()).unwrap();
        assert_eq!(data["request_id"], record.request_id);
        drop(delivering);
    }

    async fn what_is_not_committed_is_not_told_and_what_cannot_be_told_is_not_committed(store) {
        let receiver = Receiver::start().await;
        let fixture = telling(store, &receiver).await;
        let tenant = fixture.tenant("one").await;
        let told = pending(&fixture).await;
        fixture.admin("PATCH", &format!("/v1/tenants/{tenant}"), &json!({"name": "two"}), 400).await;
        assert_eq!(pending(&fixture).await, told);
        behind_the_back(&fixture.manager.store, "ALTER TABLE event_delivery RENAME TO nowhere").await;
        let label = json!({"labels": {"a": "b"}});
        let answer = fixture.call("PATCH", &format!("/v1/tenants/{tenant}"), Some(&fixture.token(Role::Admin)), Some(&label.to_string())).await;
        assert_eq!(answer.status, 500);
        let row = fixture.admin("GET", &format!("/v1/tenants/{tenant}"), &json!({}), 200).await;
        assert!(row["labels"].get("a").is_none(), "{row}");
    }

    async fn a_receiver_that_fails_is_asked_again_and_again_and_then_given_up_on(store) {
        let receiver = Receiver::start().await;
        let fixture = telling(store, &receiver).await;
        let delivering = deliver(&fixture);
        receiver.answer([Reply::Status(500), Reply::Elsewhere, Reply::Later(429, 600), Reply::Endless]);
        policy(&fixture, "docker.io").await;
        failed(&fixture, 1).await;
        // Not before its time: 4 s at least.
        later(&fixture, SignedDuration::from_secs(3));
        tokio::time::sleep(Duration::from_millis(2500)).await;
        assert_eq!(receiver.arrived().len(), 1);
        later(&fixture, SignedDuration::from_secs(4));
        failed(&fixture, 2).await;
        later(&fixture, SignedDuration::from_secs(13));
        failed(&fixture, 3).await;
        // It asked for ten minutes, and rests; another replica, or this one after a restart, knows that of the event alone.
        drop(delivering);
        later(&fixture, SignedDuration::from_secs(599));
        let delivering = deliver(&fixture);
        tokio::time::sleep(Duration::from_millis(1500)).await;
        assert_eq!(receiver.arrived().len(), 3);
        later(&fixture, SignedDuration::from_secs(2));
        empty(&fixture).await;
        let arrived = receiver.arrived();
        let attempts: Vec<&str> = arrived.iter().map(|arrival| arrival.header("x-kubeop-attempt")).collect();
        assert_eq!(attempts, ["1", "2", "3", "4"]);
        for again in &arrived {
            check(again);
            assert_eq!(again.body, arrived[0].body);
            assert_eq!(again.header("x-kubeop-delivery"), arrived[0].header("x-kubeop-delivery"));
        }
        assert!(arrived[3].header("x-kubeop-timestamp") > arrived[0].header("x-kubeop-timestamp"));

        // 410: at once. After a day: whatever is left.
        receiver.answer([Reply::Status(410)]);
        receiver.answer_always(Reply::Status(503));
        policy(&fixture, "ghcr.io").await;
        failed(&fixture, 4).await;
        let letters = dead(&fixture).await;
        assert_eq!((&letters[0]["last_status"], &letters[0]["attempts"]), (&json!(410), &json!(1)));
        policy(&fixture, "quay.io").await;
        failed(&fixture, 5).await;
        drop(delivering);
        later(&fixture, SignedDuration::from_hours(24));
        let _delivering = deliver(&fixture);
        let waiting = async {
            while dead(&fixture).await[1].is_null() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(Duration::from_mins(1), waiting).await.unwrap_or_else(|_| panic!("it is not given up"));
        let letters = dead(&fixture).await;
        assert_eq!(letters[1]["last_error"], "the receiver answered 503");
        assert_eq!(fixture.manager.metrics.events.given_up.get(), 2);
        // No word of where it was to go but the hook's name.
        assert!(!letters.to_string().contains("in-the-query") && !letters.to_string().contains(SECRET), "{letters}");
    }

    async fn dead_letters_are_paged_replayed_and_on_record(store) {
        let receiver = Receiver::start().await;
        receiver.answer_always(Reply::Status(410));
        let fixture = telling(store, &receiver).await;
        let delivering = deliver(&fixture);
        let tenant = fixture.tenant("one").await;
        for registry in ["a.io", "b.io", "c.io", "d.io"] {
            policy(&fixture, registry).await;
        }
        failed(&fixture, 5).await;
        let letters = dead(&fixture).await;
        assert_eq!(letters.as_array().unwrap().len(), 5);
        assert_eq!((&letters[0]["hook"], &letters[0]["event"]["specversion"]), (&json!("events"), &json!("1.0")));

        let admin = fixture.token(Role::Admin);
        let mut paged = Vec::new();
        let mut path = "/v1/webhooks/dead?limit=2".to_owned();
        loop {
            let answer = fixture.call("GET", &path, Some(&admin), None).await;
            paged.extend(answer.body.as_array().unwrap().clone());
            let Some(link) = answer.headers.get("link") else { break };
            link.to_str().unwrap().trim_start_matches('<').split('>').next().unwrap().clone_into(&mut path);
        }
        assert_eq!(json!(paged), letters);
        let count = async |query: &str| {
            let answer = fixture.call("GET", &format!("/v1/webhooks/dead?{query}"), Some(&admin), None).await;
            answer.body.as_array().unwrap_or_else(|| panic!("{}", answer.body)).len()
        };
        assert_eq!(count("type=io.kubeop.policy.updated").await, 4);
        assert_eq!(count(&format!("tenantID={tenant}")).await, 1);
        assert_eq!((count("hook=events").await, count("hook=cluster-ready").await), (5, 0));

        receiver.answer_always(Reply::Status(200));
        let letter = &letters[2];
        let path = format!("/v1/webhooks/dead/{}/replay", letter["id"].as_str().unwrap());
        let mut answers = Vec::new();
        for replayed in [false, true] {
            let request = Request::post(&path)
                .header("authorization", format!("Bearer {}", fixture.token(Role::Admin)))
                .header("idempotency-key", "once");
            let answer = fixture.send(request.body(Body::empty()).unwrap()).await;
            assert_eq!((answer.status.as_u16(), answer.headers.contains_key("idempotency-replayed")), (200, replayed));
            answers.push(answer.body);
        }
        assert_eq!(answers[0], answers[1]);
        let answer = &answers[0];
        assert_eq!((&answer["id"], &answer["attempts"], answer.get("dead_at")), (&letter["id"], &json!(0), None));
        fixture.admin("POST", &path, &json!({}), 404).await;
        // The event, and that it was sent again.
        let arrived = receiver.wait_for(7).await;
        let again = arrived[5..].iter().find(|arrival| arrival.event["id"] == letter["event"]["id"]).unwrap();
        assert_eq!(again.event, letter["event"]);
        assert!(arrived[5..].iter().any(|arrival| arrival.kind() == "io.kubeop.delivery.replayed"));
        let record = fixture.admin("GET", "/v1/audit?action=replay", &json!({}), 200).await;
        assert_eq!(record[0]["object_id"], letter["id"]);
        fixture.admin("POST", "/v1/webhooks/dead/not-an-id/replay", &json!({}), 404).await;
        fixture.admin("POST", &path.replace("replay", "replay?x=1"), &json!({"a": 1}), 400).await;

        // What arrived and is not on record as delivered would be sent again after a kill, or given up on: another letter.
        empty(&fixture).await;
        // Nobody to be told any more: nothing is moved.
        drop(delivering);
        let silent = Fixture::configured(fixture.manager.store.clone(), config()).await;
        let path = format!("/v1/webhooks/dead/{}/replay", letters[3]["id"].as_str().unwrap());
        silent.admin("POST", &path, &json!({}), 409).await;
        assert_eq!(dead(&silent).await.as_array().unwrap().len(), 4);
        // Kept for thirty days.
        later(&silent, SignedDuration::from_hours(30 * 24));
        let _delivering = deliver(&silent);
        let gone = tokio::time::timeout(Duration::from_mins(1), async {
            while dead(&silent).await != json!([]) {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        })
        .await;
        assert!(gone.is_ok(), "dead letters are kept for ever: {}", dead(&silent).await);
    }

    async fn what_a_killed_process_had_begun_is_sent_again_under_the_same_id(store) {
        let receiver = Receiver::start().await;
        let fixture = telling(store, &receiver).await;
        receiver.answer([Reply::After(Duration::from_mins(1))]);
        let killed = deliver(&fixture);
        policy(&fixture, "docker.io").await;
        receiver.wait_for(1).await;
        drop(killed);
        // On PostgreSQL it might be another replica's, for a minute.
        later(&fixture, SignedDuration::from_secs(61));
        let _delivering = deliver(&fixture);
        let arrived = receiver.wait_for(2).await;
        empty(&fixture).await;
        assert_eq!(arrived[0].body, arrived[1].body);
        assert_eq!(arrived[0].header("x-kubeop-delivery"), arrived[1].header("x-kubeop-delivery"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_replicas_send_each_event_once() {
    database::postgres(|store| async move {
        let receiver = Receiver::start().await;
        receiver.answer_always(Reply::After(Duration::from_millis(20)));
        let one = telling(store.clone(), &receiver).await;
        let two = telling(store, &receiver).await;
        let _delivering = (deliver(&one), deliver(&two));
        let tenant = one.tenant("busy").await;
        for number in 0..60 {
            let fixture = if number % 2 == 0 { &one } else { &two };
            let body = json!({"tenantID": tenant, "name": format!("p{number}")});
            fixture.admin("POST", "/v1/projects", &body, 201).await;
            let label = json!({"labels": {"number": number.to_string()}});
            fixture.admin("PATCH", &format!("/v1/tenants/{tenant}"), &label, 200).await;
        }
        empty(&one).await;
        let arrived = receiver.arrived();
        let distinct: BTreeSet<&str> = arrived.iter().map(|arrival| arrival.event["id"].as_str().unwrap()).collect();
        assert_eq!((arrived.len(), distinct.len()), (121, 121));
        // Of one subject in order, whoever sent it.
        let of_tenant = arrived.iter().filter(|arrival| arrival.subject() == format!("tenant/{tenant}"));
        let places: Vec<&str> = of_tenant.map(|arrival| arrival.event["sequence"].as_str().unwrap()).collect();
        assert_eq!(places.len(), 61);
        assert!(places.is_sorted(), "{places:?}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_that_is_always_refused_keeps_no_other_waiting() {
    database::sqlite(|store| async move {
        let receiver = Receiver::start().await;
        let fixture = telling(store, &receiver).await;
        receiver.answer([Reply::Status(500)]);
        let _delivering = deliver(&fixture);
        policy(&fixture, "docker.io").await;
        failed(&fixture, 1).await;
        let began = tokio::time::Instant::now();
        fixture.tenant("other").await;
        receiver.wait_for(2).await;
        assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
        let waiting = async {
            while pending(&fixture).await > 1 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(Duration::from_mins(1), waiting).await.unwrap_or_else(|_| panic!("it was not taken"));
    })
    .await;
}

/// Where nothing listens, and where whatever comes is closed or left without an answer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn receivers_that_do_not_answer_are_failures_with_a_sentence() {
    database::sqlite(|store| async move {
        let resetting = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let nowhere = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = |listener: &TcpListener| listener.local_addr().unwrap();
        let cases = [
            (address(&nowhere), "cannot be reached"),
            (address(&resetting), "cannot be reached"),
            (address(&silent), "did not answer within 10 s"),
        ];
        drop(nowhere);
        let _closing = AbortOnDropHandle::new(tokio::spawn(async move { while resetting.accept().await.is_ok() {} }));
        let _holding = AbortOnDropHandle::new(tokio::spawn(async move {
            let mut held = Vec::new();
            while let Ok(connection) = silent.accept().await {
                held.push(connection);
            }
        }));
        for (index, (address, expected)) in cases.into_iter().enumerate() {
            let target = Target::parse(&format!("http://{address}/s3cret"), SecretString::from(SECRET)).unwrap();
            let config = Config { event_hook: Some(target), ..config() };
            let fixture = Fixture::configured(store.clone(), config).await;
            let delivering = deliver(&fixture);
            policy(&fixture, "docker.io").await;
            failed(&fixture, 1).await;
            drop(delivering);
            later(&fixture, SignedDuration::from_hours(25));
            let _delivering = deliver(&fixture);
            let waiting = async {
                loop {
                    let letters = dead(&fixture).await;
                    if let Some(error) = letters[index]["last_error"].as_str() {
                        assert!(error.contains(expected) && !error.contains("s3cret"), "{error}");
                        break;
                    }
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            };
            tokio::time::timeout(Duration::from_mins(1), waiting).await.unwrap_or_else(|_| panic!("{expected}"));
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_end_of_a_process_gives_back_what_it_had_begun() {
    database::postgres(|store| async move {
        let receiver = Receiver::start().await;
        receiver.answer([Reply::After(Duration::from_mins(1))]);
        let fixture = telling(store, &receiver).await;
        let shutdown = CancellationToken::new();
        let serving = tokio::spawn(events::serve(Arc::clone(&fixture.manager), shutdown.clone()));
        policy(&fixture, "docker.io").await;
        receiver.wait_for(1).await;
        shutdown.cancel();
        serving.await.unwrap();
        // No minute passes.
        let _delivering = deliver(&fixture);
        receiver.wait_for(2).await;
        empty(&fixture).await;
    })
    .await;
}
