//! Which clusters this replica serves.
//!
//! Invariant: another's lease is taken over only after its counter stood still for 15 s of our own monotonic clock; clocks of machines are never compared.

use kubeop_core::Result;
use kubeop_core::id::ClusterId;
use kubeop_store::Store;
use kubeop_store::cluster_lease::{self, ClusterLease};
use std::collections::{HashMap, HashSet};
use std::time::Duration;
use tokio::time::Instant;
use uuid::Uuid;

/// How often, and how long.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// How often leases are renewed and clusters looked for.
    pub every: Duration,
    /// How long one round may take: where the database is silent it would never end.
    pub round: Duration,
    /// How long we trust our own lease without having renewed it.
    pub trust: Duration,
    /// How long a counter must stand still before its lease is taken over; longer than `trust` by what a worker takes to end.
    pub dead_after: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            every: Duration::from_secs(2),
            round: Duration::from_secs(3),
            trust: Duration::from_secs(10),
            dead_after: Duration::from_secs(15),
        }
    }
}

/// The leases as this replica sees them.
pub(super) struct Leases {
    me: Uuid,
    pace: Pace,
    /// Nobody else can use this database, so that whoever held a lease before is gone.
    alone: bool,
    seen: HashMap<ClusterId, (ClusterLease, Instant)>,
    held: HashMap<ClusterId, Instant>,
}

impl Leases {
    /// No leases yet.
    pub(super) fn new(me: Uuid, alone: bool, pace: Pace) -> Self {
        Self { me, pace, alone, seen: HashMap::new(), held: HashMap::new() }
    }

    /// Renews what is held and takes what is free; which clusters are held now.
    pub(super) async fn round(&mut self, store: &Store, ids: &[ClusterId]) -> Result<HashSet<ClusterId>> {
        let begun = Instant::now();
        let mut tx = store.begin().await?;
        let mut held: HashSet<ClusterId> = cluster_lease::renew_all(&mut tx.conn(), self.me)
            .await?
            .into_iter()
            .map(|lease| lease.cluster_id)
            .collect();
        let others: HashMap<ClusterId, ClusterLease> =
            cluster_lease::list(&mut tx.conn()).await?.into_iter().map(|lease| (lease.cluster_id, lease)).collect();
        for id in ids.iter().filter(|id| !held.contains(id)).copied().collect::<Vec<_>>() {
            let taken = match others.get(&id) {
                None => cluster_lease::acquire(&mut tx.conn(), id, self.me).await?,
                Some(lease) if lease.holder.is_nil() => cluster_lease::acquire(&mut tx.conn(), id, self.me).await?,
                Some(lease) if self.alone || self.stands_still(id, lease, begun) => {
                    cluster_lease::take_over(&mut tx.conn(), lease, self.me).await?
                }
                Some(_) => None,
            };
            if taken.is_some() {
                held.insert(id);
            }
        }
        tx.commit().await?;
        held.retain(|id| ids.contains(id));
        self.held = held.iter().map(|id| (*id, begun)).collect();
        self.seen.retain(|id, _| !held.contains(id));
        Ok(held)
    }

    fn stands_still(&mut self, id: ClusterId, lease: &ClusterLease, now: Instant) -> bool {
        match self.seen.get(&id) {
            Some((known, since)) if known == lease => now.duration_since(*since) >= self.pace.dead_after,
            _ => {
                self.seen.insert(id, (*lease, now));
                false
            }
        }
    }

    /// What is held but was not renewed for so long that another replica may soon take it over.
    pub(super) fn overdue(&mut self) -> Vec<ClusterId> {
        let now = Instant::now();
        let old = |at: &Instant| now.duration_since(*at) >= self.pace.trust;
        let overdue: Vec<ClusterId> = self.held.iter().filter(|(_, at)| old(at)).map(|(id, _)| *id).collect();
        self.held.retain(|id, _| !overdue.contains(id));
        overdue
    }

    /// Until when a round may go on: while it does, nothing that is held becomes overdue.
    pub(super) fn round_until(&self) -> Instant {
        let end = Instant::now() + self.pace.round;
        self.held.values().map(|at| *at + self.pace.trust).fold(end, Instant::min)
    }

    /// Gives every lease back, so that another replica need not wait.
    pub(super) async fn release_all(&mut self, store: &Store) -> Result<()> {
        let mut tx = store.begin().await?;
        for id in self.held.keys() {
            let _ = cluster_lease::release(&mut tx.conn(), *id, self.me).await?;
        }
        self.held.clear();
        Ok(tx.commit().await?)
    }
}
