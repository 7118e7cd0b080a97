//! Query parameters: each operation has its own, and each of them does what it says.
//!
//! Invariant: a parameter that an operation does not have is refused, not ignored.

use crate::fixture::Fixture;
use crate::world::{World, add_cluster, add_cluster_at};
use axum::body::Body;
use axum::http::{Request, StatusCode};
use kubeop_core::authz::Role;
use kubeop_core::id::TenantId;
use kubeop_store::cluster::{self, BootstrapState};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::{Instant, sleep};

async fn get(fixture: &Fixture, role: Role, path: &str) -> (Value, Option<String>) {
    let answer = fixture.call("GET", path, Some(&fixture.token(role)), None).await;
    assert_eq!(answer.status, StatusCode::OK, "{path}: {}", answer.body);
    let link = answer.headers.get("link").map(|link| link.to_str().unwrap().to_owned());
    (answer.body, link.map(|link| link.split(['<', '>']).nth(1).unwrap().to_owned()))
}

fn names(list: &Value, field: &str) -> Vec<String> {
    list.as_array().unwrap().iter().map(|item| item[field].as_str().unwrap().to_owned()).collect()
}

both! {
    async fn clusters_were_listed_whatever_was_filtered_by(fixture) {
        let mut ids = Vec::new();
        for name in ["one", "two", "three"] {
            ids.push(add_cluster(&fixture, name).await.id.to_string());
            fixture.clock.set(fixture.manager.clock.now() + jiff::SignedDuration::from_secs(1));
        }
        let list = async |query: String| get(&fixture, Role::Admin, &format!("/v1/clusters?{query}")).await;
        let (page, next) = list("limit=1".to_owned()).await;
        assert_eq!(names(&page, "name"), ["one"]);
        let cursor = next.unwrap().split("cursor=").nth(1).unwrap().to_owned();
        for (query, expected) in [
            (format!("cluster_id={}", ids[1]), vec!["two"]),
            ("name=two".to_owned(), vec!["two"]),
            (format!("name=two&clusterID={}", ids[1].to_uppercase()), vec!["two"]),
            (format!("name=two&cluster_id={}", ids[2]), vec![]),
            ("name=none".to_owned(), vec![]),
            (format!("name=one&cursor={cursor}"), vec![]),
            (format!("name=two&cursor={cursor}"), vec!["two"]),
            (format!("cursor={cursor}"), vec!["two", "three"]),
        ] {
            assert_eq!(names(&list(query.clone()).await.0, "name"), expected, "{query}");
        }
        for query in ["tenant_id", "project_id"] {
            let path = format!("/v1/clusters?{query}={}", ids[0]);
            let refused = fixture.admin("GET", &path, &json!({}), 400).await;
            assert!(refused["error"].as_str().unwrap().contains("unknown field"), "{refused}");
        }
    }

    async fn deletes_and_changes_of_clusters_read_each_parameter_they_have_and_no_other(fixture) {
        let world = World::new(&fixture).await;
        let items = [
            ("clusters", &world.cluster),
            ("tenants", &world.mine.tenant),
            ("projects", &world.mine.project),
            ("apps", &world.mine.app),
        ];
        for (kind, id) in items {
            let path = format!("/v1/{kind}/{id}");
            let mut bad = vec!["force=maybe", "wait=61", "wait=x", "uninstall=maybe", "colour=red"];
            if kind != "clusters" {
                bad.push("uninstall=true");
            }
            for query in bad {
                let refused = fixture.admin("DELETE", &format!("{path}?{query}"), &json!({}), 400).await;
                assert!(refused["error"].as_str().unwrap().starts_with(query.split('=').next().unwrap()), "{refused}");
            }
            for method in ["GET", "PUT", "PATCH"] {
                let refused = fixture.admin(method, &format!("{path}?wait=61"), &json!({}), 400).await;
                assert_eq!(refused["error"], "wait: \"61\" is not allowed: 0 to 60 seconds", "{method} {kind}");
            }
            for method in ["POST", "PUT", "PATCH"] {
                let refused = fixture.admin(method, &format!("/v1/{kind}?wait=61"), &json!({"id": id}), 400).await;
                assert_eq!(refused["error"], "wait: \"61\" is not allowed: 0 to 60 seconds", "{method} {kind}");
            }
        }
    }

    async fn a_cluster_is_waited_for_until_its_set_up_has_ended(fixture) {
        let row = add_cluster_at(&fixture, "new", 1, BootstrapState::Pending).await;
        let path = format!("/v1/clusters/{}", row.id);
        let (waiting, begun) = (format!("{path}?wait=30"), Instant::now());
        let (waited, ()) = tokio::join!(get(&fixture, Role::Admin, &waiting), async {
            sleep(Duration::from_millis(300)).await;
            let mut tx = fixture.manager.store.begin().await.unwrap();
            cluster::set_bootstrap(&mut tx.conn(), row.id, BootstrapState::Failed, Some("told")).await.unwrap();
            tx.commit().await.unwrap();
        });
        assert_eq!((&waited.0["status"]["phase"], &waited.0["status"]["message"]), (&json!("Degraded"), &json!("told")));
        let passed = begun.elapsed();
        assert!(passed >= Duration::from_millis(300) && passed < Duration::from_secs(20), "{passed:?}");
        // What is not under way is not waited for.
        let begun = Instant::now();
        let changed = fixture.admin("PATCH", &format!("{path}?wait=30"), &json!({"labels": {"a": "b"}}), 200).await;
        assert_eq!(changed["status"]["phase"], "Degraded");
        assert!(begun.elapsed() < Duration::from_secs(20));
    }

    async fn the_snapshots_tenants_had_no_next_page(fixture) {
        let world = World::new(&fixture).await;
        fixture.clock.set(fixture.manager.clock.now() + jiff::SignedDuration::from_secs(1));
        fixture.tenant("last").await;
        let (first, next) = get(&fixture, Role::Admin, "/v1/usage/snapshot?limit=2").await;
        assert_eq!(names(&first["tenants"], "tenant_name"), ["mine", "theirs"]);
        let next = next.unwrap();
        let (second, end) = get(&fixture, Role::Admin, &next).await;
        assert_eq!(names(&second["tenants"], "tenant_name"), ["last"]);
        assert_eq!(end, None);
        assert_eq!((&first["totals"]["tenants"], &first["totals"]), (&json!(3), &second["totals"]));
        // What a confined caller sees the sums of does not depend on the page.
        let cursor = next.split("cursor=").nth(1).unwrap();
        let tenant = Role::Tenant(TenantId::parse(&world.mine.tenant).unwrap());
        for (role, filter) in [(tenant, String::new()), (Role::Admin, format!("tenant_id={}&", world.mine.tenant))] {
            let (page, end) = get(&fixture, role, &format!("/v1/usage/snapshot?{filter}cursor={cursor}")).await;
            assert_eq!((&page["tenants"], end), (&json!([]), None));
            let totals = &page["totals"];
            assert_eq!((&totals["tenants"], &totals["projects"], &totals["apps"]), (&json!(1), &json!(2), &json!(1)));
        }
    }

    /// The version was only looked at before the row was taken.
    async fn a_cluster_that_was_changed_meanwhile_was_deleted_in_spite_of_if_match(fixture) {
        let mut row = add_cluster(&fixture, "one").await;
        let mut tx = fixture.manager.store.begin().await.unwrap();
        assert!(cluster::update(&mut tx.conn(), &mut row, fixture.manager.clock.now()).await.unwrap());
        let request = Request::delete(format!("/v1/clusters/{}", row.id))
            .header("authorization", format!("Bearer {}", fixture.token(Role::Admin)))
            .header("if-match", "\"1\"")
            .body(Body::empty())
            .unwrap();
        let (answer, ()) = tokio::join!(fixture.send(request), async {
            sleep(Duration::from_millis(400)).await;
            tx.commit().await.unwrap();
        });
        assert_eq!(answer.status, StatusCode::PRECONDITION_FAILED, "{}", answer.body);
    }

    async fn a_cluster_that_does_not_answer_was_never_seen(fixture) {
        let row = add_cluster(&fixture, "one").await;
        let path = format!("/v1/clusters/{}/status", row.id);
        assert_eq!(get(&fixture, Role::Admin, &path).await.0["last_seen"], json!(null));
        let mut tx = fixture.manager.store.begin().await.unwrap();
        let seen = "2026-03-01T10:00:00Z";
        cluster::set_seen(&mut tx.conn(), row.id, seen.parse().unwrap()).await.unwrap();
        tx.commit().await.unwrap();
        let status = get(&fixture, Role::Admin, &path).await.0;
        assert_eq!((&status["reachable"], &status["last_seen"]), (&json!(false), &json!(seen)));
    }

    async fn the_short_form_of_an_app_beside_a_spec_was_refused(fixture) {
        let world = World::new(&fixture).await;
        let body = |name: &str, rest: Value| {
            let mut body = json!({"projectID": world.mine.project, "name": name, "image": "nginx"});
            body.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
            body
        };
        let hosts = body("a", json!({"spec": {"hosts": ["a.b.c"]}}));
        let made = fixture.admin("POST", "/v1/apps", &hosts, 201).await;
        assert_eq!((&made["spec"]["hosts"], &made["spec"]["delivery"]["image"]), (&json!(["a.b.c"]), &json!("nginx")));
        let block = body("b", json!({"spec": {"delivery": {"image": {"replicas": 2}}}}));
        let made = fixture.admin("POST", "/v1/apps", &block, 201).await;
        assert_eq!(made["spec"]["delivery"]["image"], json!({"ref": "nginx", "replicas": 2}));
        for (rest, told) in [
            (json!({"spec": {"delivery": {"image": {"ref": "httpd"}}}}), "image: \"nginx\" and spec.delivery.image \"httpd\" differ"),
            (json!({"spec": {"delivery": {"git": {"repository": "https://a/b"}}}}), "image: spec.delivery is of another kind"),
            (json!({"host": "x.y.z", "spec": {"hosts": ["a.b.d"]}}), "host: x.y.z is not among the hosts of spec"),
            (json!({"spec": {"delivery": 1}}), "spec.delivery"),
        ] {
            let refused = fixture.admin("POST", "/v1/apps", &body("c", rest), 400).await;
            assert!(refused["error"].as_str().unwrap().starts_with(told), "{refused}");
        }
        let id = made["id"].as_str().unwrap().to_uppercase();
        let parents = json!({"id": id, "projectID": world.mine.project.to_uppercase(), "labels": {"a": "b"}});
        fixture.admin("PATCH", "/v1/apps", &parents, 200).await;
    }
}
