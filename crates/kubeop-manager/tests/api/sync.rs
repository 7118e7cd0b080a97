//! Clusters that do not answer: the sync's patience with them, and what is done to them all the same.

use crate::fixture::Fixture;
use crate::world::add_cluster_at;
use kubeop_manager::bootstrap::{self, MetricsWanted};
use kubeop_manager::sync::{Pace, Wake, supervise};
use kubeop_store::cluster::{self, BootstrapState};
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

/// Every change rang the bell of a worker that waited for its cluster, which had it asked again at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_changes_does_not_hammer_a_cluster_that_does_not_answer() {
    let fixture = Fixture::new().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    tokio::spawn(async move {
        // Hangs up on everybody.
        while listener.accept().await.is_ok() {
            count.fetch_add(1, Ordering::SeqCst);
        }
    });
    let row = add_cluster_at(&fixture, "far", port, BootstrapState::Done).await;
    let end = CancellationToken::new();
    let supervising = tokio::spawn(supervise(Arc::clone(&fixture.manager), Pace::default(), end.clone()));
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_millis(1800) {
        fixture.manager.wake.cluster(row.id);
        sleep(Duration::from_millis(1)).await;
    }
    let times = asked.load(Ordering::SeqCst);
    assert!((1..=8).contains(&times), "it was asked {times} times");
    end.cancel();
    supervising.await.unwrap();
}

#[tokio::test]
async fn a_pause_hears_changes_after_its_least_and_a_new_way_at_once() {
    let (wake, id) = (Wake::default(), kubeop_core::id::ClusterId(uuid::Uuid::from_u128(1)));
    let long = Duration::from_mins(5);
    wake.cluster(id);
    timeout(Duration::from_millis(80), wake.rest(id, long, Duration::from_millis(200))).await.unwrap_err();
    wake.cluster(id);
    timeout(Duration::from_secs(5), wake.rest(id, long, Duration::from_millis(50))).await.unwrap();
    wake.anew(id);
    timeout(Duration::from_secs(5), wake.rest(id, long, long)).await.unwrap();
}

async fn state(fixture: &Fixture, id: kubeop_core::id::ClusterId) -> (BootstrapState, Option<String>) {
    let row = cluster::get(&mut fixture.manager.store.read().await.unwrap().conn(), id).await.unwrap().unwrap();
    (row.bootstrap_state, row.bootstrap_message)
}

async fn actions(fixture: &Fixture) -> Vec<String> {
    let log = fixture.admin("GET", "/v1/audit?limit=1000", &json!({}), 200).await;
    log.as_array().unwrap().iter().map(|record| record["action"].as_str().unwrap().to_owned()).collect()
}

/// A cluster that was set up counted as not set up after a failed upgrade: no sync, no status, no kubeconfigs for all its tenants.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_upgrade_leaves_a_cluster_set_up_and_is_told_with_it() {
    let fixture = Fixture::new().await;
    let row = add_cluster_at(&fixture, "far", 1, BootstrapState::Done).await;
    let bootstrap = format!("/v1/platform/bootstrap?clusterID={}", row.id);
    fixture.admin("POST", &bootstrap, &json!({}), 503).await;
    let (now, message) = state(&fixture, row.id).await;
    assert_eq!(now, BootstrapState::Done);
    let shown = fixture.admin("GET", &format!("/v1/clusters/{}", row.id), &json!({}), 200).await;
    let told = format!("the last upgrade failed: {}", message.unwrap());
    assert_eq!((&shown["status"]["phase"], &shown["status"]["message"]), (&json!("Degraded"), &json!(told)));
}

/// The record was written when all was done, by a handler that ends when its caller hangs up.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_changes_a_cluster_is_on_record_before_the_cluster_is_asked() {
    let fixture = Fixture::new().await;
    let row = add_cluster_at(&fixture, "far", 1, BootstrapState::Done).await;
    let scale = format!("/v1/platform/autoscale?clusterID={}", row.id);
    fixture.admin("POST", &scale, &json!({"Enabled": true}), 503).await;
    fixture.admin("DELETE", &format!("/v1/clusters/{}?uninstall=true", row.id), &json!({}), 503).await;
    let log = actions(&fixture).await;
    assert!(["autoscale", "uninstall"].iter().all(|verb| log.iter().any(|action| action == verb)), "{log:?}");
}

/// An installation under way went on after the uninstallation, and overwrote that the cluster was being removed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_that_is_being_removed_is_set_up_again_by_a_person_alone() {
    let fixture = Fixture::new().await;
    let row = add_cluster_at(&fixture, "far", 1, BootstrapState::Done).await;
    fixture.admin("DELETE", &format!("/v1/clusters/{}?uninstall=true", row.id), &json!({}), 503).await;
    assert_eq!(state(&fixture, row.id).await.0, BootstrapState::Removing);
    let failed = bootstrap::attempt(&fixture.manager, &row, MetricsWanted::AsItIs).await.unwrap_err();
    assert_eq!(failed.message(), "kubeOP is being removed from cluster \"far\"");
    assert!(bootstrap::run(&fixture.manager, &row).await.is_none());
    assert_eq!(state(&fixture, row.id).await.0, BootstrapState::Removing);
    fixture.admin("POST", &format!("/v1/platform/bootstrap?clusterID={}", row.id), &json!({}), 503).await;
    assert_eq!(state(&fixture, row.id).await.0, BootstrapState::Failed);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tenants_are_not_told_where_their_cluster_is_nor_what_is_wrong_with_it() {
    let fixture = Fixture::new().await;
    let row = add_cluster_at(&fixture, "far", 1, BootstrapState::Done).await;
    let tenant = fixture.tenant("acme").await;
    let project = fixture.admin("POST", "/v1/projects", &json!({"tenantID": tenant, "name": "web"}), 201).await;
    let path = format!("/v1/projects/{}", project["id"].as_str().unwrap());
    let mut tx = fixture.manager.store.begin().await.unwrap();
    cluster::set_unreachable(&mut tx.conn(), row.id, Some("10.1.2.3:6443 is silent")).await.unwrap();
    tx.commit().await.unwrap();
    let shown = fixture.admin("GET", &path, &json!({}), 200).await;
    assert_eq!(shown["status"]["message"], "the cluster does not answer");
    let mut tx = fixture.manager.store.begin().await.unwrap();
    cluster::set_bootstrap(&mut tx.conn(), row.id, BootstrapState::Failed, Some("10.1.2.3 refuses")).await.unwrap();
    tx.commit().await.unwrap();
    let shown = fixture.admin("GET", &path, &json!({}), 200).await;
    assert_eq!(shown["status"]["message"], "the cluster is not set up yet");
}
