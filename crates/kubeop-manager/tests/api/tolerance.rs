//! Spellings, and bodies that are sent back: what a caller may get wrong without harm, and what not.
//!
//! Invariant: the tolerance is for names of fields alone, never for keys that are data.

use crate::fixture::Fixture;
use crate::world::World;
use axum::body::Body;
use axum::http::Request;
use kubeop_core::authz::Role;
use serde_json::{Value, json};

/// Path of an item and of its collection, for every kind that can be changed.
fn items(world: &World) -> [(String, &'static str); 4] {
    [
        (format!("/v1/clusters/{}", world.cluster), "/v1/clusters"),
        (format!("/v1/tenants/{}", world.mine.tenant), "/v1/tenants"),
        (format!("/v1/projects/{}", world.mine.project), "/v1/projects"),
        (format!("/v1/apps/{}", world.mine.app), "/v1/apps"),
    ]
}

async fn with_version(fixture: &Fixture, method: &str, path: &str, etag: &str, body: &Value) -> (u16, Option<String>) {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("authorization", format!("Bearer {}", fixture.token(Role::Admin)))
        .header("content-type", "application/json")
        .header("if-match", etag)
        .body(Body::from(body.to_string()));
    let answer = fixture.send(request.unwrap()).await;
    (answer.status.as_u16(), answer.headers.get("etag").map(|value| value.to_str().unwrap().to_owned()))
}

both! {
    async fn what_was_read_can_be_put_back_under_its_version(fixture) {
        let world = World::new(&fixture).await;
        let admin = fixture.token(Role::Admin);
        let policy = ("/v1/platform/policy".to_owned(), "/v1/platform/policy");
        for (item, collection) in items(&world).into_iter().chain([policy]) {
            let read = fixture.call("GET", &item, Some(&admin), None).await;
            let etag = read.headers["etag"].to_str().unwrap().to_owned();
            assert_eq!(etag, format!("\"{}\"", read.body["version"]), "{item}");
            let (status, next) = with_version(&fixture, "PUT", &item, &etag, &read.body).await;
            assert_eq!(status, 200, "{item}");
            assert_ne!(next.as_deref(), Some(etag.as_str()), "{item}");
            assert_eq!(with_version(&fixture, "PUT", &item, &etag, &read.body).await.0, 412, "{item}");
            let (status, _) = with_version(&fixture, "PUT", collection, &next.unwrap(), &read.body).await;
            assert_eq!(status, 200, "{collection}");
            let again = fixture.call("GET", &item, Some(&admin), None).await.body;
            for field in ["name", "labels", "quotas", "spec", "namespace", "pod_security", "imageAllowlist"] {
                assert_eq!(again[field], read.body[field], "{item} {field}");
            }
        }
    }

    async fn a_change_is_based_on_any_version_of_a_list(fixture) {
        let tenant = format!("/v1/tenants/{}", World::new(&fixture).await.mine.tenant);
        let body = fixture.admin("GET", &tenant, &json!({}), 200).await;
        let put = async |etag: &str| with_version(&fixture, "PUT", &tenant, etag, &body).await.0;
        assert_eq!(put("\"7\", \"1\"").await, 200);
        for other in ["\"1\"", "\"abc\"", "W/\"2\"", "\"1\", \"3\""] {
            assert_eq!(put(other).await, 412, "{other}");
        }
        for bad in ["2", "\"2", "W/2", "*, \"2\""] {
            assert_eq!(put(bad).await, 400, "{bad}");
        }
        assert_eq!(put("*").await, 200);
    }

    async fn the_next_page_is_there_however_the_cursor_was_spelled(fixture) {
        let world = World::new(&fixture).await;
        let admin = fixture.token(Role::Admin);
        for n in 0..3 {
            let project = json!({"tenantID": world.mine.tenant, "name": format!("p{n}")});
            fixture.admin("POST", "/v1/projects", &project, 201).await;
        }
        for spelling in ["Cursor", "_cursor", "c%75rsor"] {
            let mut next = Some("/v1/projects?limit=2".to_owned());
            let mut pages = 0;
            while let Some(path) = next {
                let path = path.replace("cursor=", &format!("{spelling}="));
                let page = fixture.call("GET", &path, Some(&admin), None).await;
                assert_eq!(page.status, 200, "{path} {}", page.body);
                let link = page.headers.get("link").map(|link| link.to_str().unwrap());
                next = link.map(|link| link[1..link.find('>').unwrap()].to_owned());
                pages += 1;
            }
            assert!(pages >= 3, "{spelling} {pages}");
        }
    }

    async fn names_of_fields_are_tolerant_and_keys_of_data_are_not(fixture) {
        let world = World::new(&fixture).await;
        let tenant = &world.mine.tenant;
        for (number, field) in ["tenantID", "tenant_id", "TenantId", "tenant-id", "TENANT_ID"].into_iter().enumerate() {
            let body = json!({field: tenant, "NAME": format!("p{number}"), "Pod_Security": "restricted"});
            fixture.admin("POST", "/v1/projects", &body, 201).await;
            let list = fixture.admin("GET", &format!("/v1/projects?{field}={tenant}&LIMIT=1"), &json!({}), 200).await;
            assert_eq!(list.as_array().unwrap().len(), 1, "{field}");
        }
        for twice in [r#"{"tenantID":"ID","tenant_id":"ID","name":"x"}"#, r#"{"name":"x","Name":"x","tenant_id":"ID"}"#] {
            let body = twice.replace("ID", tenant);
            let answer = fixture.call("POST", "/v1/projects", Some(&fixture.token(Role::Admin)), Some(&body)).await;
            assert_eq!(answer.status, 400, "{twice}: {}", answer.body);
            assert!(answer.error().contains("name"), "{}", answer.error());
        }
        let body = json!({"tenantID": tenant, "name": "x", "podSecurty": "restricted"});
        let answer = fixture.call("POST", "/v1/projects", Some(&fixture.token(Role::Admin)), Some(&body.to_string())).await;
        assert!(answer.error().contains("podSecurty") && answer.error().contains("pod_security"), "{}", answer.error());

        // Three labels, not one; and quota keys keep their spelling.
        let labels = json!({"team_a": "1", "team-a": "2", "TeamA": "3"});
        let body = json!({"tenantID": tenant, "name": "data", "labels": labels, "status": {"phase": "Ready"}, "version": 9});
        let made = fixture.admin("POST", "/v1/projects", &body, 201).await;
        for (key, value) in labels.as_object().unwrap() {
            assert_eq!(&made["labels"][key], value, "{}", made["labels"]);
        }
        assert_eq!(made["version"], 1, "what is the server's own is ignored");
        let body = json!({"tenantID": tenant, "name": "quota", "quotas": {"CPU": "1"}});
        fixture.admin("POST", "/v1/projects", &body, 400).await;
    }
}
