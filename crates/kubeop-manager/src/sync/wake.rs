//! Waking the sync of a cluster after a commit.
//!
//! Invariant: a wake-up that comes before the sleeper is not lost; a missed one (of another replica) costs a short poll, never an update.
//! However many changes there are, they do not have a cluster that is being waited out asked more often than its worker says.

use kubeop_core::id::ClusterId;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::sleep;

/// Who is to be woken.
#[derive(Default)]
pub struct Wake {
    clusters: Mutex<HashMap<ClusterId, Arc<Bells>>>,
    supervisor: Notify,
}

/// The bells of a cluster.
#[derive(Default)]
struct Bells {
    /// Something is to be brought to it.
    changed: Notify,
    /// It may be reached differently, or was set up.
    anew: Notify,
}

impl Wake {
    /// Something is to be brought to this cluster.
    pub fn cluster(&self, id: ClusterId) {
        self.bells(id).changed.notify_one();
    }

    /// This cluster may answer where it did not before: it was set up, or registered differently.
    pub fn anew(&self, id: ClusterId) {
        let bells = self.bells(id);
        bells.changed.notify_one();
        bells.anew.notify_one();
        self.supervisor.notify_one();
    }

    /// Something of every cluster changed, or one is gone.
    pub fn all(&self) {
        for bells in self.lock().values() {
            bells.changed.notify_one();
        }
    }

    /// A cluster is deleted: nobody is woken for it any more.
    pub fn forget(&self, id: ClusterId) {
        self.lock().remove(&id);
    }

    /// Waits until something is to be brought to the cluster.
    pub async fn changed(&self, id: ClusterId) {
        self.bells(id).changed.notified().await;
    }

    /// Waits for `pause`. A change ends it, but not before `at_least`; that the cluster may answer now ends it at once.
    pub async fn rest(&self, id: ClusterId, pause: Duration, at_least: Duration) {
        let bells = self.bells(id);
        let at_least = at_least.min(pause);
        let resting = async {
            sleep(at_least).await;
            tokio::select! {
                () = sleep(pause.saturating_sub(at_least)) => {}
                () = bells.changed.notified() => {}
            }
        };
        tokio::select! {
            () = resting => {}
            () = bells.anew.notified() => {}
        }
    }

    /// Waits until clusters may have come or gone.
    pub async fn supervisor(&self) {
        self.supervisor.notified().await;
    }

    fn bells(&self, id: ClusterId) -> Arc<Bells> {
        Arc::clone(self.lock().entry(id).or_default())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<ClusterId, Arc<Bells>>> {
        self.clusters.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;

    /// Each created app made the supervisor renew all leases: a second durable transaction for every request.
    #[test]
    fn a_change_of_one_cluster_does_not_renew_leases() {
        let (wake, id) = (Wake::default(), ClusterId(uuid::Uuid::from_u128(1)));
        wake.cluster(id);
        wake.all();
        assert!(wake.supervisor().now_or_never().is_none());
        assert!(wake.changed(id).now_or_never().is_some());
        wake.anew(id);
        assert!(wake.supervisor().now_or_never().is_some());
    }
}
