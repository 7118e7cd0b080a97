//! Serving one cluster: set it up, then apply what is due, mirror status, and repair, until the lease is lost.
//!
//! Invariant: whatever goes wrong with this cluster is waited out here; other clusters do not notice.

use super::{mirror, queue, readiness, repair, upgrade};
use crate::bootstrap;
use crate::state::Manager;
use jiff::{SignedDuration, Timestamp};
use kube::Client;
use kubeop_cluster::probe;
use kubeop_core::id::ClusterId;
use kubeop_core::{Error, ErrorKind, Result};
use kubeop_store::cluster::{self, BootstrapState, Cluster};
use kubeop_store::{cluster_object, is_of_database};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

/// How often the cluster is asked whether it answers.
const PING: Duration = Duration::from_secs(4);
/// How long one question may take.
const PING_LIMIT: Duration = Duration::from_secs(4);
/// How often it is asked before it counts as not answering: a server in a storm loses answers.
const PINGS: u32 = 3;
/// How often it is noted that it answers.
const NOTE: SignedDuration = SignedDuration::from_mins(5);
/// How long a set-up that is under way is left alone.
const SETUP_GRACE: SignedDuration = SignedDuration::from_secs(90);
/// How soon a change may have a cluster that does not answer asked again: a flood of them is no flood of attempts.
const SOONEST: Duration = Duration::from_secs(15);
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_mins(5);

/// Serves a cluster until `cancel`, or until it is deleted.
pub(super) async fn serve(manager: Arc<Manager>, id: ClusterId, cancel: CancellationToken) {
    let mut pause = FIRST_PAUSE;
    let mut resumed = false;
    loop {
        let began = Instant::now();
        let outcome = tokio::select! {
            () = cancel.cancelled() => return,
            outcome = stay(&manager, id, &mut resumed) => outcome,
        };
        let at_least = match outcome {
            Ok(Left::Deleted) => {
                manager.wake.forget(id);
                manager.clusters.forget(id);
                return;
            }
            Ok(Left::Waiting) => {
                pause = FIRST_PAUSE;
                Duration::ZERO
            }
            Ok(Left::NotSetUp) => SOONEST,
            Err(error) => {
                if began.elapsed() > PING * 2 {
                    pause = FIRST_PAUSE;
                }
                tracing::warn!(cluster = %id, error = %error.chain(), "cluster not served");
                // What our database did says nothing of the cluster.
                if !is_of_database(&error)
                    && let Err(lost) = set_reach(&manager, id, Some(reason(&error))).await
                {
                    tracing::warn!(cluster = %id, error = %lost.chain(), "failed to record that a cluster does not answer");
                }
                SOONEST
            }
        };
        tokio::select! {
            () = cancel.cancelled() => return,
            () = manager.wake.rest(id, jittered(pause, id), at_least) => {}
        }
        pause = (pause * 3 / 2).min(LONGEST_PAUSE);
    }
}

/// What people are told: a failure of ours is not the cluster's.
pub(super) fn reason(error: &Error) -> &str {
    match error.kind() {
        ErrorKind::Internal => "the manager failed to serve it (its log says why)",
        _ => error.message(),
    }
}

/// Why serving ended without an error.
enum Left {
    /// The cluster is deleted.
    Deleted,
    /// There is nothing to serve yet, or something else to serve now.
    Waiting,
    /// It could not be set up.
    NotSetUp,
}

async fn stay(manager: &Arc<Manager>, id: ClusterId, resumed: &mut bool) -> Result<Left> {
    let Some(row) = cluster::get(&mut manager.store.read().await?.conn(), id).await? else { return Ok(Left::Deleted) };
    if let Some(left) = set_up(manager, &row, resumed).await? {
        return Ok(left);
    }
    let client = manager.clusters.get(&manager.store, &row).await?.manager().await?;
    ping(&client).await?;
    set_reach(manager, id, None).await?;
    note(manager, id, manager.clock.now()).await;
    let doubt = Notify::new();
    tokio::select! {
        outcome = queue::serve(manager, &client, id, &doubt) => outcome,
        outcome = mirror::follow(manager, &client, id) => outcome,
        () = repair::periodically(manager, &client, id) => Ok(()),
        outcome = watch_over(manager, &client, &row, &doubt) => outcome,
        () = readiness::follow(manager, &row) => Ok(()),
        () = upgrade::follow(manager, &row, resumed) => Ok(()),
    }
    .map(|()| Left::Waiting)
}

/// Sets the cluster up where that is wanted and not done; why it cannot be served, if it cannot.
async fn set_up(manager: &Manager, row: &Cluster, resumed: &mut bool) -> Result<Option<Left>> {
    match row.bootstrap_state {
        BootstrapState::None | BootstrapState::Removing => Ok(Some(Left::Waiting)),
        BootstrapState::Pending if manager.clock.now().duration_since(row.updated_at) < SETUP_GRACE => {
            Ok(Some(Left::Waiting))
        }
        BootstrapState::Pending | BootstrapState::Failed => {
            *resumed = bootstrap::run(manager, row).await.is_some();
            Ok((!*resumed).then_some(Left::NotSetUp))
        }
        BootstrapState::Done => {
            // The roles run in this process, under a new address: nothing can be written before. Elsewhere an upgrade can wait.
            if manager.host.is_some() && !*resumed {
                *resumed = bootstrap::run(manager, row).await.is_some();
            }
            Ok(None)
        }
    }
}

async fn ping(client: &Client) -> Result<()> {
    match tokio::time::timeout(PING_LIMIT, probe::version(client)).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(error),
        Err(_) => Err(Error::unavailable("the API server does not answer in time")),
    }
}

/// Ends with an error when the cluster stops answering, and quietly when its row changed (another kubeconfig). Only its answers to this
/// question decide: a write that fails, for whatever reason, is a reason to ask (`doubt`).
async fn watch_over(manager: &Manager, client: &Client, row: &Cluster, doubt: &Notify) -> Result<()> {
    let mut seen = manager.clock.now();
    let mut noted = seen;
    loop {
        tokio::select! {
            () = sleep(PING) => {}
            () = doubt.notified() => {}
        }
        let mut asked = 1;
        while let Err(error) = ping(client).await {
            if asked == PINGS {
                note(manager, row.id, seen).await;
                return Err(error);
            }
            asked += 1;
            sleep(Duration::from_secs(1)).await;
        }
        seen = manager.clock.now();
        if seen.duration_since(noted) >= NOTE {
            note(manager, row.id, seen).await;
            noted = seen;
        }
        match again(manager, row.id).await {
            Ok(now) if now.as_ref().is_none_or(|now| now.version != row.version) => return Ok(()),
            Ok(_) => {}
            Err(error) => tracing::warn!(cluster = %row.id, error = %error.chain(), "cannot read a cluster's row"),
        }
    }
}

async fn again(manager: &Manager, id: ClusterId) -> Result<Option<Cluster>> {
    Ok(cluster::get(&mut manager.store.read().await?.conn(), id).await?)
}

/// Notes when the cluster last answered; it is told while it does not, so that to miss one is no harm.
async fn note(manager: &Manager, id: ClusterId, seen: Timestamp) {
    let noting = async {
        let mut tx = manager.store.begin().await?;
        cluster::set_seen(&mut tx.conn(), id, seen).await?;
        tx.commit().await
    };
    if let Err(error) = noting.await {
        tracing::warn!(cluster = %id, %error, "failed to note when a cluster last answered");
    }
}

async fn set_reach(manager: &Manager, id: ClusterId, unreachable: Option<&str>) -> Result<()> {
    let mut tx = manager.store.begin().await?;
    let back = cluster::set_unreachable(&mut tx.conn(), id, unreachable).await?;
    if back && unreachable.is_none() {
        // What failed while it was away is due now, not after its own pause.
        cluster_object::wake_all(&mut tx.conn(), id, manager.clock.now()).await?;
    }
    Ok(tx.commit().await?)
}

/// A pause of 75 to 125 %, told apart by the cluster, so that many do not come back at once.
pub(super) fn jittered(pause: Duration, id: ClusterId) -> Duration {
    let share = u32::try_from(id.0.as_u128() & 0x3f).unwrap_or(0);
    pause * (96 + share) / 128
}
