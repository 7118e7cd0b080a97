//! Bringing the platform policy to a cluster: the ConfigMap `kubeop-policy`.
//!
//! Invariant: an older version never replaces a newer one.

use crate::api::policy::current;
use crate::state::Manager;
use kube::Client;
use kubeop_cluster::policy::publish;
use kubeop_core::{Error, Result};

/// Publishes the policy in force.
pub(super) async fn apply(manager: &Manager, client: &Client) -> Result<()> {
    let current = current(&mut manager.store.read().await?.conn()).await?;
    if publish(client, &current.raw, current.version).await? {
        return Ok(());
    }
    Err(Error::conflict(format!(
        "the cluster holds a later policy than version {} of this database: was it restored from a backup?",
        current.version
    )))
}
