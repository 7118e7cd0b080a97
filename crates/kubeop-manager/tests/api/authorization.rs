//! Who may call what: role × operation × {own, foreign, absent}, walked from the document.
//!
//! Invariant: what is closed to a role is 403 before its body or id is looked at; what is not the caller's is the same 404 as what is not there.

use crate::fixture::{Answer, Fixture, is_open, operations};
use crate::world::{Estate, World};
use axum::http::StatusCode;
use kubeop_core::authz::Role;
use serde_json::{Value, json};

/// Who may call an operation besides admins.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Who {
    Admins,
    Tenants,
    Projects,
}
use Who::{Admins, Projects, Tenants};

/// Every operation that needs a caller.
const TABLE: &[(&str, &str, Who)] = &[
    ("POST", "/v1/clusters", Admins),
    ("GET", "/v1/clusters", Admins),
    ("PUT", "/v1/clusters", Admins),
    ("PATCH", "/v1/clusters", Admins),
    ("GET", "/v1/clusters/{id}", Admins),
    ("PUT", "/v1/clusters/{id}", Admins),
    ("PATCH", "/v1/clusters/{id}", Admins),
    ("DELETE", "/v1/clusters/{id}", Admins),
    ("GET", "/v1/clusters/{id}/status", Admins),
    ("GET", "/v1/clusters/{id}/ready", Admins),
    ("POST", "/v1/tenants", Admins),
    ("GET", "/v1/tenants", Tenants),
    ("PUT", "/v1/tenants", Admins),
    ("PATCH", "/v1/tenants", Admins),
    ("GET", "/v1/tenants/{id}", Tenants),
    ("PUT", "/v1/tenants/{id}", Admins),
    ("PATCH", "/v1/tenants/{id}", Admins),
    ("DELETE", "/v1/tenants/{id}", Admins),
    ("POST", "/v1/projects", Tenants),
    ("GET", "/v1/projects", Projects),
    ("PUT", "/v1/projects", Tenants),
    ("PATCH", "/v1/projects", Tenants),
    ("GET", "/v1/projects/{id}", Projects),
    ("PUT", "/v1/projects/{id}", Tenants),
    ("PATCH", "/v1/projects/{id}", Tenants),
    ("DELETE", "/v1/projects/{id}", Tenants),
    ("POST", "/v1/apps", Projects),
    ("GET", "/v1/apps", Projects),
    ("PUT", "/v1/apps", Projects),
    ("PATCH", "/v1/apps", Projects),
    ("GET", "/v1/apps/{id}", Projects),
    ("PUT", "/v1/apps/{id}", Projects),
    ("PATCH", "/v1/apps/{id}", Projects),
    ("DELETE", "/v1/apps/{id}", Projects),
    ("PUT", "/v1/platform/policy", Admins),
    ("GET", "/v1/platform/policy", Projects),
    ("POST", "/v1/platform/bootstrap", Admins),
    ("POST", "/v1/platform/autoscale", Admins),
    ("GET", "/v1/platform/status", Admins),
    ("GET", "/v1/platform/prices", Admins),
    ("POST", "/v1/platform/prices", Admins),
    ("GET", "/v1/analytics/summary", Admins),
    ("GET", "/v1/audit", Admins),
    ("GET", "/v1/webhooks/dead", Admins),
    ("POST", "/v1/webhooks/dead/{id}/replay", Admins),
    ("POST", "/v1/jwt/project", Tenants),
    ("POST", "/v1/jwt/tenant", Admins),
    ("DELETE", "/v1/jwt/{id}", Tenants),
    ("GET", "/v1/kubeconfigs/project/{id}", Projects),
    ("GET", "/v1/kubeconfigs", Tenants),
    ("DELETE", "/v1/kubeconfigs/{id}", Tenants),
    ("POST", "/v1/usage/ingest", Admins),
    ("GET", "/v1/usage/snapshot", Tenants),
    ("GET", "/v1/invoices", Tenants),
    ("GET", "/v1/invoices/{id}", Tenants),
];

fn who(method: &str, pattern: &str) -> Who {
    let row = TABLE.iter().find(|(m, p, _)| (*m, *p) == (method, pattern));
    row.unwrap_or_else(|| panic!("{method} {pattern} has no row in the authorization table")).2
}

fn may(role: Role, who: Who) -> bool {
    match role {
        Role::Admin => true,
        Role::Tenant(_) => who != Admins,
        Role::Project(_) => who == Projects,
    }
}

/// Of an estate, what an operation's path speaks of.
fn target<'a>(pattern: &str, estate: &'a Estate) -> Option<&'a str> {
    Some(match pattern {
        p if p.starts_with("/v1/tenants") || p.starts_with("/v1/invoices") => &estate.tenant,
        p if p.starts_with("/v1/projects") || p.starts_with("/v1/kubeconfigs/project") => &estate.project,
        p if p.starts_with("/v1/apps") => &estate.app,
        p if p.starts_with("/v1/kubeconfigs/") => &estate.kubeconfig,
        p if p.starts_with("/v1/jwt/{id}") => &estate.jti,
        _ => return None,
    })
}

/// What one sees of an answer, with the id that was asked for blotted out.
fn seen(answer: &Answer, id: &str) -> (StatusCode, String, Vec<(String, String)>) {
    let blot = |text: &str| text.replace(id, "ID");
    let mut headers: Vec<_> = answer
        .headers
        .iter()
        .filter(|(name, _)| *name != "x-request-id")
        .map(|(name, value)| (name.to_string(), blot(value.to_str().unwrap())))
        .collect();
    headers.sort();
    (answer.status, blot(&answer.body.to_string()), headers)
}

/// Calls an operation for an object: by its id in the path, or in the body of a change of the collection.
async fn call_for(fixture: &Fixture, role: Role, method: &str, pattern: &str, id: &str, body: &Value) -> Answer {
    let token = fixture.token(role);
    let mut body = body.clone();
    if !pattern.contains("{id}") {
        body["id"] = json!(id);
    }
    let body = matches!(method, "PUT" | "PATCH").then(|| body.to_string());
    fixture.call(method, &pattern.replace("{id}", id), Some(&token), body.as_deref()).await
}

both! {
    async fn every_operation_is_closed_to_whom_the_table_does_not_name(fixture) {
        let world = World::new(&fixture).await;
        let all = operations();
        for (method, pattern, _) in TABLE {
            assert!(all.contains(&((*method).to_owned(), (*pattern).to_owned())), "{method} {pattern} is not there");
        }
        for (method, pattern) in all {
            let path = pattern.replace("{id}", "not-an-id");
            let key = (method.as_str(), pattern.as_str());
            // Garbage as body, key and id: whoever is refused is refused before they are looked at.
            let body = matches!(key.0, "POST" | "PUT" | "PATCH").then_some("}{");
            if is_open(&pattern) {
                assert_ne!(fixture.call(key.0, &path, None, body).await.status, StatusCode::UNAUTHORIZED, "{key:?}");
                continue;
            }
            let nobody = fixture.call(key.0, &path, None, body).await;
            assert_eq!(nobody.status, StatusCode::UNAUTHORIZED, "{key:?}");
            assert_eq!(nobody.headers["www-authenticate"], "Bearer");
            assert!(!nobody.error().is_empty());
            for role in [Role::Admin, world.tenant(), world.project()] {
                let answer = fixture.call(key.0, &path, Some(&fixture.token(role)), body).await;
                let allowed = may(role, who(key.0, key.1));
                assert_eq!(answer.status != StatusCode::FORBIDDEN, allowed, "{role:?} {key:?} {}", answer.body);
                assert_ne!(answer.status, StatusCode::UNAUTHORIZED, "{role:?} {key:?} {}", answer.body);
                if !allowed {
                    assert!(answer.error().contains(role.claim()), "{}", answer.body);
                }
            }
        }
    }

    async fn what_is_foreign_looks_like_what_is_absent(fixture) {
        let world = World::new(&fixture).await;
        // To a project, the other project of its own tenant is foreign too.
        let sibling_app = json!({"projectID": world.mine.sibling, "name": "site", "image": "nginx:1"});
        let sibling_app = fixture.admin("POST", "/v1/apps", &sibling_app, 201).await["id"].as_str().unwrap().to_owned();
        let sibling = Estate {
            tenant: world.theirs.tenant.clone(),
            project: world.mine.sibling.clone(),
            sibling: world.mine.project.clone(),
            app: sibling_app,
            kubeconfig: world.theirs.kubeconfig.clone(),
            jti: world.theirs.jti.clone(),
        };
        let mut checked = 0;
        for (role, foreign) in [
            (world.tenant(), &world.theirs), (world.project(), &world.theirs), (world.project(), &sibling),
        ] {
            for (method, pattern, who) in TABLE.iter().filter(|row| row.0 != "POST") {
                let addressed = pattern.contains("{id}") || matches!(*method, "PUT" | "PATCH");
                let Some(id) = target(pattern, foreign).filter(|_| addressed && may(role, *who)) else { continue };
                let absent = fixture.absent();
                let patch = json!({"labels": {"a": "b"}});
                let one = call_for(&fixture, role, method, pattern, id, &patch).await;
                let other = call_for(&fixture, role, method, pattern, &absent, &patch).await;
                assert_eq!(one.status, StatusCode::NOT_FOUND, "{role:?} {method} {pattern} {}", one.body);
                assert_eq!(seen(&one, id), seen(&other, &absent), "{role:?} {method} {pattern}");
                checked += 1;
            }
        }
        assert!(checked >= 33, "{checked}");
    }

    async fn what_is_ones_own_is_reached_and_what_is_absent_is_not_found(fixture) {
        let world = World::new(&fixture).await;
        // Reading first, deleting last, children before parents.
        let order = |method: &str, pattern: &str| match (method, pattern) {
            ("GET", _) => 0,
            ("PATCH", _) => 1,
            ("PUT", _) => 2,
            (_, pattern) if pattern.starts_with("/v1/apps") => 3,
            (_, pattern) if pattern.starts_with("/v1/projects") => 5,
            (_, pattern) if pattern.starts_with("/v1/tenants") => 6,
            _ => 4,
        };
        for (role, estate, deletes) in [
            (world.project(), &world.mine, false), (world.tenant(), &world.mine, true), (Role::Admin, &world.theirs, true),
        ] {
            let mut rows: Vec<_> = TABLE.iter().filter(|row| row.0 != "POST" && may(role, row.2)).collect();
            rows.sort_by_key(|row| order(row.0, row.1));
            for (method, pattern, _) in rows {
                let addressed = pattern.contains("{id}") || matches!(*method, "PUT" | "PATCH");
                let Some(id) = target(pattern, estate).filter(|_| addressed) else { continue };
                // Issuing waits for a cluster that answers: its 404s are checked, its success is not for here.
                if (*method == "DELETE" && !deletes) || pattern.starts_with("/v1/kubeconfigs/project") {
                    continue;
                }
                let absent = fixture.absent();
                let nothing = call_for(&fixture, role, method, pattern, &absent, &json!({"labels": {}})).await;
                // Whether there is such a token, only its end tells: an admin may revoke any.
                let expected = match (role, *pattern) {
                    (Role::Admin, "/v1/jwt/{id}") => StatusCode::NO_CONTENT,
                    _ => StatusCode::NOT_FOUND,
                };
                assert_eq!(nothing.status, expected, "{role:?} {method} {pattern} {}", nothing.body);
                let item = pattern.split("/{id}").next().unwrap();
                let body = match *method {
                    "PUT" => fixture.call("GET", &format!("{item}/{id}"), Some(&fixture.token(role)), None).await.body,
                    _ => json!({"labels": {"a": "b"}}),
                };
                // A tenant's projects have to go first.
                if *pattern == "/v1/tenants/{id}" && *method == "DELETE" {
                    fixture.admin("DELETE", &format!("/v1/projects/{}", estate.sibling), &json!(null), 204).await;
                }
                let answer = call_for(&fixture, role, method, pattern, id, &body).await;
                assert!(answer.status.is_success(), "{role:?} {method} {pattern} {} {}", answer.status, answer.body);
            }
        }
    }

    async fn a_parent_that_is_foreign_looks_like_one_that_is_absent(fixture) {
        let world = World::new(&fixture).await;
        let absent = fixture.absent();
        let theirs = &world.theirs;
        for (role, path, field, foreign, rest) in [
            (world.tenant(), "/v1/projects", "tenant_id", &theirs.tenant, json!({"name": "new"})),
            (world.tenant(), "/v1/projects", "tenant_id", &theirs.tenant, json!({"name": "web"})),
            (world.tenant(), "/v1/projects", "tenant_id", &theirs.tenant, json!({"name": "x", "namespace": "kubeop-theirs-web"})),
            (world.tenant(), "/v1/apps", "project_id", &theirs.project, json!({"name": "site", "image": "nginx:1"})),
            (world.project(), "/v1/apps", "project_id", &theirs.project, json!({"name": "site", "image": "nginx:1"})),
            (world.project(), "/v1/apps", "project_id", &world.mine.sibling, json!({"name": "site", "image": "nginx:1"})),
            (world.tenant(), "/v1/jwt/project", "project_id", &theirs.project, json!({})),
        ] {
            let token = fixture.token(role);
            let mut answers = Vec::new();
            for id in [foreign, &absent] {
                let mut body = rest.clone();
                body[field] = json!(id);
                let answer = fixture.call("POST", path, Some(&token), Some(&body.to_string())).await;
                assert!(answer.status.is_client_error(), "{path} {}", answer.body);
                answers.push(seen(&answer, id));
            }
            assert_eq!(answers[0], answers[1], "{role:?} {path} {rest}");
        }
    }

    async fn names_lists_and_counts_of_others_do_not_show(fixture) {
        let world = World::new(&fixture).await;
        let (tenant, project) = (fixture.token(world.tenant()), fixture.token(world.project()));
        // The same names as theirs are free.
        let same = json!({"tenantID": world.mine.tenant, "name": "other"}).to_string();
        assert_eq!(fixture.call("POST", "/v1/projects", Some(&tenant), Some(&same)).await.status, StatusCode::CREATED);
        // A namespace that another tenant's project holds is as forbidden as any outside one's own prefix.
        let mut refusals = Vec::new();
        for namespace in ["kubeop-theirs-web", "kubeop-theirs-not"] {
            let body = json!({"tenantID": world.mine.tenant, "name": "n", "namespace": namespace}).to_string();
            let answer = fixture.call("POST", "/v1/projects", Some(&tenant), Some(&body)).await;
            refusals.push(seen(&answer, namespace));
        }
        assert_eq!(refusals[0], refusals[1]);
        // A host that is taken is the one conflict that shows: not by whom.
        let body = json!({"projectID": world.mine.project, "name": "h", "image": "nginx:1", "host": "theirs.example.com"});
        let answer = fixture.call("POST", "/v1/apps", Some(&tenant), Some(&body.to_string())).await;
        assert_eq!((answer.status, answer.error()), (StatusCode::CONFLICT, "host theirs.example.com is used by another app"));

        let absent = fixture.absent();
        for (token, path, filter, foreign) in [
            (&tenant, "/v1/tenants", "name", "theirs"),
            (&tenant, "/v1/projects", "tenant_id", world.theirs.tenant.as_str()),
            (&tenant, "/v1/projects", "project_id", &world.theirs.project),
            (&tenant, "/v1/apps", "project_id", &world.theirs.project),
            (&tenant, "/v1/kubeconfigs", "project_id", &world.theirs.project),
            (&project, "/v1/projects", "tenant_id", &world.theirs.tenant),
            (&project, "/v1/projects", "project_id", &world.mine.sibling),
            (&project, "/v1/apps", "project_id", &world.mine.sibling),
        ] {
            let one = fixture.call("GET", &format!("{path}?{filter}={foreign}"), Some(token), None).await;
            let other = fixture.call("GET", &format!("{path}?{filter}={absent}"), Some(token), None).await;
            assert_eq!(one.body, json!([]), "{path} {filter}");
            assert_eq!(seen(&one, foreign), seen(&other, &absent));
            let whole = fixture.call("GET", path, Some(token), None).await.body.to_string();
            for theirs in [&world.theirs.tenant, &world.theirs.project, &world.theirs.app, &world.theirs.kubeconfig] {
                assert!(!whole.contains(theirs), "{path} {whole}");
            }
        }
        let mine = fixture.call("GET", "/v1/usage/snapshot", Some(&tenant), None).await.body;
        assert_eq!((&mine["totals"]["tenants"], &mine["totals"]["projects"], &mine["totals"]["apps"]), (&json!(1), &json!(3), &json!(1)));
        let path = |id: &str| format!("/v1/usage/snapshot?tenantID={id}");
        let one = fixture.call("GET", &path(&world.theirs.tenant), Some(&tenant), None).await;
        let other = fixture.call("GET", &path(&absent), Some(&tenant), None).await;
        assert_eq!(seen(&one, &world.theirs.tenant), seen(&other, &absent));
        let policy = fixture.call("GET", "/v1/platform/policy", Some(&tenant), None).await.body;
        assert_eq!(policy["clusters"], json!([]), "which clusters there are is not a tenant's to know");
    }
}
