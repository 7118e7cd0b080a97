//! The sync's patience with a cluster that does not answer.

use crate::fixture::Fixture;
use crate::world::add_cluster_at;
use kubeop_manager::sync::{Pace, Wake, supervise};
use kubeop_store::cluster::BootstrapState;
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
