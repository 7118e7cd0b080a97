//! Bringing a cluster that was set up before up to date: beside serving it, which goes on whether or not this succeeds.
//!
//! Invariant: what failed is told with the cluster and tried again with growing pauses, until it succeeds or the cluster is to be removed.

use super::worker::jittered;
use crate::bootstrap;
use crate::state::Manager;
use kubeop_core::Result;
use kubeop_store::cluster::{self, BootstrapState, Cluster};
use std::time::Duration;
use tokio::time::sleep;

/// How often is looked whether an upgrade failed, and how soon it is tried again at first.
const FIRST_PAUSE: Duration = Duration::from_secs(30);
const LONGEST_PAUSE: Duration = Duration::from_mins(10);

/// Upgrades at once where a start of the manager is to do so and did not yet (`resumed`), and later what failed, until dropped.
pub(super) async fn follow(manager: &Manager, row: &Cluster, resumed: &mut bool) {
    let at_start = manager.host.is_some() || manager.config.bootstrap_on_start;
    let mut pause = FIRST_PAUSE;
    // In this process it was tried a moment ago.
    let mut due = at_start && !*resumed && manager.host.is_none();
    loop {
        if due {
            if bootstrap::run(manager, row).await.is_some() {
                (*resumed, pause) = (true, FIRST_PAUSE);
            } else {
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
        sleep(jittered(pause, row.id)).await;
        due = match failed(manager, row).await {
            Ok(failed) => failed || at_start && !*resumed,
            Err(error) => {
                tracing::warn!(cluster = %row.name, error = %error.chain(), "failed to see whether an upgrade failed");
                false
            }
        };
    }
}

async fn failed(manager: &Manager, row: &Cluster) -> Result<bool> {
    let now = cluster::get(&mut manager.store.read().await?.conn(), row.id).await?;
    Ok(now.is_some_and(|now| now.bootstrap_state == BootstrapState::Done && now.bootstrap_message.is_some()))
}
