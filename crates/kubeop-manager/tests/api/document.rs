//! The document against what is answered: no status that is not in it, and of those in it, each that can be provoked.
//!
//! Invariant: every answer to every test of this crate goes through [`check`].

use crate::fixture::{is_open, operations};
use crate::world::World;
use axum::body::Body;
use axum::http::{Request, StatusCode};
use kubeop_core::authz::Role;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

/// Method and path to the statuses in the document.
type Documented = BTreeMap<(String, String), BTreeSet<u16>>;

static DOCUMENT: LazyLock<Value> =
    LazyLock::new(|| serde_json::from_str(&kubeop_manager::openapi::json().unwrap()).unwrap());
static STATUSES: LazyLock<Documented> = LazyLock::new(|| {
    let mut all = Documented::new();
    for (path, item) in DOCUMENT["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let statuses = operation["responses"].as_object().unwrap().keys();
            let statuses = statuses.map(|status| status.parse().unwrap()).collect();
            all.insert((method.clone(), path.clone()), statuses);
        }
    }
    all
});

fn matches(pattern: &str, path: &str) -> bool {
    let (pattern, path): (Vec<_>, Vec<_>) = (pattern.split('/').collect(), path.split('/').collect());
    pattern.len() == path.len()
        && pattern.iter().zip(path).all(|(expected, part)| *expected == "{id}" || *expected == part)
}

/// Fails if an operation answered with a status that is not in the document.
pub(crate) fn check(method: &str, path: &str, status: u16) {
    // A literal path comes before one with an id.
    let mut found: Vec<_> = STATUSES.keys().filter(|(m, pattern)| m == method && matches(pattern, path)).collect();
    found.sort_by_key(|(_, pattern)| pattern.contains("{id}"));
    let Some(operation) = found.first() else { return };
    assert!(
        STATUSES[*operation].contains(&status),
        "{method} {path} answers {status}, which the document does not know"
    );
}

/// The operation's statuses among `of` in the document.
fn documented(method: &str, pattern: &str, status: u16) -> bool {
    STATUSES[&(method.to_lowercase(), pattern.to_owned())].contains(&status)
}

fn operation(method: &str, pattern: &str) -> &'static Value {
    &DOCUMENT["paths"][pattern][method.to_lowercase()]
}

both! {
    async fn what_the_document_says_of_callers_bodies_and_media_types_is_so(fixture) {
        let world = World::new(&fixture).await;
        let roles = [Role::Admin, world.tenant(), world.project()].map(|role| fixture.token(role));
        for (method, pattern) in operations().into_iter().filter(|(_, pattern)| !is_open(pattern)) {
            let path = pattern.replace("{id}", &fixture.absent());
            let told = |status| documented(&method, &pattern, status);
            assert_eq!(fixture.call(&method, &path, None, None).await.status, 401);
            assert!(told(401) && told(429) && told(500) && told(503), "{method} {pattern}");
            let mut refused = false;
            for token in &roles {
                // `force` and the role `admin` of a kubeconfig ask for more than the operation itself.
                let query = match pattern.as_str() {
                    "/v1/kubeconfigs/project/{id}" => "?role=admin",
                    _ if method == "DELETE" && !pattern.starts_with("/v1/jwt") && !pattern.starts_with("/v1/kubeconfigs") => "?force=true",
                    _ => "",
                };
                let body = (method != "GET" && method != "DELETE").then_some("{}");
                refused |= fixture.call(&method, &format!("{path}{query}"), Some(token), body).await.status == 403;
            }
            assert_eq!(refused, told(403), "{method} {pattern}");

            let send = async |media: &str, length: &str, body: &str| {
                let request = Request::builder()
                    .method(method.as_str())
                    .uri(&path)
                    .header("authorization", format!("Bearer {}", roles[0]))
                    .header("content-type", media)
                    .header("content-length", length)
                    .header("expect", "100-continue");
                fixture.send(request.body(Body::from(body.to_owned())).unwrap()).await.status
            };
            let reads = operation(&method, &pattern).get("requestBody").is_some();
            assert_eq!((told(413), told(415)), (reads, reads), "{method} {pattern}");
            if reads {
                assert_eq!(send("text/plain", "2", "{}").await, StatusCode::UNSUPPORTED_MEDIA_TYPE, "{method} {pattern}");
                let large = (17 << 20).to_string();
                assert_eq!(send("application/json", &large, "").await, StatusCode::PAYLOAD_TOO_LARGE, "{method} {pattern}");
                assert_eq!(send("application/json", "2", "}{").await, StatusCode::BAD_REQUEST, "{method} {pattern}");
                assert!(told(400));
            }
            if pattern.contains("{id}") && method == "GET" {
                assert_eq!(fixture.call(&method, &path, Some(&roles[0]), None).await.status, 404, "{method} {pattern}");
            }
            assert_eq!(told(404), pattern.contains("{id}") || told(404), "{method} {pattern}");
        }
    }

    async fn a_stale_version_is_refused_by_every_change_that_takes_one(fixture) {
        let world = World::new(&fixture).await;
        let admin = fixture.token(Role::Admin);
        let mut checked = 0;
        for (method, pattern) in operations() {
            let parameters = operation(&method, &pattern)["parameters"].as_array().cloned().unwrap_or_default();
            let takes = parameters.iter().any(|parameter| parameter["name"] == "If-Match");
            assert_eq!(takes, documented(&method, &pattern, 412), "{method} {pattern}");
            if !takes {
                continue;
            }
            let id = match pattern.split('/').nth(2).unwrap() {
                "clusters" => &world.cluster,
                "tenants" => &world.mine.tenant,
                "projects" => &world.mine.project,
                "apps" => &world.mine.app,
                _ => "platform",
            };
            let mut body = json!({});
            if !pattern.contains("{id}") && id != "platform" {
                body["id"] = json!(id);
            }
            let request = Request::builder()
                .method(method.as_str())
                .uri(pattern.replace("{id}", id))
                .header("authorization", format!("Bearer {admin}"))
                .header("content-type", "application/json")
                .header("if-match", "\"999\"")
                .body(Body::from(body.to_string()));
            let answer = fixture.send(request.unwrap()).await;
            assert_eq!(answer.status, 412, "{method} {pattern} {}", answer.body);
            assert!(answer.error().contains("999"));
            checked += 1;
        }
        assert!(checked >= 21, "{checked}");
    }

    async fn every_example_of_a_body_is_read(fixture) {
        let admin = fixture.token(Role::Admin);
        let mut read = 0;
        for (method, pattern) in operations() {
            let body = &operation(&method, &pattern)["requestBody"]["content"]["application/json"]["example"];
            if body.is_null() {
                continue;
            }
            let path = pattern.replace("{id}", &fixture.absent());
            let answer = fixture.call(&method, &path, Some(&admin), Some(&body.to_string())).await;
            let told = answer.body["error"].as_str().unwrap_or_default();
            // What it speaks of is not there; but it is understood.
            let understood = answer.status.is_success() || ["there is no", "kubeconfig", "cluster_id", "rate"].iter().any(|part| told.contains(part));
            assert!(understood && !told.contains("unknown field"), "{method} {pattern}: {} {}", answer.status, answer.body);
            read += 1;
        }
        assert!(read >= 20, "{read}");
    }
}
