//! A machine whose clock is hours off the cluster's.

use crate::{fresh, prepared};
use jiff::{SignedDuration, Timestamp};
use kubeop_cluster::clock::ClusterClock;
use kubeop_cluster::lease::{Standing, Terms, campaign};
use kubeop_cluster::status;
use kubeop_core::clock::{Clock, SystemClock};
use kubeop_core::name::SYSTEM_NAMESPACE;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// A clock that is wrong by so much.
struct Skewed(SignedDuration);

impl Clock for Skewed {
    fn now(&self) -> Timestamp {
        SystemClock.now() + self.0
    }
}

#[tokio::test]
async fn an_operator_whose_clock_is_hours_off_is_seen_alive() {
    let client = prepared().await;
    for hours in [2, -2] {
        let stop = CancellationToken::new();
        let terms = Terms::new(SYSTEM_NAMESPACE, status::OPERATOR_LEASE, format!("skewed-{hours}"));
        let clock = Arc::new(Skewed(SignedDuration::from_hours(hours)));
        let (mut standing, campaign) = campaign(client.clone(), terms, clock, stop.clone());
        // Should another process hold the lease, this one takes it over when that ends.
        let leads = standing.wait_for(|standing| *standing == Standing::Leads);
        tokio::time::timeout(Duration::from_mins(1), leads).await.unwrap().unwrap();
        let observed = status::observe(&client, fresh(), SystemClock.now()).await;
        assert!(observed.operator, "{hours} h: {:?}", observed.messages);
        stop.cancel();
        campaign.await.unwrap();
    }
}

#[tokio::test]
async fn the_cluster_s_clock_is_shown_whatever_the_machine_s_says() {
    let client = prepared().await;
    for hours in [2, -2, 100_000] {
        let clock = ClusterClock::new(Arc::new(Skewed(SignedDuration::from_hours(hours))));
        let off = || clock.now().duration_since(SystemClock.now()).abs();
        assert!(off() > SignedDuration::from_mins(119), "{hours} h: nothing was heard yet");
        clock.hear(&client).await.unwrap();
        assert!(off() < SignedDuration::from_secs(10), "{hours} h: {:?} off", off());
        let (before, start) = (clock.now(), std::time::Instant::now());
        tokio::time::sleep(Duration::from_millis(300)).await;
        let (gone, real) = (clock.now().duration_since(before), start.elapsed());
        assert!(gone >= SignedDuration::from_millis(290), "it stands still: {gone:?} of {real:?}");
    }
}
