//! Who may call what: role by operation, walked from the document.
//!
//! Invariant: what is closed to a role is 403 before its body or id is looked at; what is not the caller's is the same 404 as what is not there.

use crate::fixture::{Fixture, is_open, operations};
use axum::http::StatusCode;
use kubeop_core::authz::Role;
use kubeop_core::id::{ProjectId, TenantId};

/// What a tenant may call.
const TENANT: [(&str, &str); 24] = [
    ("GET", "/v1/tenants"),
    ("GET", "/v1/tenants/{id}"),
    ("GET", "/v1/projects"),
    ("POST", "/v1/projects"),
    ("PUT", "/v1/projects"),
    ("PATCH", "/v1/projects"),
    ("GET", "/v1/projects/{id}"),
    ("PUT", "/v1/projects/{id}"),
    ("PATCH", "/v1/projects/{id}"),
    ("DELETE", "/v1/projects/{id}"),
    ("GET", "/v1/apps"),
    ("POST", "/v1/apps"),
    ("PUT", "/v1/apps"),
    ("PATCH", "/v1/apps"),
    ("GET", "/v1/apps/{id}"),
    ("PUT", "/v1/apps/{id}"),
    ("PATCH", "/v1/apps/{id}"),
    ("DELETE", "/v1/apps/{id}"),
    ("GET", "/v1/platform/policy"),
    ("POST", "/v1/jwt/project"),
    ("DELETE", "/v1/jwt/{id}"),
    ("GET", "/v1/kubeconfigs"),
    ("DELETE", "/v1/kubeconfigs/{id}"),
    ("GET", "/v1/usage/snapshot"),
];
/// What a tenant may call besides, and a project may too.
const BOTH: [(&str, &str); 1] = [("GET", "/v1/kubeconfigs/project/{id}")];
/// What a tenant may call besides.
const TENANT_BILLING: [(&str, &str); 2] = [("GET", "/v1/invoices/{id}"), ("GET", "/v1/invoices")];
/// What a project may call.
const PROJECT: [(&str, &str); 11] = [
    ("GET", "/v1/projects"),
    ("GET", "/v1/projects/{id}"),
    ("GET", "/v1/apps"),
    ("POST", "/v1/apps"),
    ("PUT", "/v1/apps"),
    ("PATCH", "/v1/apps"),
    ("GET", "/v1/apps/{id}"),
    ("PUT", "/v1/apps/{id}"),
    ("PATCH", "/v1/apps/{id}"),
    ("DELETE", "/v1/apps/{id}"),
    ("GET", "/v1/platform/policy"),
];

#[tokio::test]
async fn every_operation_is_closed_to_whom_the_table_does_not_name() {
    let fixture = Fixture::new().await;
    let tenant = fixture.token(Role::Tenant(TenantId(fixture.manager.ids.next())));
    let project = fixture.token(Role::Project(ProjectId(fixture.manager.ids.next())));
    for (method, pattern) in operations() {
        let path = pattern.replace("{id}", "not-an-id");
        let key = (method.as_str(), pattern.as_str());
        // Garbage as body and id: whoever is refused is refused before they are looked at.
        let body = matches!(key.0, "POST" | "PUT" | "PATCH").then_some("}{");
        if is_open(&pattern) {
            assert_ne!(fixture.call(key.0, &path, None, body).await.status, StatusCode::UNAUTHORIZED, "{key:?}");
            continue;
        }
        let nobody = fixture.call(key.0, &path, None, body).await;
        assert_eq!(nobody.status, StatusCode::UNAUTHORIZED, "{key:?}");
        assert_eq!(nobody.headers["www-authenticate"], "Bearer");
        assert!(!nobody.error().is_empty());
        let may_tenant = TENANT.contains(&key) || BOTH.contains(&key) || TENANT_BILLING.contains(&key);
        let may_project = PROJECT.contains(&key) || BOTH.contains(&key);
        for (token, may, role) in [(&tenant, may_tenant, "tenant"), (&project, may_project, "project")] {
            let answer = fixture.call(key.0, &path, Some(token), body).await;
            assert_eq!(answer.status != StatusCode::FORBIDDEN, may, "{role} {key:?} {}", answer.body);
            if !may {
                assert!(answer.error().contains(role), "{}", answer.body);
            }
        }
    }
}

#[tokio::test]
async fn what_is_not_there_is_not_found_for_everybody() {
    let fixture = Fixture::new().await;
    let admin = fixture.token(Role::Admin);
    let tenant = fixture.token(Role::Tenant(TenantId(fixture.manager.ids.next())));
    let id = fixture.absent();
    for path in
        ["/v1/tenants/{id}", "/v1/projects/{id}", "/v1/apps/{id}", "/v1/invoices/{id}", "/v1/kubeconfigs/project/{id}"]
    {
        let path = path.replace("{id}", &id);
        let one = fixture.call("GET", &path, Some(&admin), None).await;
        let other = fixture.call("GET", &path, Some(&tenant), None).await;
        assert_eq!((one.status, other.status), (StatusCode::NOT_FOUND, StatusCode::NOT_FOUND), "{path}");
        assert_eq!(one.error(), other.error());
    }
}

#[tokio::test]
async fn denials_are_on_record() {
    let fixture = Fixture::new().await;
    let project = fixture.token(Role::Project(ProjectId(fixture.manager.ids.next())));
    fixture.call("POST", "/v1/clusters", Some(&project), Some("{}")).await;
    let admin = fixture.token(Role::Admin);
    let log = fixture.call("GET", "/v1/audit", Some(&admin), None).await.body;
    assert_eq!(log[0]["outcome"], "denied", "{log}");
    assert_eq!(log[0]["detail"], "ManageClusters");
}
