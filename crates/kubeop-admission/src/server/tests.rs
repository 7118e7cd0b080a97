//! The router without a socket: answers, bounds, probes, metrics.

use super::*;
use crate::policy_cache::PolicyState;
use crate::tls::tests::secret_valid_until;
use futures::StreamExt;
use jiff::Timestamp;
use kubeop_core::clock::ManualClock;
use kubeop_core::policy::{PlatformPolicy, RawPolicy};
use prometheus_client::registry::Registry;
use serde_json::{Value, json};
use tower::ServiceExt;

struct Role {
    reviewer: Arc<Reviewer>,
    registry: Registry,
    clock: Arc<ManualClock>,
    stopping: CancellationToken,
}

fn role() -> Role {
    let mut registry = Registry::default();
    let metrics = Metrics::register(&mut registry);
    let clock = Arc::new(ManualClock::new("2026-06-01T00:00:00Z".parse::<Timestamp>().unwrap()));
    let policy = Arc::new(PolicyCache::new(metrics.clone()));
    let raw = RawPolicy { image_allowlist: vec!["docker.io".to_owned()], ..RawPolicy::default() };
    policy.replace(PolicyState::Loaded(Box::new(PlatformPolicy::parse(&raw).unwrap())));
    let certificates = Arc::new(Certificates::new(clock.clone(), metrics.clone()));
    Role {
        reviewer: Arc::new(Reviewer::new(policy, certificates, metrics)),
        registry,
        clock,
        stopping: CancellationToken::new(),
    }
}

fn pod(image: &str, padding: usize) -> Value {
    json!({"metadata": {"name": "x", "annotations": {"a": "p".repeat(padding)}}, "spec": {"containers": [{"name": "a", "image": image}]}})
}

#[expect(clippy::needless_pass_by_value, reason = "calls read better with a literal")]
fn review(operation: &str, object: Value, old: Value) -> String {
    json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {
        "uid": "u-1", "kind": {"group": "", "version": "v1", "kind": "Pod"}, "resource": {"group": "", "version": "v1", "resource": "pods"},
        "namespace": "n", "operation": operation, "object": object, "oldObject": old,
    }})
    .to_string()
}

async fn post(role: &Role, body: impl Into<Body>) -> (StatusCode, String) {
    let request =
        Request::post("/admit?timeout=5s").header("content-type", "application/json").body(body.into()).unwrap();
    answer(role, request).await
}

async fn answer(role: &Role, request: Request) -> (StatusCode, String) {
    let response = router(role.reviewer.clone(), role.stopping.clone()).oneshot(request).await.unwrap();
    let status = response.status();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

fn metrics(role: &Role) -> String {
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &role.registry).unwrap();
    text
}

#[tokio::test]
async fn a_review_is_answered_as_the_api_server_expects() {
    let role = role();
    let (status, body) = post(&role, review("CREATE", pod("nginx", 0), Value::Null)).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(
        body,
        r#"{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","response":{"uid":"u-1","allowed":true}}"#
    );
    let (status, body) = post(&role, review("CREATE", pod("evil.io/x", 0), Value::Null)).await;
    assert_eq!(status, StatusCode::OK);
    let body: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(
        body["response"],
        json!({"uid": "u-1", "allowed": false, "auditAnnotations": {"rule": "images"}, "status": {"code": 403, "reason": "Forbidden",
            "message": "[images] spec.containers[0].image: image \"evil.io/x:latest\" is not allowed: the allow-list of this platform is docker.io"}})
    );
    let metrics = metrics(&role);
    assert!(metrics.contains(r#"kubeop_admission_reviews_total{rule="images",outcome="admitted"} 1"#), "{metrics}");
    assert!(metrics.contains(r#"kubeop_admission_reviews_total{rule="images",outcome="denied"} 1"#), "{metrics}");
    assert!(metrics.contains("kubeop_admission_review_duration_seconds_count 2"), "{metrics}");
    assert!(metrics.contains("kubeop_admission_policy_loaded 1"), "{metrics}");
}

/// So that an API server does not begin another review on a connection that is about to end.
#[tokio::test]
async fn answers_of_a_role_that_stops_are_the_last_of_their_connections() {
    let role = role();
    let ends = async |version: Version| {
        let request = Request::post("/canary").version(version).body(Body::from("{}")).unwrap();
        let answer = router(role.reviewer.clone(), role.stopping.clone()).oneshot(request).await.unwrap();
        answer.headers().get(header::CONNECTION).map(|value| value.to_str().unwrap().to_owned())
    };
    assert_eq!(ends(Version::HTTP_11).await, None);
    role.stopping.cancel();
    assert_eq!(ends(Version::HTTP_11).await.as_deref(), Some("close"));
    assert_eq!(ends(Version::HTTP_2).await, None, "it has a frame of its own for this");
}

#[tokio::test]
async fn large_updates_are_judged_and_larger_ones_than_can_be_are_refused() {
    let role = role();
    let large = 2_900_000;
    let (status, body) = post(&role, review("UPDATE", pod("nginx", large), pod("nginx", large))).await;
    assert!(status == StatusCode::OK && body.contains(r#""allowed":true"#));
    let (status, body) = post(&role, review("UPDATE", pod("evil.io/x", large), pod("nginx", large))).await;
    assert!(status == StatusCode::OK && body.contains(r#""allowed":false"#));
    let (status, _) = post(&role, review("CREATE", pod("nginx", 9_000_000), Value::Null)).await;
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
    assert!(metrics(&role).contains(r#"{rule="review",outcome="failed"} 1"#));
}

#[tokio::test]
async fn what_is_no_review_is_never_admitted() {
    let role = role();
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let nested = review("CREATE", Value::Null, Value::Null).replacen("null", &deep, 1);
    for (body, expected) in [
        (String::new(), StatusCode::BAD_REQUEST),
        ("{}".to_owned(), StatusCode::BAD_REQUEST),
        ("null".to_owned(), StatusCode::BAD_REQUEST),
        (deep.clone(), StatusCode::BAD_REQUEST),
        (r#"{"request":{"uid":""}}"#.to_owned(), StatusCode::BAD_REQUEST),
        (r#"{"request":{"uid":"u"}}"#.to_owned(), StatusCode::OK),
        (
            review("CREATE", pod("nginx", 0), Value::Null).replace("admission.k8s.io/v1", "admission.k8s.io/v2"),
            StatusCode::OK,
        ),
        (format!("{} trailing", review("CREATE", pod("nginx", 0), Value::Null)), StatusCode::BAD_REQUEST),
        (review("CREATE", pod("nginx", 0), Value::Null).replace("\"u-1\"", "\"\""), StatusCode::BAD_REQUEST),
        (nested, StatusCode::OK),
    ] {
        let (status, answer) = post(&role, body.clone()).await;
        assert_eq!(status, expected, "{body:.200}: {answer}");
        assert!(!answer.contains(r#""allowed":true"#), "{body:.200}");
        assert!(status != StatusCode::OK || answer.contains(r#""allowed":false"#), "{body:.200}");
    }
    let canary = Request::post("/canary").body(Body::from("{}")).unwrap();
    assert_eq!(answer(&role, canary).await.0, StatusCode::BAD_REQUEST);
    let get = Request::get("/admit").body(Body::empty()).unwrap();
    assert_eq!(answer(&role, get).await.0, StatusCode::METHOD_NOT_ALLOWED);
}

fn stalled(bytes: usize) -> Body {
    let piece = futures::stream::once(async move { Ok::<_, std::io::Error>(vec![b' '; bytes]) });
    Body::from_stream(piece.chain(futures::stream::pending()))
}

#[tokio::test(start_paused = true)]
async fn a_review_that_does_not_arrive_is_given_up_within_the_deadline() {
    let (role, started) = (role(), Instant::now());
    assert_eq!(post(&role, stalled(10)).await.0, StatusCode::REQUEST_TIMEOUT);
    assert!(started.elapsed() < Duration::from_millis(2100));
}

#[tokio::test(start_paused = true)]
async fn memory_for_bodies_is_bounded_and_comes_free_again() {
    let role = role();
    let mut stuck = futures::stream::FuturesUnordered::new();
    for _ in 0..8 {
        stuck.push(post(&role, stalled(LARGEST)));
    }
    let one_more = post(&role, review("CREATE", pod("nginx", 0), Value::Null));
    // Poll the stuck ones first, so that they hold what they hold.
    let (first, refused) = futures::future::join(stuck.next(), async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        one_more.await
    })
    .await;
    assert_eq!(refused.0, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(first.unwrap().0, StatusCode::REQUEST_TIMEOUT);
    drop(stuck);
    assert_eq!(post(&role, review("CREATE", pod("nginx", 0), Value::Null)).await.0, StatusCode::OK);
}

#[test]
fn ready_means_certificate_valid_and_policy_loaded() {
    let role = role();
    let problems = || role.reviewer.problems().join("\n");
    assert!(problems().contains("kubeop-admission-tls"), "{}", problems());

    role.reviewer.certificates.update(Some(secret_valid_until(2027)));
    assert_eq!(problems(), "");

    role.clock.set("2027-06-01T00:00:00Z".parse().unwrap());
    assert!(problems().contains("expired at 2027-01-01"));
    role.clock.set("2020-06-01T00:00:00Z".parse().unwrap());
    assert!(problems().contains("is valid from"));
    role.clock.set("2026-06-01T00:00:00Z".parse().unwrap());

    role.reviewer.policy.replace(PolicyState::Missing);
    assert!(problems().contains("kubeop-policy"));
    assert!(metrics(&role).contains("kubeop_admission_policy_loaded 0"));
}
