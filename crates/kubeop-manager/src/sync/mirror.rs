//! Mirroring status back: a watch of what the manager wrote, recorded in batches.
//!
//! Invariant: at most one batch of observations is in memory; of one object only the latest is kept.

use super::gone;
use crate::state::Manager;
use futures::StreamExt;
use kube::Client;
use kubeop_cluster::apply::{Kind, Live};
use kubeop_cluster::mirror::{Event, mirror};
use kubeop_core::Result;
use kubeop_core::id::ClusterId;
use kubeop_store::cluster_object::{self, Key, ObjectKind, Observation};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::pin::pin;
use std::time::Duration;
use tokio::time::{Instant, sleep_until};
use uuid::Uuid;

/// How long observations are gathered.
const GATHER: Duration = Duration::from_millis(50);
/// How many at most.
const BATCH: usize = 500;

/// Mirrors until the watch is dropped.
pub(super) async fn follow(manager: &Manager, client: &Client, id: ClusterId) -> Result<()> {
    let mut events = pin!(mirror(client));
    let mut seen: HashMap<(ObjectKind, Uuid), Observation> = HashMap::new();
    let mut flush_at: Option<Instant> = None;
    loop {
        let event = tokio::select! {
            event = events.next() => event,
            () = sleep_until(flush_at.unwrap_or_else(Instant::now)), if flush_at.is_some() => {
                record(manager, id, &mut seen).await?;
                flush_at = None;
                continue;
            }
        };
        match event {
            None => return Ok(()),
            Some(Event::Seen(live)) => {
                if let Some(observation) = observation(&live) {
                    seen.insert((observation.kind, observation.entity_id), observation);
                    flush_at = flush_at.or_else(|| Some(Instant::now() + GATHER));
                }
            }
            Some(Event::Gone { target, entity, .. }) => {
                if let Some(entity_id) = entity.as_deref().and_then(|text| Uuid::try_parse(text).ok()) {
                    let kind = kind_of(target.kind);
                    seen.remove(&(kind, entity_id));
                    gone::unseen(manager, Key { cluster_id: id, kind, entity_id }).await?;
                }
            }
            Some(Event::Synced(kind)) => tracing::debug!(cluster = %id, kind = kind.as_str(), "watch in sync"),
            Some(Event::Broken(kind, error)) => {
                tracing::info!(cluster = %id, kind = kind.as_str(), error = %error.chain(), "watch broke, set up again");
            }
        }
        if seen.len() >= BATCH {
            record(manager, id, &mut seen).await?;
            flush_at = None;
        }
    }
}

async fn record(manager: &Manager, id: ClusterId, seen: &mut HashMap<(ObjectKind, Uuid), Observation>) -> Result<()> {
    let batch: Vec<Observation> = seen.drain().map(|(_, observation)| observation).collect();
    let mut tx = manager.store.begin().await?;
    cluster_object::observe_many(&mut tx.conn(), id, &batch, manager.clock.now()).await?;
    Ok(tx.commit().await?)
}

/// The row's kind of a resource's.
pub(super) fn kind_of(kind: Kind) -> ObjectKind {
    match kind {
        Kind::Tenant => ObjectKind::Tenant,
        Kind::Project => ObjectKind::Project,
        Kind::App => ObjectKind::App,
    }
}

/// The status, with the generation it is to be compared with.
fn observation(live: &Live) -> Option<Observation> {
    let entity_id = Uuid::try_parse(live.entity.as_deref()?).ok()?;
    let mut status = match live.status() {
        Value::Object(_) => live.status().clone(),
        _ => json!({}),
    };
    if let Some(fields) = status.as_object_mut() {
        fields.insert("generation".to_owned(), json!(live.generation));
        fields.insert("wanted".to_owned(), json!(live.wanted));
    }
    Some(Observation { kind: kind_of(live.target.kind), entity_id, status, uid: live.uid.clone() })
}
