//! Desired-state rows: marking, reading, mirroring status.

use crate::fixture::{add_tree, at, cluster};
use kubeop_core::id::ClusterId;
use kubeop_store::cluster_object::{self as object, Key, Mark, ObjectKind, Observation};
use serde_json::json;
use uuid::Uuid;

pub(crate) fn key(kind: ObjectKind, n: u128) -> Key {
    Key { cluster_id: cluster(1).id, kind, entity_id: Uuid::from_u128(n) }
}

pub(crate) fn mark(key: Key) -> Mark {
    let namespace = (key.kind == ObjectKind::App).then(|| "ns".to_owned());
    Mark { key, name: format!("object-{}", key.entity_id.as_u128()), namespace }
}

fn seen(key: Key, phase: &str) -> Observation {
    Observation {
        kind: key.kind,
        entity_id: key.entity_id,
        status: json!({"phase": phase, "conditions": [{"type": "Ready", "message": "a\0b"}]}),
        uid: format!("uid-{}", key.entity_id.as_u128()),
    }
}

both! {
    async fn each_mark_wants_one_more_version(store) {
        add_tree(&store, 0, 0).await;
        let mut tx = store.begin().await.unwrap();
        let c = &mut tx.conn();
        let app = key(ObjectKind::App, 1);
        assert_eq!(object::get(c, app).await.unwrap(), None);
        assert_eq!(object::mark(c, &mark(app), at(1)).await.unwrap(), 1);
        assert_eq!(object::mark(c, &mark(app), at(2)).await.unwrap(), 2);
        let row = object::get(c, app).await.unwrap().unwrap();
        assert_eq!(row.key(), app);
        assert_eq!((row.name.as_str(), row.namespace.as_deref()), ("object-1", Some("ns")));
        assert_eq!((row.wanted, row.applied, row.deleted, row.attempted, row.attempts), (2, 0, false, false, 0));
        assert_eq!((row.next_attempt_at, row.changed_at), (at(2), at(2)));
        assert_eq!((row.last_error.as_ref(), row.uid.as_ref(), row.observed.as_ref()), (None, None, None));
        assert!(!row.is_synced());
    }

    async fn many_are_marked_in_one_statement_and_repeats_count_once(store) {
        add_tree(&store, 0, 0).await;
        let mut tx = store.begin().await.unwrap();
        let c = &mut tx.conn();
        let app = key(ObjectKind::App, 3);
        object::mark(c, &mark(app), at(1)).await.unwrap();
        let marks: Vec<Mark> = (1..=2500)
            .rev()
            .map(|n| mark(key(ObjectKind::App, n)))
            .chain([mark(app), mark(key(ObjectKind::Project, 3))])
            .collect();
        object::mark_many(c, &marks, at(2)).await.unwrap();
        object::mark_many(c, &[], at(2)).await.unwrap();
        assert_eq!(object::get(c, app).await.unwrap().unwrap().wanted, 2);
        let project = object::get(c, key(ObjectKind::Project, 3)).await.unwrap().unwrap();
        assert_eq!((project.wanted, project.namespace.as_deref()), (1, None));
        assert_eq!(object::counts(c, cluster(1).id).await.unwrap(), (2501, 2501));
        assert_eq!(object::counts(c, ClusterId(Uuid::nil())).await.unwrap(), (0, 0));
    }

    async fn a_kind_is_marked_whole_but_what_is_to_be_deleted(store) {
        add_tree(&store, 0, 0).await;
        let mut tx = store.begin().await.unwrap();
        let c = &mut tx.conn();
        let marks: Vec<Mark> = (1..=3)
            .map(|n| mark(key(ObjectKind::Project, n)))
            .chain([mark(key(ObjectKind::Tenant, 1))])
            .collect();
        object::mark_many(c, &marks, at(1)).await.unwrap();
        assert_eq!(object::mark_deleted(c, key(ObjectKind::Project, 2), at(1)).await.unwrap(), Some(false));
        assert_eq!(object::mark_kind(c, ObjectKind::Project, Some(cluster(1).id), at(5)).await.unwrap(), 2);
        assert_eq!(object::mark_kind(c, ObjectKind::Project, None, at(6)).await.unwrap(), 2);
        assert_eq!(object::mark_kind(c, ObjectKind::Project, Some(ClusterId(Uuid::nil())), at(6)).await.unwrap(), 0);
        let row = object::get(c, key(ObjectKind::Project, 1)).await.unwrap().unwrap();
        assert_eq!((row.wanted, row.next_attempt_at), (3, at(6)));
        assert_eq!(object::get(c, key(ObjectKind::Tenant, 1)).await.unwrap().unwrap().wanted, 1);
        assert_eq!(object::get(c, key(ObjectKind::Project, 2)).await.unwrap().unwrap().wanted, 2);
    }

    /// Single marks and marks of the whole kind, at once: no count is lost and nobody waits in a circle.
    async fn concurrent_marks_all_count(store) {
        add_tree(&store, 0, 0).await;
        let marks: Vec<Mark> = (1..=20).map(|n| mark(key(ObjectKind::Project, n))).collect();
        let mut tx = store.begin().await.unwrap();
        object::mark_many(&mut tx.conn(), &marks, at(0)).await.unwrap();
        tx.commit().await.unwrap();
        let tasks: Vec<_> = (0..12)
            .map(|task| {
                let (store, mut marks) = (store.clone(), marks.clone());
                tokio::spawn(async move {
                    for round in 0..5 {
                        let mut tx = store.begin().await.unwrap();
                        let c = &mut tx.conn();
                        match task % 3 {
                            0 => {
                                object::mark_kind(c, ObjectKind::Project, None, at(round)).await.unwrap();
                            }
                            1 => object::mark_many(c, &marks, at(round)).await.unwrap(),
                            _ => {
                                marks.reverse();
                                object::mark_many(c, &marks, at(round)).await.unwrap();
                            }
                        }
                        tx.commit().await.unwrap();
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        let mut read = store.read().await.unwrap();
        for n in 1..=20 {
            let row = object::get(&mut read.conn(), key(ObjectKind::Project, n)).await.unwrap().unwrap();
            assert_eq!(row.wanted, 61);
        }
    }

    async fn a_page_of_entities_is_shown_with_one_query(store) {
        add_tree(&store, 0, 0).await;
        let mut tx = store.begin().await.unwrap();
        let c = &mut tx.conn();
        let marks: Vec<Mark> = (1..=5).map(|n| mark(key(ObjectKind::App, n))).collect();
        object::mark_many(c, &marks, at(1)).await.unwrap();
        object::observe_many(c, cluster(1).id, &[seen(marks[1].key, "Ready")], at(3)).await.unwrap();
        let ids = [2, 4, 77].map(Uuid::from_u128);
        let mut rows = object::list_for_entities(c, ObjectKind::App, &ids).await.unwrap();
        rows.sort_by_key(|row| row.entity_id);
        assert_eq!(rows.iter().map(|row| row.entity_id).collect::<Vec<_>>(), [2, 4].map(Uuid::from_u128).to_vec());
        assert_eq!(rows[0].observed.as_ref().unwrap()["phase"], "Ready");
        assert_eq!(rows[1].observed, None);
        assert!(object::list_for_entities(c, ObjectKind::Project, &ids).await.unwrap().is_empty());
    }

    async fn what_the_cluster_shows_is_mirrored(store) {
        add_tree(&store, 0, 0).await;
        let mut tx = store.begin().await.unwrap();
        let c = &mut tx.conn();
        let on = cluster(1).id;
        let (one, two, stray) = (key(ObjectKind::App, 1), key(ObjectKind::App, 2), key(ObjectKind::App, 3));
        object::mark_many(c, &[mark(one), mark(two)], at(1)).await.unwrap();
        let batch = [seen(one, "Pending"), seen(two, "Ready"), seen(stray, "Ready"), seen(one, "Ready")];
        assert_eq!(object::observe_many(c, on, &batch, at(2)).await.unwrap(), 2);
        let row = object::get(c, one).await.unwrap().unwrap();
        assert_eq!(row.observed.unwrap(), json!({"phase": "Ready", "conditions": [{"type": "Ready", "message": "ab"}]}));
        assert_eq!((row.observed_uid.as_deref(), row.observed_at), (Some("uid-1"), Some(at(2))));
        assert_eq!(object::get(c, stray).await.unwrap(), None);
        // The same again is not written.
        assert_eq!(object::observe_many(c, on, &batch, at(3)).await.unwrap(), 0);
        // Another replica, whose clock is behind, sees the next.
        assert_eq!(object::observe_many(c, on, &[seen(one, "Pending")], at(1)).await.unwrap(), 1);
        let empty = Observation { status: serde_json::Value::Null, ..seen(one, "") };
        assert_eq!(object::observe_many(c, on, &[empty], at(4)).await.unwrap(), 1);
        assert_eq!(object::get(c, one).await.unwrap().unwrap().observed, None);
        assert_eq!(object::observe_many(c, on, &[], at(5)).await.unwrap(), 0);
    }

    async fn more_than_one_chunk_is_mirrored(store) {
        add_tree(&store, 0, 0).await;
        let mut tx = store.begin().await.unwrap();
        let c = &mut tx.conn();
        let keys: Vec<Key> = (1..=2100).map(|n| key(ObjectKind::App, n)).collect();
        object::mark_many(c, &keys.iter().map(|key| mark(*key)).collect::<Vec<_>>(), at(1)).await.unwrap();
        let batch: Vec<Observation> = keys.iter().rev().map(|key| seen(*key, "Ready")).collect();
        assert_eq!(object::observe_many(c, cluster(1).id, &batch, at(2)).await.unwrap(), 2100);
    }

    async fn the_full_compare_pages_through_all_rows(store) {
        add_tree(&store, 0, 0).await;
        let mut tx = store.begin().await.unwrap();
        let c = &mut tx.conn();
        let mut keys: Vec<Key> =
            ObjectKind::ALL.into_iter().flat_map(|kind| (1..=3).map(move |n| key(kind, n))).collect();
        object::mark_many(c, &keys.iter().map(|key| mark(*key)).collect::<Vec<_>>(), at(1)).await.unwrap();
        let key_of = |kind, entity_id| Key { cluster_id: cluster(1).id, kind, entity_id };
        let (mut found, mut after) = (Vec::new(), None);
        loop {
            let rows = object::states(c, cluster(1).id, after, 5).await.unwrap();
            let Some(last) = rows.last() else { break };
            after = Some((last.kind, last.entity_id));
            found.extend(rows.iter().map(|row| key_of(row.kind, row.entity_id)));
        }
        keys.sort_by_key(|key| (key.kind.as_str(), key.entity_id));
        assert_eq!(found, keys);
    }
}
