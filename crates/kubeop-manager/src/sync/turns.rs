//! Turns at the database: how much of it the sync takes at once, however many clusters there are.
//!
//! Invariant: requests of people find most connections free, and no cluster's sync waits for more than the turns of the others before it.

use kubeop_core::{Error, Result};
use tokio::sync::{Semaphore, SemaphorePermit};

/// Connections at most: a quarter of what the store opens.
const AT_ONCE: usize = 4;

/// Who may use the database; in order of asking.
pub struct Turns(Semaphore);

impl Default for Turns {
    fn default() -> Self {
        Self(Semaphore::new(AT_ONCE))
    }
}

impl Turns {
    /// Waits for a turn, which lasts until it is dropped. Nobody waits for anything but the database in it, nor for a second turn.
    pub(super) async fn take(&self) -> Result<SemaphorePermit<'_>> {
        self.0.acquire().await.map_err(Error::internal)
    }
}
