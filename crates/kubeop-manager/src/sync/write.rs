//! One round of writes: what is due, rendered from the rows, claimed, changed or deleted.
//!
//! Invariant: the live object is read before the rows, so that a stale writer meets 409; a lower `wanted` never replaces a higher.

use super::{gone, policy, render, worker};
use crate::metrics::SyncLabels;
use crate::state::Manager;
use futures::StreamExt;
use jiff::{SignedDuration, Timestamp};
use kube::Client;
use kubeop_cluster::apply::{self, Kind, Live, Target, Written};
use kubeop_core::id::ClusterId;
use kubeop_core::{Error, Result};
use kubeop_store::cluster_object::{self, ClusterObject, Failure, ObjectKind};
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Instant;

/// Rows a round takes.
const PAGE: u32 = 64;
/// Objects written at once.
const CONCURRENCY: usize = 8;
/// Retries of one write that met a change.
const RETRIES: usize = 4;
/// How long the deletion of an object is left before it is looked at again; its end is seen by the watch.
const DELETING: SignedDuration = SignedDuration::from_secs(5);
/// How long a namespace that is not there yet is waited for, at first and at most.
const NO_NAMESPACE: (SignedDuration, SignedDuration) =
    (SignedDuration::from_millis(250), SignedDuration::from_secs(30));
/// How long a namesake that is going away is waited for.
const BEING_DELETED: SignedDuration = SignedDuration::from_secs(1);

/// What became of an object.
enum Outcome {
    /// The cluster holds this version.
    Applied { uid: String },
    /// There is nothing to do before this much time has passed.
    Later(SignedDuration),
    /// The entity was forgotten with it.
    Gone,
}

/// Writes what is due; whether there may be more.
pub(super) async fn round(manager: &Arc<Manager>, client: &Client, id: ClusterId) -> Result<bool> {
    let due = cluster_object::due(&mut manager.store.read().await?.conn(), id, manager.clock.now(), PAGE).await?;
    if due.is_empty() {
        return Ok(false);
    }
    let due = begin(manager, id, due).await?;
    let outcomes: Vec<Result<()>> = futures::stream::iter(due.into_iter().map(|row| one(manager, client, row)))
        .buffer_unordered(CONCURRENCY)
        .collect()
        .await;
    outcomes.into_iter().collect::<Result<()>>()?;
    Ok(true)
}

/// Notes that these may exist on the cluster from now on, before anything is written; what was forgotten meanwhile is left out.
async fn begin(manager: &Manager, id: ClusterId, due: Vec<ClusterObject>) -> Result<Vec<ClusterObject>> {
    let new: Vec<_> = due.iter().filter(|row| !row.attempted).map(|row| row.entity_id).collect();
    if new.is_empty() {
        return Ok(due);
    }
    let mut tx = manager.store.begin().await?;
    let begun: HashSet<_> = cluster_object::begin(&mut tx.conn(), id, &new).await?.into_iter().collect();
    tx.commit().await?;
    Ok(due.into_iter().filter(|row| row.attempted || begun.contains(&row.key())).collect())
}

async fn one(manager: &Manager, client: &Client, row: ClusterObject) -> Result<()> {
    let started = Instant::now();
    let outcome = bring(manager, client, &row).await;
    let now = manager.clock.now();
    let mut tx = manager.store.begin().await?;
    let word = match &outcome {
        Ok(Outcome::Applied { uid }) => {
            let _ = cluster_object::settle(&mut tx.conn(), row.key(), row.wanted, uid).await?;
            "applied"
        }
        Ok(Outcome::Later(pause)) => {
            let _ = cluster_object::postpone(&mut tx.conn(), row.key(), row.wanted, now + *pause).await?;
            "later"
        }
        Ok(Outcome::Gone) => "gone",
        Err(error) => {
            tracing::info!(kind = row.kind.as_str(), name = %row.name, error = %error.chain(), "failed to bring an object to its cluster");
            let failure = Failure {
                version: row.wanted,
                error: error.message(),
                next_attempt_at: next_attempt(now, row.attempts, &row),
            };
            let _ = cluster_object::fail(&mut tx.conn(), row.key(), &failure).await?;
            "failed"
        }
    };
    tx.commit().await?;
    let labels = SyncLabels { kind: row.kind.as_str().to_owned(), outcome: word.to_owned() };
    manager.metrics.sync.get_or_create(&labels).observe(started.elapsed().as_secs_f64());
    match outcome {
        // The cluster as a whole is in trouble: the worker waits, rather than every object for itself.
        Err(error) if worker::is_outage(&error) => Err(error),
        _ => Ok(()),
    }
}

async fn bring(manager: &Manager, client: &Client, row: &ClusterObject) -> Result<Outcome> {
    let Some(target) = target(row) else {
        policy::apply(manager, client).await?;
        return Ok(Outcome::Applied { uid: String::new() });
    };
    for _ in 0..RETRIES {
        let live = apply::live(client, &target).await?;
        let outcome = if row.deleted {
            delete(manager, client, row, &target, live.as_ref()).await?
        } else {
            write(manager, client, row, &target, live.as_ref()).await?
        };
        if let Some(outcome) = outcome {
            return Ok(outcome);
        }
    }
    Ok(Outcome::Later(BEING_DELETED))
}

fn target(row: &ClusterObject) -> Option<Target> {
    let kind = match row.kind {
        ObjectKind::Policy => return None,
        ObjectKind::Tenant => Kind::Tenant,
        ObjectKind::Project => Kind::Project,
        ObjectKind::App => Kind::App,
    };
    Some(Target { kind, namespace: row.namespace.clone(), name: row.name.clone() })
}

/// `None`: something changed meanwhile, read again.
async fn write(
    manager: &Manager,
    client: &Client,
    row: &ClusterObject,
    target: &Target,
    live: Option<&Live>,
) -> Result<Option<Outcome>> {
    if let Some(held) = live.and_then(|live| live.wanted).filter(|held| *held > row.wanted && is_ours(row, live)) {
        return Err(Error::conflict(format!(
            "the cluster holds version {held} of {target}, this database only {}: was it restored from a backup?",
            row.wanted
        )));
    }
    if live.is_none() && row.kind == ObjectKind::App && !render::app::namespace_is_ready(manager, row).await? {
        // A namespace of this name may be somebody else's: nothing is written until the operator says that it is the project's.
        return Ok(Some(Outcome::Later(no_namespace(manager, row))));
    }
    let Some(object) = render::object(manager, row).await? else { return Ok(Some(Outcome::Later(BEING_DELETED))) };
    let written = match live {
        None => apply::claim(client, target, &object).await?,
        Some(live) => apply::apply(client, live, &object).await?,
    };
    Ok(match written {
        Written::Applied { uid, .. } => Some(Outcome::Applied { uid }),
        Written::Conflict => None,
        Written::BeingDeleted => Some(Outcome::Later(BEING_DELETED)),
        Written::NoNamespace => Some(Outcome::Later(no_namespace(manager, row))),
        Written::NotOurs(why) => return Err(Error::conflict(why)),
    })
}

async fn delete(
    manager: &Manager,
    client: &Client,
    row: &ClusterObject,
    target: &Target,
    live: Option<&Live>,
) -> Result<Option<Outcome>> {
    match live {
        Some(live) if is_ours(row, Some(live)) => {
            if !live.deleting {
                apply::delete(client, target, &live.uid).await?;
            }
            Ok(Some(Outcome::Later(DELETING)))
        }
        // Gone, or the name is somebody else's.
        _ => {
            gone::forget(manager, row.key()).await?;
            Ok(Some(Outcome::Gone))
        }
    }
}

/// The longer it has been waited for, the longer the pause.
fn no_namespace(manager: &Manager, row: &ClusterObject) -> SignedDuration {
    let waited = manager.clock.now().duration_since(row.changed_at);
    (waited / 8).clamp(NO_NAMESPACE.0, NO_NAMESPACE.1)
}

/// Whether the live object is this row's: the very object that was written, or one that carries the entity's id.
fn is_ours(row: &ClusterObject, live: Option<&Live>) -> bool {
    live.is_some_and(|live| {
        row.uid.as_deref() == Some(&live.uid)
            || live.entity.as_ref().is_some_and(|entity| *entity == row.entity_id.to_string())
    })
}

/// 1 s, doubling to 5 min, spread by the entity's id.
fn next_attempt(now: Timestamp, attempts: i64, row: &ClusterObject) -> Timestamp {
    let doublings = u32::try_from(attempts.clamp(0, 9)).unwrap_or(9);
    let millis = 1000_i64.saturating_mul(2_i64.pow(doublings)).min(300_000);
    let spread = i64::try_from(row.entity_id.as_u128() & 0xff).unwrap_or(0);
    now + SignedDuration::from_millis(millis + millis * spread / 1024)
}
