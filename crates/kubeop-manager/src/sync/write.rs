//! Writing one object: rendered from the rows, claimed, changed or deleted.
//!
//! Invariant: the live object is read before the rows, so that a stale writer meets 409; a lower `wanted` never replaces a higher.

use super::{gone, namespaces, policy, render};
use crate::state::Manager;
use jiff::SignedDuration;
use kube::Client;
use kubeop_cluster::apply::{self, Kind, Live, Target, Written};
use kubeop_core::{Error, Result};
use kubeop_store::cluster_object::{ClusterObject, ObjectKind};

/// Retries of one write that met a change.
const RETRIES: usize = 4;
/// How long the deletion of an object is left before it is looked at again, at first and at most; its end is seen by the watch.
const DELETING: (SignedDuration, SignedDuration) = (SignedDuration::from_secs(5), SignedDuration::from_mins(1));
/// How long a namesake that is going away is waited for.
const BEING_DELETED: SignedDuration = SignedDuration::from_secs(1);

/// What became of an object.
#[derive(Debug)]
pub(super) enum Outcome {
    /// The cluster holds this version.
    Applied { uid: String },
    /// There is nothing to do before this much time has passed.
    Later(SignedDuration),
    /// The entity was forgotten with it.
    Gone,
}

/// Brings one object to what is wanted now.
pub(super) async fn bring(manager: &Manager, client: &Client, row: &ClusterObject) -> Result<Outcome> {
    let Some(target) = target(row) else {
        policy::apply(manager, client).await?;
        return Ok(Outcome::Applied { uid: String::new() });
    };
    // What was never begun is claimed without looking: if something has the name, that is told and looked at.
    let mut look = row.attempted || row.deleted;
    for _ in 0..RETRIES {
        let live = if look { apply::live(client, &target).await? } else { None };
        look = true;
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
    if live.is_none() && row.attempted && row.kind == ObjectKind::App && !namespaces::of_app(manager, row).await? {
        return Ok(Some(Outcome::Later(namespaces::pause(manager.clock.now(), row))));
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
        Written::NoNamespace => Some(Outcome::Later(namespaces::pause(manager.clock.now(), row))),
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
            let waited = manager.clock.now().duration_since(row.changed_at);
            Ok(Some(Outcome::Later(waited.clamp(DELETING.0, DELETING.1))))
        }
        // Gone, or the name is somebody else's.
        _ => {
            gone::forget(manager, row.key()).await?;
            Ok(Some(Outcome::Gone))
        }
    }
}

/// Whether the live object is this row's: the very object that was written, or one that carries the entity's id.
fn is_ours(row: &ClusterObject, live: Option<&Live>) -> bool {
    live.is_some_and(|live| {
        row.uid.as_deref() == Some(&live.uid)
            || live.entity.as_ref().is_some_and(|entity| *entity == row.entity_id.to_string())
    })
}
