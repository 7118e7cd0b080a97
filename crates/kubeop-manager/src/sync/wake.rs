//! Waking the sync of a cluster after a commit.
//!
//! Invariant: a wake-up that comes before the sleeper is not lost; a missed one (of another replica) costs a short poll, never an update.

use kubeop_core::id::ClusterId;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::Notify;

/// Who is to be woken.
#[derive(Default)]
pub struct Wake {
    clusters: Mutex<HashMap<ClusterId, Arc<Notify>>>,
    supervisor: Notify,
}

impl Wake {
    /// Something of this cluster changed.
    pub fn cluster(&self, id: ClusterId) {
        self.bell(id).notify_one();
        self.supervisor.notify_one();
    }

    /// Something of every cluster changed.
    pub fn all(&self) {
        for bell in self.lock().values() {
            bell.notify_one();
        }
        self.supervisor.notify_one();
    }

    /// The bell of a cluster.
    pub fn bell(&self, id: ClusterId) -> Arc<Notify> {
        Arc::clone(self.lock().entry(id).or_default())
    }

    /// Waits until clusters may have come or gone.
    pub async fn supervisor(&self) {
        self.supervisor.notified().await;
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<ClusterId, Arc<Notify>>> {
        self.clusters.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
