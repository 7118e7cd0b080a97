//! What is known of clusters: set up or not, answering or not.
//!
//! Invariant: written by the lease holder of a cluster alone, read by everybody.

use crate::api::status::Reachability;
use kubeop_core::Result;
use kubeop_core::id::ClusterId;
use kubeop_store::Conn;
use kubeop_store::cluster::{self, BootstrapState};
use std::collections::BTreeMap;

/// What is known of some clusters.
pub struct Known(BTreeMap<ClusterId, Reachability>);

impl Known {
    /// What is known of one of them; one that is not registered any more is not set up and does not answer.
    pub fn of(&self, id: ClusterId) -> Reachability {
        self.0.get(&id).cloned().unwrap_or_default()
    }
}

/// What is known of these clusters, in one query.
pub async fn of_clusters(conn: &mut Conn<'_>, ids: &[ClusterId]) -> Result<Known> {
    let mut distinct = ids.to_vec();
    distinct.sort_unstable();
    distinct.dedup();
    let rows = cluster::reach(conn, &distinct).await?;
    let known = rows
        .into_iter()
        .map(|row| {
            let bootstrapped = row.bootstrap_state == BootstrapState::Done;
            let message = if bootstrapped { row.unreachable.clone() } else { row.bootstrap_message };
            let known = Reachability {
                reachable: row.unreachable.is_none(),
                bootstrapped,
                message: message.unwrap_or_else(|| "it was not asked for".to_owned()),
            };
            (row.id, known)
        })
        .collect();
    Ok(Known(known))
}
