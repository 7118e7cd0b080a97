//! What is due on one cluster: taken by the page, written some at a time, recorded in batches.
//!
//! Invariant: a row is here at most once, from when it is taken until what became of it is recorded, and no more rows than a page and those
//! under way are here; a slow or failing object holds up one place, never the others.

use super::throttle::Throttle;
use super::write::{self, Outcome};
use super::{namespaces, worker};
use crate::metrics::SyncLabels;
use crate::state::Manager;
use futures::FutureExt;
use jiff::{SignedDuration, Timestamp};
use kube::Client;
use kubeop_cluster::error::{Trouble, trouble};
use kubeop_core::id::ClusterId;
use kubeop_core::{Error, Result};
use kubeop_store::cluster_object::{self, ClusterObject, Failure, Key, Settled, lock_order};
use std::collections::{HashSet, VecDeque};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, sleep};

/// Rows taken at once.
const PAGE: u32 = 256;
/// More are taken when fewer wait.
const LOW: usize = 64;
/// Outcomes recorded at once.
const BATCH: usize = 128;
/// Attempts without an answer that are not told of an object: longer than a cluster that refuses connections takes to be found out.
const UNHEARD: i64 = 3;
/// How soon a change that another replica committed is noticed.
const POLL: Duration = Duration::from_millis(500);
/// How long the database is left alone that did not do what it was asked for.
const TROUBLED: Duration = Duration::from_secs(1);

/// One write that came to its end.
struct Done {
    row: ClusterObject,
    took: Duration,
    outcome: Result<Outcome>,
}

/// The queue of one cluster.
struct Queue<'a> {
    manager: &'a Arc<Manager>,
    client: &'a Client,
    id: ClusterId,
    /// Rung when the cluster may be gone.
    doubt: &'a Notify,
    throttle: Throttle,
    /// Everything here: waiting, under way, or not recorded yet.
    taken: HashSet<Key>,
    waiting: VecDeque<ClusterObject>,
    writes: JoinSet<Done>,
    done: Vec<Done>,
    /// There may be more to take.
    look: bool,
}

/// Applies what is due, as it becomes due, until dropped. Ends only when a write panicked.
pub(super) async fn serve(manager: &Arc<Manager>, client: &Client, id: ClusterId, doubt: &Notify) -> Result<()> {
    let mut queue = Queue {
        manager,
        client,
        id,
        doubt,
        throttle: Throttle::new(),
        taken: HashSet::new(),
        waiting: VecDeque::new(),
        writes: JoinSet::new(),
        done: Vec::new(),
        look: true,
    };
    loop {
        let pause = match queue.turn().await {
            Ok(pause) => pause,
            Err(error) => {
                tracing::warn!(cluster = %id, error = %error.chain(), "the sync cannot use the database");
                queue.look = true;
                sleep(TROUBLED).await;
                continue;
            }
        };
        tokio::select! {
            Some(joined) = queue.writes.join_next(), if !queue.writes.is_empty() => queue.finished(joined)?,
            () = manager.wake.changed(id) => queue.look = true,
            () = sleep(pause) => queue.look = true,
        }
        while queue.done.len() < BATCH
            && let Some(joined) = queue.writes.try_join_next()
        {
            queue.finished(joined)?;
        }
    }
}

impl Queue<'_> {
    /// Takes, starts and records what it can; then how long nothing will happen by itself.
    async fn turn(&mut self) -> Result<Duration> {
        // What is written goes on while the database is waited for.
        self.start();
        if !self.done.is_empty() {
            self.record().await?;
        }
        if self.look && self.waiting.len() < LOW {
            self.look = false;
            self.take().await?;
            self.start();
        }
        if self.look {
            return Ok(if self.waiting.is_empty() { Duration::ZERO } else { POLL });
        }
        if !(self.writes.is_empty() && self.waiting.is_empty()) {
            return Ok(POLL);
        }
        let turn = self.manager.turns.take().await?;
        let next = cluster_object::next_due_at(&mut self.manager.store.read().await?.conn(), self.id).await?;
        drop(turn);
        Ok(next
            .map(|next| next.duration_since(self.manager.clock.now()))
            .and_then(|wait| Duration::try_from(wait).ok())
            .map_or(POLL, |wait| wait.clamp(Duration::from_millis(5), POLL)))
    }

    fn start(&mut self) {
        while self.writes.len() < self.throttle.width(Instant::now())
            && let Some(row) = self.waiting.pop_front()
        {
            let (manager, client) = (Arc::clone(self.manager), self.client.clone());
            self.writes.spawn(async move {
                let started = Instant::now();
                // One object that we stumble over backs off like one that its cluster refuses.
                let outcome = AssertUnwindSafe(write::bring(&manager, &client, &row)).catch_unwind().await;
                let outcome = outcome.unwrap_or_else(|_| Err(Error::internal(format!("writing {row:?} panicked"))));
                Done { row, took: started.elapsed(), outcome }
            });
        }
    }

    fn finished(&mut self, joined: Result<Done, JoinError>) -> Result<()> {
        let done = joined.map_err(Error::internal)?;
        match done.outcome.as_ref().err().and_then(trouble) {
            None => self.throttle.answered(),
            Some(trouble) => {
                self.throttle.refused(Instant::now());
                if trouble == Trouble::Silent {
                    self.doubt.notify_one();
                }
            }
        }
        self.done.push(done);
        Ok(())
    }

    /// Takes what is due and not here yet.
    async fn take(&mut self) -> Result<()> {
        let now = self.manager.clock.now();
        let most = PAGE.saturating_add(u32::try_from(self.taken.len()).unwrap_or(u32::MAX));
        let turn = self.manager.turns.take().await?;
        let due = cluster_object::due(&mut self.manager.store.read().await?.conn(), self.id, now, most).await?;
        drop(turn);
        self.look = u32::try_from(due.len()).unwrap_or(u32::MAX) >= most;
        let fresh: Vec<_> = due.into_iter().filter(|row| !self.taken.contains(&row.key())).collect();
        let fresh = namespaces::ready(self.manager, self.id, fresh).await?;
        for row in self.begin(fresh).await? {
            self.taken.insert(row.key());
            self.waiting.push_back(row);
        }
        Ok(())
    }

    /// Notes that these may exist on the cluster from now on, before anything is written; what was forgotten meanwhile is left out.
    async fn begin(&self, due: Vec<ClusterObject>) -> Result<Vec<ClusterObject>> {
        let new: Vec<_> = due.iter().filter(|row| !row.attempted).map(|row| row.entity_id).collect();
        if new.is_empty() {
            return Ok(due);
        }
        let _turn = self.manager.turns.take().await?;
        let mut tx = self.manager.store.begin().await?;
        let begun: HashSet<_> = cluster_object::begin(&mut tx.conn(), self.id, &new).await?.into_iter().collect();
        tx.commit().await?;
        Ok(due.into_iter().filter(|row| row.attempted || begun.contains(&row.key())).collect())
    }

    /// Records what became of rows; they may be taken again then.
    async fn record(&mut self) -> Result<()> {
        let mut settled = Vec::new();
        let mut open: Vec<&Done> = Vec::new();
        for done in &self.done {
            match &done.outcome {
                Ok(Outcome::Applied { uid }) => {
                    settled.push(Settled { key: done.row.key(), version: done.row.wanted, uid: uid.clone() });
                }
                Ok(Outcome::Gone) => {}
                Ok(Outcome::Later(_)) | Err(_) => open.push(done),
            }
        }
        let turn = self.manager.turns.take().await?;
        if !settled.is_empty() {
            let mut tx = self.manager.store.begin().await?;
            cluster_object::settle_many(&mut tx.conn(), self.id, &settled).await?;
            tx.commit().await?;
        }
        if !open.is_empty() {
            // In the order in which every transaction locks rows.
            open.sort_by_key(|done| lock_order(done.row.key()));
            let now = self.manager.clock.now();
            let mut tx = self.manager.store.begin().await?;
            for Done { row, outcome, .. } in open {
                match outcome {
                    Ok(Outcome::Later(pause)) => {
                        let _ = cluster_object::postpone(&mut tx.conn(), row, now + *pause).await?;
                    }
                    Ok(_) => {}
                    Err(error) => {
                        tracing::info!(cluster = %self.id, kind = row.kind.as_str(), name = %row.name, error = %error.chain(), "failed to bring an object to its cluster");
                        let trouble = trouble(error);
                        let failure = Failure {
                            version: row.wanted,
                            error: says_something(row, trouble).then(|| worker::reason(error)),
                            next_attempt_at: next_attempt(now, row, trouble),
                        };
                        let _ = cluster_object::fail(&mut tx.conn(), row.key(), &failure).await?;
                    }
                }
            }
            tx.commit().await?;
        }
        drop(turn);
        for done in self.done.drain(..) {
            self.taken.remove(&done.row.key());
            let labels =
                SyncLabels { kind: done.row.kind.as_str().to_owned(), outcome: word(&done.outcome).to_owned() };
            self.manager.metrics.sync.get_or_create(&labels).observe(done.took.as_secs_f64());
        }
        self.look = true;
        Ok(())
    }
}

fn word(outcome: &Result<Outcome>) -> &'static str {
    match outcome {
        Ok(Outcome::Applied { .. }) => "applied",
        Ok(Outcome::Later(_)) => "later",
        Ok(Outcome::Gone) => "gone",
        Err(_) => "failed",
    }
}

/// Whether a failure is told of the object. A request without an answer says nothing of it: the cluster is asked whether it is there (`doubt`), and
/// what was met on the way is told of the object only if its requests go on like that.
fn says_something(row: &ClusterObject, trouble: Option<Trouble>) -> bool {
    trouble != Some(Trouble::Silent) || row.attempts >= UNHEARD
}

/// 1 s, growing to 5 min, spread by the entity's id: doubling for what is the object's own fault, more slowly for what is the cluster's, whose
/// storms are kept off by the throttle already.
fn next_attempt(now: Timestamp, row: &ClusterObject, trouble: Option<Trouble>) -> Timestamp {
    let tries = u32::try_from(row.attempts.clamp(0, 14)).unwrap_or(14);
    let (up, down) = if trouble.is_some() { (3_i64, 2_i64) } else { (2, 1) };
    let millis = (1000_i64.saturating_mul(up.pow(tries)) / down.pow(tries)).min(300_000);
    let spread = i64::try_from(row.entity_id.as_u128() & 0xff).unwrap_or(0);
    now + SignedDuration::from_millis(millis + millis * spread / 1024)
}

#[cfg(test)]
mod tests {
    use super::*;
    use kubeop_store::cluster_object::ObjectKind;

    fn row(attempts: i64) -> ClusterObject {
        let at = Timestamp::UNIX_EPOCH;
        ClusterObject {
            cluster_id: ClusterId(uuid::Uuid::nil()),
            kind: ObjectKind::App,
            entity_id: uuid::Uuid::nil(),
            name: String::new(),
            namespace: None,
            wanted: 1,
            applied: 0,
            deleted: false,
            attempted: false,
            attempts,
            next_attempt_at: at,
            last_error: None,
            uid: None,
            changed_at: at,
            observed: None,
            observed_uid: None,
            observed_at: None,
        }
    }

    #[test]
    fn a_request_without_an_answer_is_not_told_of_the_object_at_once() {
        let told = |attempts, trouble| says_something(&row(attempts), trouble);
        assert!(told(0, None) && told(0, Some(Trouble::Busy)));
        assert!(!told(0, Some(Trouble::Silent)) && !told(2, Some(Trouble::Silent)));
        assert!(told(3, Some(Trouble::Silent)), "nobody would ever learn why it does not come");
    }

    /// In a storm that turned every second request away the last objects came minutes after it.
    #[test]
    fn a_storm_does_not_put_an_object_off_for_minutes() {
        let now = Timestamp::UNIX_EPOCH;
        let waits = |attempts, trouble| next_attempt(now, &row(attempts), trouble).duration_since(now).as_millis();
        assert_eq!([0, 1, 5].map(|n| waits(n, None)), [1000, 2000, 32_000]);
        assert_eq!([0, 1, 5].map(|n| waits(n, Some(Trouble::Busy))), [1000, 1500, 7593]);
        assert_eq!([waits(1000, None), waits(1000, Some(Trouble::Silent))], [300_000, 291_929]);
    }
}
