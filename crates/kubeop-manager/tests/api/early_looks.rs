//! What is asked of a cluster before anything is written.
//!
//! Invariant: nobody learns from a cluster what the API would not tell.

use crate::world::add_cluster_at;
use axum::http::StatusCode;
use kubeop_core::authz::Role;
use kubeop_core::id::TenantId;
use kubeop_store::cluster::BootstrapState;
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::net::TcpListener;

both! {
    /// The cluster was asked before the prefix was looked at, and told a tenant which namespaces there are.
    async fn a_tenant_could_probe_which_namespaces_a_cluster_has(fixture) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        let hanging_up = tokio::spawn(async move {
            while listener.accept().await.is_ok() {
                count.fetch_add(1, Ordering::SeqCst);
            }
        });
        let home = add_cluster_at(&fixture, "home", port, BootstrapState::Done).await;
        let tenant = fixture.admin("POST", "/v1/tenants", &json!({"name": "mine", "clusterID": home.id}), 201).await;
        let id = tenant["id"].as_str().unwrap();
        let token = fixture.token(Role::Tenant(TenantId::parse(id).unwrap()));
        let body = |namespace: &str| json!({"tenantID": id, "name": "web", "namespace": namespace}).to_string();
        let refused = fixture.call("POST", "/v1/projects", Some(&token), Some(&body("monitoring"))).await;
        assert_eq!(refused.status, StatusCode::BAD_REQUEST);
        assert_eq!(refused.error(), "namespace: \"monitoring\" is not allowed: it must begin with \"kubeop-mine-\"");
        assert_eq!(asked.load(Ordering::SeqCst), 0, "the cluster was asked");
        // Within the prefix it is asked, and does not decide where it does not answer.
        let made = fixture.call("POST", "/v1/projects", Some(&token), Some(&body("kubeop-mine-x"))).await;
        assert_eq!(made.status, StatusCode::CREATED, "{}", made.body);
        assert!(asked.load(Ordering::SeqCst) > 0);
        hanging_up.abort();
    }
}
