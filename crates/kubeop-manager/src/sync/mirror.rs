//! Mirroring status back: a watch of what the manager wrote, recorded in batches; and what it shows to be lost or edited is wanted again.
//!
//! Invariant: at most one batch of news is in memory, and of one object only the latest is kept; while the database cannot take it, no more is
//! read from the cluster.

use super::{gone, namespaces};
use crate::state::Manager;
use futures::StreamExt;
use jiff::SignedDuration;
use kube::Client;
use kubeop_cluster::apply::{Kind, Live};
use kubeop_cluster::mirror::{Event, mirror};
use kubeop_core::Result;
use kubeop_core::id::{ClusterId, ProjectId};
use kubeop_store::cluster_object::{self, ObjectKind, Observation};
use serde_json::{Value, json};
use std::collections::{HashMap, HashSet};
use std::pin::pin;
use std::time::Duration;
use tokio::time::{Instant, sleep, sleep_until};
use uuid::Uuid;

/// How long news is gathered.
const GATHER: Duration = Duration::from_millis(50);
/// How much at most.
const BATCH: usize = 500;
/// How long the database is left alone that did not take a batch.
const TROUBLED: Duration = Duration::from_secs(1);
/// How long what somebody edited is left so: whoever edits it again each time meets us at this pace.
const EDITED: SignedDuration = SignedDuration::from_secs(1);

type Entity = (ObjectKind, Uuid);

/// Mirrors until the watch is dropped.
pub(super) async fn follow(manager: &Manager, client: &Client, id: ClusterId) -> Result<()> {
    let mut events = pin!(mirror(client));
    let mut news = News::default();
    let mut flush_at: Option<Instant> = None;
    loop {
        let event = tokio::select! {
            event = events.next() => event,
            () = sleep_until(flush_at.unwrap_or_else(Instant::now)), if flush_at.is_some() => {
                news.record(manager, id).await;
                flush_at = None;
                continue;
            }
        };
        match event {
            None => return Ok(()),
            Some(Event::Seen(live)) => news.saw(&live),
            Some(Event::Gone { target, entity, .. }) => news.lost(target.kind, entity.as_deref()),
            Some(Event::Synced(kind)) => tracing::debug!(cluster = %id, kind = kind.as_str(), "watch in sync"),
            Some(Event::Broken(kind, error)) => {
                tracing::info!(cluster = %id, kind = kind.as_str(), error = %error.chain(), "watch broke, set up again");
            }
        }
        if news.is_empty() {
            continue;
        }
        flush_at = flush_at.or_else(|| Some(Instant::now() + GATHER));
        if news.len() >= BATCH {
            news.record(manager, id).await;
            flush_at = None;
        }
    }
}

/// What was seen since the last record, and what must be known to understand what comes.
#[derive(Default)]
struct News {
    seen: HashMap<Entity, Observation>,
    gone: HashSet<Entity>,
    edited: HashSet<Entity>,
    /// Projects that have got their namespace.
    ready: HashSet<ProjectId>,
    /// Those of which this is known already.
    known_ready: HashSet<ProjectId>,
    /// The version each object was last seen to be written from, and the generation of its spec.
    specs: HashMap<Entity, (i64, i64)>,
}

impl News {
    fn len(&self) -> usize {
        self.seen.len() + self.gone.len() + self.edited.len()
    }

    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn saw(&mut self, live: &Live) {
        let Some(observation) = observation(live) else { return };
        let entity = (observation.kind, observation.entity_id);
        // A new generation that no new version of ours explains is somebody's edit. (Being deleted counts the generation up, too.)
        if let Some(now) = live.wanted.zip(live.generation) {
            let before = self.specs.insert(entity, now);
            if before.is_some_and(|before| before.0 == now.0 && before.1 < now.1) && !live.deleting {
                self.edited.insert(entity);
            }
        }
        if entity.0 == ObjectKind::Project {
            let project = ProjectId(entity.1);
            if !namespaces::is_ready(&observation.status) {
                self.known_ready.remove(&project);
            } else if !self.known_ready.contains(&project) {
                self.ready.insert(project);
            }
        }
        self.seen.insert(entity, observation);
    }

    fn lost(&mut self, kind: Kind, entity: Option<&str>) {
        let Some(id) = entity.and_then(|text| Uuid::try_parse(text).ok()) else { return };
        let entity = (kind_of(kind), id);
        self.seen.remove(&entity);
        self.specs.remove(&entity);
        self.known_ready.remove(&ProjectId(id));
        self.gone.insert(entity);
    }

    /// Records all of it, however often it takes.
    async fn record(&mut self, manager: &Manager, id: ClusterId) {
        while let Err(error) = self.try_record(manager, id).await {
            tracing::warn!(cluster = %id, error = %error.chain(), "failed to record what a cluster shows");
            sleep(TROUBLED).await;
        }
    }

    async fn try_record(&mut self, manager: &Manager, id: ClusterId) -> Result<()> {
        let now = manager.clock.now();
        if !self.seen.is_empty() {
            let batch: Vec<Observation> = self.seen.values().cloned().collect();
            let _turn = manager.turns.take().await?;
            let mut tx = manager.store.begin().await?;
            cluster_object::observe_many(&mut tx.conn(), id, &batch, now).await?;
            tx.commit().await?;
            self.seen.clear();
        }
        for (entities, due) in [(&mut self.gone, now), (&mut self.edited, now + EDITED)] {
            if !entities.is_empty() {
                let batch: Vec<Entity> = entities.iter().copied().collect();
                gone::again(manager, id, &batch, due).await?;
                tracing::info!(cluster = %id, objects = batch.len(), "lost or edited on the cluster, wanted again");
                entities.clear();
            }
        }
        if !self.ready.is_empty() {
            let projects: Vec<ProjectId> = self.ready.iter().copied().collect();
            let turn = manager.turns.take().await?;
            let mut tx = manager.store.begin().await?;
            let woken = cluster_object::wake_apps(&mut tx.conn(), id, &projects, now).await?;
            tx.commit().await?;
            drop(turn);
            if woken > 0 {
                manager.wake.cluster(id);
            }
            self.known_ready.extend(self.ready.drain());
        }
        Ok(())
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn project(wanted: i64, generation: i64, deleting: bool, ready: &str) -> Live {
        let mut object = json!({
            "apiVersion": "platform.kubeop.io/v1alpha1", "kind": "Project",
            "metadata": {
                "name": "a", "uid": "u", "resourceVersion": "1", "generation": generation,
                "labels": {"app.kubeop.io/project-id": Uuid::from_u128(7).to_string()},
                "annotations": {"kubeop.io/wanted": wanted.to_string()},
            },
            "status": {"conditions": [{"type": "NamespaceReady", "status": ready}]},
        });
        if deleting {
            object["metadata"]["deletionTimestamp"] = json!("2026-03-01T00:00:00Z");
        }
        Live::new(Kind::Project, serde_json::from_value(object).unwrap()).unwrap()
    }

    /// An edit leaves `wanted` as it is, so that nothing noticed it.
    #[test]
    fn an_edit_is_told_from_our_own_write_and_from_a_deletion() {
        let mut news = News::default();
        for (live, edited) in [
            (project(1, 1, false, "False"), false),
            (project(2, 2, false, "False"), false),
            (project(2, 2, false, "True"), false),
            (project(2, 3, true, "True"), false),
        ] {
            news.saw(&live);
            assert_eq!(!news.edited.is_empty(), edited, "{live:?}");
        }
        news.saw(&project(2, 4, false, "True"));
        assert_eq!(news.edited.len(), 1);
    }

    #[test]
    fn apps_are_woken_once_when_their_namespace_is_there() {
        let mut news = News::default();
        news.saw(&project(1, 1, false, "False"));
        assert!(news.ready.is_empty());
        news.saw(&project(1, 1, false, "True"));
        assert_eq!(news.ready.len(), 1);
        news.known_ready.extend(news.ready.drain());
        news.saw(&project(1, 1, false, "True"));
        assert!(news.ready.is_empty());
        news.lost(Kind::Project, Some(&Uuid::from_u128(7).to_string()));
        assert_eq!((news.gone.len(), news.seen.len()), (1, 0));
        news.saw(&project(1, 1, false, "True"));
        assert_eq!(news.ready.len(), 1);
    }
}
