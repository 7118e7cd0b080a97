//! The audit log: one record for each mutation and each denial, in the same transaction.
//!
//! Invariant: an operation that is added to the document needs a way to succeed here.

use crate::database::behind_the_back;
use crate::fixture::{Fixture, is_open, operations};
use crate::world::{World, add_cluster};
use axum::http::StatusCode;
use kubeop_core::authz::Role;
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// Mutations that only a cluster which answers can make succeed: the end-to-end tests have one (e2e/audit.rs); and what needs a receiver
/// that failed (events.rs).
const NEED_MORE: &[(&str, &str)] = &[
    ("POST", "/v1/clusters"),
    ("POST", "/v1/platform/bootstrap"),
    ("POST", "/v1/platform/autoscale"),
    ("POST", "/v1/webhooks/dead/{id}/replay"),
];

async fn records(fixture: &Fixture) -> Vec<Value> {
    let answer = fixture.call("GET", "/v1/audit?limit=1000", Some(&fixture.token(Role::Admin)), None).await;
    answer.body.as_array().unwrap().clone()
}

/// Each mutation with a body that succeeds, in an order in which all do.
fn mutations(world: &World, spare: &str) -> Vec<(&'static str, &'static str, String, Value)> {
    let (mine, theirs) = (&world.mine, &world.theirs);
    let labels = json!({"labels": {"a": "b"}});
    let in_body = |id: &str| json!({"id": id, "labels": {"c": "d"}});
    let sample = json!([{"ts": "2026-01-01T00:00:00Z", "tenant_id": mine.tenant, "cpu_milli": 1, "mem_mib": 1}]);
    let at = |path: &str, id: &str| format!("{path}/{id}");
    vec![
        ("POST", "/v1/tenants", "/v1/tenants".into(), json!({"name": "new", "clusterID": world.cluster})),
        ("POST", "/v1/projects", "/v1/projects".into(), json!({"tenantID": mine.tenant, "name": "new"})),
        ("POST", "/v1/apps", "/v1/apps".into(), json!({"projectID": mine.project, "name": "new", "image": "nginx:1"})),
        ("PUT", "/v1/clusters", "/v1/clusters".into(), in_body(&world.cluster)),
        ("PATCH", "/v1/clusters", "/v1/clusters".into(), in_body(&world.cluster)),
        ("PUT", "/v1/clusters/{id}", at("/v1/clusters", &world.cluster), labels.clone()),
        ("PATCH", "/v1/clusters/{id}", at("/v1/clusters", &world.cluster), labels.clone()),
        ("PUT", "/v1/tenants", "/v1/tenants".into(), in_body(&mine.tenant)),
        ("PATCH", "/v1/tenants", "/v1/tenants".into(), in_body(&mine.tenant)),
        ("PUT", "/v1/tenants/{id}", at("/v1/tenants", &mine.tenant), labels.clone()),
        ("PATCH", "/v1/tenants/{id}", at("/v1/tenants", &mine.tenant), labels.clone()),
        ("PUT", "/v1/projects", "/v1/projects".into(), in_body(&mine.project)),
        ("PATCH", "/v1/projects", "/v1/projects".into(), in_body(&mine.project)),
        ("PUT", "/v1/projects/{id}", at("/v1/projects", &mine.project), labels.clone()),
        ("PATCH", "/v1/projects/{id}", at("/v1/projects", &mine.project), labels.clone()),
        ("PUT", "/v1/apps", "/v1/apps".into(), json!({"id": mine.app, "image": "nginx:2"})),
        ("PATCH", "/v1/apps", "/v1/apps".into(), in_body(&mine.app)),
        ("PUT", "/v1/apps/{id}", at("/v1/apps", &mine.app), json!({"image": "nginx:3"})),
        ("PATCH", "/v1/apps/{id}", at("/v1/apps", &mine.app), labels),
        ("PUT", "/v1/platform/policy", "/v1/platform/policy".into(), json!({"imageAllowlist": ["docker.io"]})),
        ("POST", "/v1/jwt/project", "/v1/jwt/project".into(), json!({"ProjectID": mine.project})),
        ("POST", "/v1/jwt/tenant", "/v1/jwt/tenant".into(), json!({"TenantID": mine.tenant})),
        ("DELETE", "/v1/jwt/{id}", at("/v1/jwt", &mine.jti), Value::Null),
        ("DELETE", "/v1/kubeconfigs/{id}", at("/v1/kubeconfigs", &mine.kubeconfig), Value::Null),
        ("POST", "/v1/usage/ingest", "/v1/usage/ingest".into(), sample),
        (
            "POST",
            "/v1/platform/prices",
            "/v1/platform/prices".into(),
            json!({"meter": "cpu_milli", "rate": "0.000002"}),
        ),
        ("DELETE", "/v1/apps/{id}", at("/v1/apps", &theirs.app), Value::Null),
        ("DELETE", "/v1/projects/{id}", at("/v1/projects", &theirs.project), Value::Null),
        ("DELETE", "/v1/projects/{id}", at("/v1/projects", &theirs.sibling), Value::Null),
        ("DELETE", "/v1/tenants/{id}", at("/v1/tenants", &theirs.tenant), Value::Null),
        ("DELETE", "/v1/clusters/{id}", at("/v1/clusters", spare), Value::Null),
    ]
}

fn verb(method: &str, path: &str) -> &'static str {
    match (method, path) {
        ("DELETE", path) if path.starts_with("/v1/jwt") || path.starts_with("/v1/kubeconfigs") => "revoke",
        ("DELETE", _) => "delete",
        (_, path) if path.starts_with("/v1/jwt") => "issue",
        (_, "/v1/usage/ingest") => "ingest",
        ("POST", _) => "create",
        _ => "update",
    }
}

both! {
    async fn every_mutation_leaves_exactly_one_record_with_its_digests(fixture) {
        let world = World::new(&fixture).await;
        let spare = add_cluster(&fixture, "two").await.id.to_string();
        let admin = fixture.token(Role::Admin);
        let mutations = mutations(&world, &spare);
        let done: BTreeSet<_> = mutations.iter().map(|(method, pattern, ..)| (*method, *pattern)).collect();
        for (method, pattern) in operations().iter().filter(|(method, pattern)| method != "GET" && !is_open(pattern)) {
            let key = (method.as_str(), pattern.as_str());
            assert!(done.contains(&key) || NEED_MORE.contains(&key), "{key:?} is not tried here");
        }
        let mut known: BTreeSet<String> = records(&fixture).await.iter().map(|r| r["id"].to_string()).collect();
        for (method, pattern, path, body) in &mutations {
            let text = (!body.is_null()).then(|| body.to_string());
            let answer = fixture.call(method, path, Some(&admin), text.as_deref()).await;
            assert!(answer.status.is_success(), "{method} {path} {body}: {} {}", answer.status, answer.body);
            let new: Vec<Value> =
                records(&fixture).await.into_iter().filter(|r| known.insert(r["id"].to_string())).collect();
            assert_eq!(new.len(), 1, "{method} {path}: {new:?}");
            let record = &new[0];
            assert_eq!(record["action"], verb(method, path), "{method} {pattern}");
            assert_eq!((&record["outcome"], &record["subject"], &record["role"]), (&json!("done"), &json!("test"), &json!("admin")));
            assert_eq!(record["request_id"], answer.headers["x-request-id"].to_str().unwrap());
            let digest = |which: &str| record.get(which).map(|text| {
                let text = text.as_str().unwrap();
                assert!(text.starts_with("sha256:") && text.len() == 71, "{text}");
            });
            let (before, after) = (digest("before_digest").is_some(), digest("after_digest").is_some());
            let expected = match record["action"].as_str().unwrap() {
                "create" | "issue" | "ingest" => (false, true),
                "delete" => (true, false),
                _ => (true, true),
            };
            assert_eq!((before, after), expected, "{method} {path}");
            if after && before {
                assert_ne!(record["before_digest"], record["after_digest"], "{method} {path}");
            }
            if let Some(id) = answer.body.get("id").or(answer.body.get("jti")) {
                assert_eq!(&record["object_id"], id);
            }
        }
    }

    async fn what_one_change_left_is_what_the_next_one_found(fixture) {
        let world = World::new(&fixture).await;
        let kinds = [("tenants", &world.mine.tenant), ("projects", &world.mine.project), ("apps", &world.mine.app)];
        for (kind, id) in kinds {
            for label in ["x", "y"] {
                fixture.admin("PATCH", &format!("/v1/{kind}/{id}"), &json!({"labels": {"l": label}}), 200).await;
            }
            let chain: Vec<Value> = records(&fixture).await.into_iter().filter(|r| &r["object_id"] == id).collect();
            assert_eq!(chain.len(), 3, "{kind}");
            assert_eq!(chain[0]["after_digest"], chain[1]["before_digest"], "{kind}");
            assert_eq!(chain[1]["after_digest"], chain[2]["before_digest"], "{kind}");
        }
    }

    async fn every_denial_leaves_exactly_one_record(fixture) {
        let world = World::new(&fixture).await;
        let mut expected = records(&fixture).await.len();
        for role in [world.tenant(), world.project()] {
            for (method, pattern) in operations().iter().filter(|(_, pattern)| !is_open(pattern)) {
                let path = pattern.replace("{id}", "x");
                let answer = fixture.call(method, &path, Some(&fixture.token(role)), Some("}{")).await;
                if answer.status != StatusCode::FORBIDDEN {
                    continue;
                }
                expected += 1;
                let all = records(&fixture).await;
                assert_eq!(all.len(), expected, "{method} {path}");
                let request_id = answer.headers["x-request-id"].to_str().unwrap();
                let record = all.iter().find(|record| record["request_id"] == request_id).unwrap();
                assert_eq!(record["outcome"], "denied");
                assert_eq!(record["object_id"], format!("{method} {path}"));
                assert_eq!(record["tenant_id"], json!(world.mine.tenant), "a denial is in its tenant's chain");
            }
        }
        // Denials that depend on the request.
        let tenant = fixture.token(world.tenant());
        let path = format!("/v1/apps/{}?force=true", world.mine.app);
        assert_eq!(fixture.call("DELETE", &path, Some(&tenant), None).await.status, StatusCode::FORBIDDEN);
        let path = format!("/v1/kubeconfigs/project/{}?role=admin", world.mine.project);
        let project = fixture.token(world.project());
        assert_eq!(fixture.call("GET", &path, Some(&project), None).await.status, StatusCode::FORBIDDEN);
        let details: Vec<Value> = records(&fixture).await.into_iter().skip(expected).map(|r| r["detail"].clone()).collect();
        assert_eq!(details, ["ForceDelete", "ManageKubeconfigs"]);
        // Those without a valid token are counted, not recorded: they would be a way to fill the disk.
        fixture.call("POST", "/v1/tenants", None, Some("{}")).await;
        assert_eq!(records(&fixture).await.len(), expected + 2);
    }

    async fn what_cannot_be_recorded_does_not_happen(fixture) {
        let world = World::new(&fixture).await;
        let spare = add_cluster(&fixture, "two").await.id.to_string();
        let admin = fixture.token(Role::Admin);
        let mut lists = Vec::new();
        let read = ["/v1/clusters", "/v1/tenants", "/v1/projects", "/v1/apps", "/v1/kubeconfigs", "/v1/platform/policy", "/v1/usage/snapshot", "/v1/platform/prices", "/v1/audit?limit=1000"];
        for path in read {
            lists.push(fixture.call("GET", path, Some(&admin), None).await.body);
        }
        behind_the_back(&fixture.manager.store, "ALTER TABLE audit_record RENAME TO elsewhere").await;
        for (method, _, path, body) in mutations(&world, &spare) {
            let text = (!body.is_null()).then(|| body.to_string());
            let answer = fixture.call(method, &path, Some(&admin), text.as_deref()).await;
            // 409: the parent still has what could not be deleted.
            assert!(answer.status.is_server_error() || answer.status == StatusCode::CONFLICT, "{method} {path}: {} {}", answer.status, answer.body);
            assert!(!answer.error().contains("audit_record"));
        }
        let denied = fixture.call("POST", "/v1/tenants", Some(&fixture.token(world.tenant())), Some("{}")).await;
        assert!(denied.status.is_server_error(), "a denial that cannot be recorded is no answer either");
        behind_the_back(&fixture.manager.store, "ALTER TABLE elsewhere RENAME TO audit_record").await;
        for (path, before) in read.iter().zip(lists) {
            let mut now = fixture.call("GET", path, Some(&admin), None).await.body;
            let mut before = before;
            if let (Some(now), Some(before)) = (now.as_object_mut(), before.as_object_mut()) {
                now.remove("as_of");
                before.remove("as_of");
            }
            assert_eq!(now, before, "{path}");
        }
    }
}
