//! The shape of errors: every operation against garbage.
//!
//! Invariant: `{"error": sentence}` and nothing else, for every status; never 500.

use crate::fixture::{is_open, operations};
use axum::body::Body;
use axum::http::{Request, StatusCode};
use kubeop_core::authz::Role;

both! {
    async fn garbage_gets_a_sentence_from_every_operation(fixture) {
        let admin = fixture.token(Role::Admin);
        let bodies =
            ["", "}{", "null", "[]", "[null]", "1", "\"x\"", r#"{"a":1,"a":2}"#, r#"{"zzz":1}"#, r#"{"name":{"a":[1]}}"#];
        let ids = ["not-an-id", "%00", "..", "00000000-0000-0000-0000-000000000000", "🦀"];
        for (method, pattern) in operations().into_iter().filter(|(_, pattern)| !is_open(pattern)) {
            for id in ids {
                let path = pattern.replace("{id}", &id.replace('🦀', "%F0%9F%A6%80"));
                for body in bodies {
                    let answer = fixture.call(&method, &path, Some(&admin), Some(body)).await;
                    assert!(answer.status.as_u16() < 500, "{method} {path} {body:?}: {} {}", answer.status, answer.body);
                    if answer.status.as_u16() >= 400 {
                        let sentence = answer.error();
                        assert!(!sentence.is_empty() && !sentence.ends_with('.'), "{method} {path} {body:?}: {sentence}");
                    }
                    assert!(answer.headers.contains_key("x-request-id"));
                }
                if !pattern.contains("{id}") {
                    break;
                }
            }
        }
    }

    async fn unknown_paths_methods_types_and_queries_have_the_shape_too(fixture) {
        let admin = fixture.token(Role::Admin);
        assert_eq!(fixture.call("GET", "/v1/nothing", None, None).await.status, StatusCode::NOT_FOUND);
        fixture.call("GET", "/v1/nothing", None, None).await.error();
        let answer = fixture.call("DELETE", "/v1/tenants", Some(&admin), None).await;
        assert_eq!(answer.status, StatusCode::METHOD_NOT_ALLOWED);
        answer.error();
        let request = Request::post("/v1/tenants")
            .header("authorization", format!("Bearer {admin}"))
            .header("content-type", "text/plain")
            .body(Body::from("{}"))
            .unwrap();
        let answer = fixture.send(request).await;
        assert_eq!(answer.status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
        answer.error();
        for query in ["limit=0", "limit=x", "cursor=x", "nonsense=1", "limit=1&LIMIT=2", "tenantID=x"] {
            let answer = fixture.call("GET", &format!("/v1/projects?{query}"), Some(&admin), None).await;
            assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{query}");
            answer.error();
        }
        let large = format!("{{\"name\":\"{}\"}}", "x".repeat(1 << 20));
        let answer = fixture.call("POST", "/v1/tenants", Some(&admin), Some(&large)).await;
        assert_eq!(answer.status, StatusCode::PAYLOAD_TOO_LARGE);
        answer.error();
    }

    async fn no_operation_ignores_a_query_parameter(fixture) {
        let admin = fixture.token(Role::Admin);
        let id = fixture.absent();
        for (method, pattern) in operations().into_iter().filter(|(_, pattern)| !is_open(pattern)) {
            // `status` and `version` are the server's own in bodies, which may be sent back.
            for query in ["zzz=1", "zzz", "status=Ready", "version=1", "server=x"] {
                let path = format!("{}?{query}", pattern.replace("{id}", &id));
                let body = (method != "GET" && method != "DELETE").then_some("{}");
                let answer = fixture.call(&method, &path, Some(&admin), body).await;
                assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{method} {path} {}", answer.body);
                let name = query.split('=').next().unwrap();
                assert!(answer.error().contains(name), "{method} {path} {}", answer.body);
            }
        }
    }

    async fn what_a_database_cannot_take_in_a_query_is_refused_before_it(fixture) {
        let admin = fixture.token(Role::Admin);
        for (path, name) in [
            ("/v1/tenants?name=%00", "name"),
            ("/v1/audit?action=a%00b", "action"),
            ("/v1/webhooks/dead?hook=%00", "hook"),
            ("/v1/projects?na%00me=x", "na\\0me"),
        ] {
            let answer = fixture.call("GET", path, Some(&admin), None).await;
            assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{path}");
            assert_eq!(answer.error(), format!("query parameter \"{name}\": a text without NUL is needed"));
        }
        let at: jiff::Timestamp = "-009000-01-01T00:00:00Z".parse().unwrap();
        let mut forged = at.as_microsecond().to_be_bytes().to_vec();
        forged.extend([7; 16]);
        let forged = base64::Engine::encode(&base64::prelude::BASE64_URL_SAFE_NO_PAD, forged);
        for list in ["tenants", "audit", "webhooks/dead", "invoices"] {
            let answer = fixture.call("GET", &format!("/v1/{list}?cursor={forged}"), Some(&admin), None).await;
            assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{list} {}", answer.body);
        }
    }

    async fn messages_name_field_value_and_what_is_allowed(fixture) {
        let admin = fixture.token(Role::Admin);
        let id = fixture.absent();
        for (method, path, body, expected) in [
            ("POST", "/v1/tenants", r#"{"name":"Acme","clusterID":"x"}"#.to_owned(), "name: \"Acme\" is not a valid name"),
            ("POST", "/v1/tenants", r#"{"name":"acme"}"#.to_owned(), "cluster_id: is required"),
            (
                "POST",
                "/v1/tenants",
                r#"{"name":"acme","clusterId":"7"}"#.to_owned(),
                "cluster_id: \"7\" is not a cluster id",
            ),
            ("POST", "/v1/tenants", format!(r#"{{"name":"acme","cluster_id":"{id}"}}"#), "there is no cluster"),
            ("POST", "/v1/tenants", r#"{"nam":"acme"}"#.to_owned(), "nam: unknown field; did you mean \"name\""),
            ("POST", "/v1/clusters", r#"{"name":"c","kubeconfig":"admin.conf"}"#.to_owned(), "send the file's content"),
            (
                "POST",
                "/v1/jwt/project",
                format!(r#"{{"ProjectID":"{id}","TTLMinutes":1441}}"#),
                "ttl_minutes: 1441 is not allowed: 1 to 1440",
            ),
            ("PUT", "/v1/platform/policy", r#"{"egressBaseline":["10.0.0.1/8"]}"#.to_owned(), "egressBaseline[0]"),
            ("PUT", "/v1/platform/policy", r#"{"quotaMax":{"requestsCPU":"1e2147483648"}}"#.to_owned(), "quotaMax"),
            (
                "POST",
                "/v1/usage/ingest",
                format!(r#"[{{"ts":"2026-01-01T00:00:00Z","tenant_id":"{id}","cpu_milli":-1,"mem_mib":0}}]"#),
                "[0]: cpu_milli: -1 is not allowed",
            ),
            ("POST", "/v1/usage/ingest", format!(r#"[{{"ts":"yesterday","tenant_id":"{id}","cpu_milli":1,"mem_mib":1}}]"#), "[0]: ts: \"yesterday\""),
            (
                "POST",
                "/v1/usage/ingest",
                format!(r#"[{{"ts":"2026-01-01T00:00:00Z","tenant_id":"{id}","cpu_milli":1,"mem_mib":1}}]"#),
                "there is no tenant",
            ),
        ] {
            let answer = fixture.call(method, path, Some(&admin), Some(&body)).await;
            assert!(answer.status.is_client_error(), "{body}: {}", answer.status);
            assert!(answer.error().contains(expected), "{body}: {}", answer.body);
        }
        let version = fixture.call("GET", "/v1/platform/policy", Some(&admin), None).await.body["version"].clone();
        assert_eq!(version, 1, "nothing was half-stored");
    }
}
