//! A tenant's envelope and what its projects hold of it.
//!
//! Invariant: no order of requests, and no spelling of an amount, has projects hold more than the envelope.

use crate::fixture::Fixture;
use serde_json::{Value, json};

async fn project(fixture: &Fixture, tenant: &str, name: &str, quotas: Value, status: u16) -> Value {
    fixture.admin("POST", "/v1/projects", &json!({"tenantID": tenant, "name": name, "quotas": quotas}), status).await
}

fn sentence(answer: &Value) -> &str {
    answer["error"].as_str().unwrap()
}

async fn quota_max(fixture: &Fixture, cpu: &str) {
    let policy = json!({"quotaMax": {"requestsCPU": cpu, "requestsMemory": "8Gi"}});
    fixture.admin("PUT", "/v1/platform/policy", &policy, 200).await;
}

both! {
    /// Kubernetes read 10,000 CPUs where a nano of one had been judged.
    async fn an_amount_means_what_kubernetes_reads(fixture) {
        let tenant = fixture.tenant("acme").await;
        let path = format!("/v1/tenants/{tenant}");
        fixture.admin("PATCH", &path, &json!({"quotas": {"cpu": "8"}}), 200).await;
        for hostile in ["10000e-4294967296", "0.0000000000000000001e23", "1e-2147483648", "1e2147483648", "0e2147483648"] {
            let refused = project(&fixture, &tenant, "web", json!({"cpu": hostile}), 400).await;
            let wanted = if hostile.starts_with("0.0") { "quota overflow" } else { "is not a resource quantity" };
            assert!(sentence(&refused).contains(wanted), "{refused}");
        }
    }

    /// A key that came later was held by nobody, however much the cluster gave.
    async fn a_key_added_to_an_envelope_does_not_oversell_it(fixture) {
        let tenant = fixture.tenant("acme").await;
        quota_max(&fixture, "4").await;
        let path = format!("/v1/tenants/{tenant}");
        let one = project(&fixture, &tenant, "one", json!({}), 201).await;
        project(&fixture, &tenant, "two", json!({}), 201).await;
        for (envelope, message) in [
            (json!({"pods": "100"}), "envelope pods 100 is below the 400 that projects already hold"),
            (json!({"cpu": "7"}), "envelope requests.cpu 7 is below the 8 that projects already hold"),
        ] {
            let refused = fixture.admin("PATCH", &path, &json!({"quotas": envelope}), 400).await;
            assert!(sentence(&refused).contains(message), "{refused}");
        }
        fixture.admin("PATCH", &path, &json!({"quotas": {"cpu": "9", "limits.cpu": "16"}}), 200).await;
        let shown = fixture.admin("GET", &format!("/v1/projects/{}", one["id"].as_str().unwrap()), &json!({}), 200).await;
        assert_eq!((&shown["granted"]["requests.cpu"], &shown["granted"]["limits.cpu"]), (&json!("4"), &json!("4")));
        let refused = project(&fixture, &tenant, "three", json!({"cpu": "2"}), 400).await;
        assert_eq!(sentence(&refused), "quota overflow: requests.cpu asked 2, granted 8, envelope 9");
        project(&fixture, &tenant, "three", json!({"cpu": "1"}), 201).await;
        // Labels can be changed whatever the envelope.
        fixture.admin("PATCH", &path, &json!({"labels": {"a": "b"}}), 200).await;
    }

    /// A hundred keys and those of the envelope were stored, and could not be read again: all changes of the tenant failed.
    async fn no_project_blocks_the_quotas_of_its_tenant(fixture) {
        let tenant = fixture.tenant("acme").await;
        let path = format!("/v1/tenants/{tenant}");
        fixture.admin("PATCH", &path, &json!({"quotas": {"cpu": "4"}}), 200).await;
        let many: Value = (0..100).map(|n| (format!("count/a{n}.example.com"), json!("1"))).collect::<serde_json::Map<_, _>>().into();
        let refused = project(&fixture, &tenant, "many", many, 400).await;
        assert!(sentence(&refused).contains("at most 100 quota keys"), "{refused}");
        project(&fixture, &tenant, "web", json!({}), 201).await;
        fixture.admin("PATCH", &path, &json!({"quotas": {"requests.cpu": "5"}}), 200).await;
    }

    async fn what_is_above_a_lowered_ceiling_may_shrink(fixture) {
        let tenant = fixture.tenant("acme").await;
        quota_max(&fixture, "4").await;
        let web = project(&fixture, &tenant, "web", json!({"cpu": "3"}), 201).await;
        quota_max(&fixture, "2").await;
        let path = format!("/v1/projects/{}", web["id"].as_str().unwrap());
        fixture.admin("PATCH", &path, &json!({"quotas": {"pods": "5"}}), 200).await;
        fixture.admin("PATCH", &path, &json!({"quotas": {"requests.cpu": "2500m"}}), 200).await;
        let refused = fixture.admin("PATCH", &path, &json!({"quotas": {"cpu": "3"}}), 400).await;
        assert!(sentence(&refused).contains("requests.cpu 3 is above the platform's quotaMax 2"), "{refused}");
    }
}
