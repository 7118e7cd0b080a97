//! Desired-state rows: what the workers do with them.

use crate::cluster_object::{key, mark};
use crate::fixture::{add_tree, all, app as one_app, as_project, as_tenant, at, cluster};
use kubeop_core::id::{AppId, ClusterId};
use kubeop_store::cluster_object::{
    self as object, Ahead, ClusterObject, Failure, Key, ObjectKind, Observation, Settled,
};
use kubeop_store::project::Project;
use kubeop_store::{Conn, Inserted};
use uuid::Uuid;

/// Settles one row; whether it was noted.
async fn settle(c: &mut Conn<'_>, key: Key, version: i64, uid: &str) -> kubeop_store::Result<bool> {
    let one = Settled { key, version, uid: uid.to_owned() };
    Ok(object::settle_many(c, key.cluster_id, &[one]).await? == 1)
}

async fn add_app(c: &mut Conn<'_>, project: &Project, n: u128) -> AppId {
    let row = one_app(project, n);
    assert_eq!(kubeop_store::app::insert(c, &row).await.unwrap(), Inserted::Yes);
    row.id
}

async fn due(c: &mut Conn<'_>, now: i64) -> Vec<u128> {
    let rows = object::due(c, cluster(1).id, at(now), 10).await.unwrap();
    rows.into_iter().map(|row| row.entity_id.as_u128()).collect()
}

/// Puts a row off as somebody who read it at this version.
async fn postpone(c: &mut Conn<'_>, key: Key, version: i64, until: jiff::Timestamp) -> kubeop_store::Result<bool> {
    let now = object::get(c, key).await?.unwrap();
    object::postpone(c, &ClusterObject { wanted: version, ..now }, until).await
}

fn app(n: u128) -> Key {
    key(ObjectKind::App, n)
}

both! {
    async fn what_is_settled_is_not_due(store) {
        add_tree(&store, 0, 0).await;
        let mut tx = store.begin().await.unwrap();
        let c = &mut tx.conn();
        object::mark(c, &mark(app(1)), at(5)).await.unwrap();
        object::mark(c, &mark(app(2)), at(4)).await.unwrap();
        assert_eq!(due(c, 3).await, Vec::<u128>::new());
        assert_eq!(object::next_due_at(c, cluster(1).id).await.unwrap(), Some(at(4)));
        assert_eq!(due(c, 9).await, vec![2, 1]);
        assert!(settle(c, app(2), 1, "u2").await.unwrap());
        assert_eq!(due(c, 9).await, vec![1]);
        let row = object::get(c, app(2)).await.unwrap().unwrap();
        assert!(row.is_synced());
        assert_eq!((row.applied, row.uid.as_deref()), (1, Some("u2")));
        assert!(settle(c, app(1), 1, "u1").await.unwrap());
        assert_eq!(object::next_due_at(c, cluster(1).id).await.unwrap(), None);
        assert!(!settle(c, app(9), 1, "u").await.unwrap());
    }

    async fn a_change_made_while_applying_stays_due(store) {
        add_tree(&store, 0, 0).await;
        let mut tx = store.begin().await.unwrap();
        let c = &mut tx.conn();
        object::mark(c, &mark(app(1)), at(1)).await.unwrap();
        let failure = Failure { version: 1, error: Some("no"), next_attempt_at: at(2) };
        assert!(object::fail(c, app(1), &failure).await.unwrap());
        let rendered = object::get(c, app(1)).await.unwrap().unwrap().wanted;
        object::mark(c, &mark(app(1)), at(3)).await.unwrap();
        assert!(settle(c, app(1), rendered, "u").await.unwrap());
        let row = object::get(c, app(1)).await.unwrap().unwrap();
        assert_eq!((row.wanted, row.applied, row.is_synced()), (2, 1, false));
        assert_eq!(row.last_error.as_deref(), Some("no"));
        assert_eq!(due(c, 3).await, vec![1]);
        assert!(settle(c, app(1), 2, "u").await.unwrap());
        let row = object::get(c, app(1)).await.unwrap().unwrap();
        assert_eq!((row.is_synced(), row.last_error), (true, None));
    }

    async fn a_lower_version_never_settles_after_a_higher_one(store) {
        add_tree(&store, 0, 0).await;
        let mut tx = store.begin().await.unwrap();
        let c = &mut tx.conn();
        for second in 1..=3 {
            object::mark(c, &mark(app(1)), at(second)).await.unwrap();
        }
        assert!(settle(c, app(1), 3, "new").await.unwrap());
        assert!(!settle(c, app(1), 2, "old").await.unwrap());
        assert!(!settle(c, app(1), 3, "old").await.unwrap());
        assert!(!settle(c, app(1), 4, "never wanted").await.unwrap());
        assert_eq!(object::get(c, app(1)).await.unwrap().unwrap().uid.as_deref(), Some("new"));
    }

    async fn a_failure_waits_unless_the_row_was_marked_meanwhile(store) {
        add_tree(&store, 0, 0).await;
        let mut tx = store.begin().await.unwrap();
        let c = &mut tx.conn();
        object::mark(c, &mark(app(1)), at(1)).await.unwrap();
        let failure = Failure { version: 1, error: Some("refused\0"), next_attempt_at: at(60) };
        assert!(object::fail(c, app(1), &failure).await.unwrap());
        let row = object::get(c, app(1)).await.unwrap().unwrap();
        assert_eq!((row.attempts, row.next_attempt_at, row.last_error.as_deref()), (1, at(60), Some("refused")));
        assert_eq!(due(c, 59).await, Vec::<u128>::new());
        let untold = Failure { error: None, next_attempt_at: at(90), ..failure };
        assert!(object::fail(c, app(1), &untold).await.unwrap());
        let row = object::get(c, app(1)).await.unwrap().unwrap();
        assert_eq!((row.attempts, row.last_error.as_deref()), (2, Some("refused")), "what is known stays");
        object::mark(c, &mark(app(1)), at(61)).await.unwrap();
        assert!(!object::fail(c, app(1), &Failure { next_attempt_at: at(900), ..failure }).await.unwrap());
        let row = object::get(c, app(1)).await.unwrap().unwrap();
        assert_eq!((row.attempts, row.next_attempt_at), (0, at(61)));
        assert!(!object::fail(c, app(9), &failure).await.unwrap());
    }

    async fn waking_makes_only_unfinished_rows_due(store) {
        add_tree(&store, 0, 0).await;
        let mut tx = store.begin().await.unwrap();
        let c = &mut tx.conn();
        for n in 1..=3 {
            object::mark(c, &mark(app(n)), at(1)).await.unwrap();
            let failure = Failure { version: 1, error: Some("x"), next_attempt_at: at(500) };
            object::fail(c, app(n), &failure).await.unwrap();
        }
        settle(c, app(3), 1, "u").await.unwrap();
        assert_eq!(object::again(c, cluster(1).id, &[(ObjectKind::App, app(1).entity_id)], at(10)).await.unwrap(), 1);
        assert_eq!(due(c, 10).await, vec![1]);
        assert_eq!(object::wake_all(c, cluster(1).id, at(11)).await.unwrap(), 2, "what is due already, too");
        assert_eq!(due(c, 11).await, vec![1, 2]);
        assert_eq!(object::get(c, app(2)).await.unwrap().unwrap().attempts, 0);
        assert!(postpone(c, app(1), 2, at(700)).await.unwrap());
        assert_eq!(object::get(c, app(1)).await.unwrap().unwrap().last_error, None);
        assert!(!postpone(c, app(1), 1, at(900)).await.unwrap());
        assert_eq!(object::next_due_at(c, cluster(1).id).await.unwrap(), Some(at(11)));
    }

    async fn a_deleted_row_stays_due_until_it_is_removed(store) {
        add_tree(&store, 0, 0).await;
        let mut tx = store.begin().await.unwrap();
        let c = &mut tx.conn();
        object::mark(c, &mark(app(1)), at(1)).await.unwrap();
        assert_eq!(object::begin(c, cluster(1).id, &[app(1).entity_id]).await.unwrap(), vec![app(1)]);
        settle(c, app(1), 1, "u").await.unwrap();
        let seen = Observation {
            kind: ObjectKind::App,
            entity_id: app(1).entity_id,
            status: serde_json::json!({}),
            uid: "u".into(),
        };
        object::observe_many(c, cluster(1).id, &[seen], at(1)).await.unwrap();
        assert_eq!(object::mark_deleted(c, app(1), at(20)).await.unwrap(), Some(true));
        assert_eq!(due(c, 20).await, vec![1]);
        assert!(postpone(c, app(1), 2, at(30)).await.unwrap());
        assert_eq!(due(c, 29).await, Vec::<u128>::new());
        assert!(settle(c, app(1), 2, "u").await.unwrap());
        assert_eq!(due(c, 30).await, vec![1]);
        object::mark(c, &mark(app(1)), at(31)).await.unwrap();
        assert!(object::get(c, app(1)).await.unwrap().unwrap().deleted);
        assert!(object::remove(c, app(1)).await.unwrap());
        assert!(!object::remove(c, app(1)).await.unwrap());
        assert_eq!(object::get(c, app(1)).await.unwrap(), None);
        assert_eq!(object::mark_deleted(c, app(1), at(40)).await.unwrap(), None);
    }

    /// The manager may forget at once what no worker ever began to write, and a worker may write only what it could begin.
    async fn what_was_removed_before_it_was_begun_is_not_written(store) {
        add_tree(&store, 0, 0).await;
        let mut tx = store.begin().await.unwrap();
        let c = &mut tx.conn();
        for n in 1..=3 {
            object::mark(c, &mark(app(n)), at(1)).await.unwrap();
        }
        let ids = [1, 2, 3].map(Uuid::from_u128);
        assert_eq!(object::mark_deleted(c, app(2), at(2)).await.unwrap(), Some(false));
        object::remove(c, app(2)).await.unwrap();
        let mut begun = object::begin(c, cluster(1).id, &ids).await.unwrap();
        begun.sort_unstable();
        assert_eq!(begun, vec![app(1), app(3)]);
        assert!(object::get(c, app(1)).await.unwrap().unwrap().attempted);
        assert_eq!(object::mark_deleted(c, app(1), at(2)).await.unwrap(), Some(true));
    }

    async fn many_are_settled_as_each_alone_would_be(store) {
        add_tree(&store, 0, 0).await;
        let mut tx = store.begin().await.unwrap();
        let c = &mut tx.conn();
        for n in 1..=4 {
            object::mark(c, &mark(app(n)), at(1)).await.unwrap();
        }
        object::mark(c, &mark(app(2)), at(2)).await.unwrap();
        assert!(settle(c, app(3), 1, "first").await.unwrap());
        let one = |n, version| Settled { key: app(n), version, uid: format!("u{n}") };
        // In no order; 3 was settled before, 4 never wanted that, 9 has no row, and another cluster's is not this one's.
        let mut elsewhere = one(1, 1);
        elsewhere.key.cluster_id = ClusterId(Uuid::from_u128(77));
        let batch = [one(3, 1), one(9, 1), one(2, 1), one(4, 2), one(1, 1), elsewhere];
        assert_eq!(object::settle_many(c, cluster(1).id, &batch).await.unwrap(), 2);
        let row = |applied, uid: Option<&str>| (applied, uid.map(str::to_owned));
        for (n, expected) in [(1, row(1, Some("u1"))), (2, row(1, Some("u2"))), (3, row(1, Some("first"))), (4, row(0, None))] {
            let found = object::get(c, app(n)).await.unwrap().unwrap();
            assert_eq!((found.applied, found.uid), expected, "{n}");
        }
        assert_eq!(due(c, 10).await, vec![4, 2]);
    }

    async fn what_the_cluster_lost_is_wanted_again_and_what_is_deleted_only_looked_at(store) {
        add_tree(&store, 0, 0).await;
        let mut tx = store.begin().await.unwrap();
        let c = &mut tx.conn();
        for n in 1..=2 {
            object::mark(c, &mark(app(n)), at(1)).await.unwrap();
            assert!(settle(c, app(n), 1, "u").await.unwrap());
        }
        object::mark_deleted(c, app(2), at(2)).await.unwrap();
        assert!(postpone(c, app(2), 2, at(500)).await.unwrap());
        let lost = [1, 2, 1, 9].map(|n| (ObjectKind::App, app(n).entity_id));
        assert_eq!(object::again(c, cluster(1).id, &lost, at(5)).await.unwrap(), 2);
        assert_eq!(due(c, 5).await, vec![1, 2]);
        let wanted = [object::get(c, app(1)).await.unwrap().unwrap(), object::get(c, app(2)).await.unwrap().unwrap()];
        assert_eq!(wanted.map(|row| row.wanted), [2, 2]);
    }

    /// A project got its namespace after its app was taken, and before the app was put off for a minute because it had none.
    async fn a_wake_up_that_comes_while_an_object_is_looked_at_is_not_put_off(store) {
        let (_, _, projects) = add_tree(&store, 1, 1).await;
        let mut tx = store.begin().await.unwrap();
        let c = &mut tx.conn();
        let id = add_app(c, &projects[0], 1).await;
        let key = Key { cluster_id: projects[0].cluster_id, kind: ObjectKind::App, entity_id: id.0 };
        object::mark(c, &mark(key), at(1)).await.unwrap();
        for by_project in [true, false] {
            let taken = object::get(c, key).await.unwrap().unwrap();
            let woken = if by_project {
                object::wake_apps(c, key.cluster_id, &[projects[0].id], at(5)).await.unwrap()
            } else {
                object::wake_all(c, key.cluster_id, at(6)).await.unwrap()
            };
            assert_eq!(woken, 1, "although it was due already");
            assert!(!object::postpone(c, &taken, at(500)).await.unwrap());
        }
        assert_eq!(object::next_due_at(c, key.cluster_id).await.unwrap(), Some(at(6)));
        let taken = object::get(c, key).await.unwrap().unwrap();
        assert!(object::postpone(c, &taken, at(500)).await.unwrap());
    }

    /// After a restore nothing could be written any more where the cluster held a later version.
    async fn a_version_that_its_cluster_is_ahead_of_is_outrun_once(store) {
        add_tree(&store, 0, 0).await;
        let mut tx = store.begin().await.unwrap();
        let c = &mut tx.conn();
        for n in 1..=4 {
            object::mark(c, &mark(app(n)), at(1)).await.unwrap();
            assert!(settle(c, app(n), 1, "u").await.unwrap());
        }
        object::mark_deleted(c, app(3), at(2)).await.unwrap();
        let ahead = |n: u128, held| Ahead { kind: ObjectKind::App, entity_id: app(n).entity_id, held };
        let all = [ahead(1, 8), ahead(2, 1), ahead(3, 8), ahead(4, i64::MAX), ahead(9, 8)];
        assert_eq!(object::outrun(c, cluster(1).id, &all, at(5)).await.unwrap(), 1);
        assert_eq!(object::outrun(c, cluster(1).id, &all, at(6)).await.unwrap(), 0);
        let row = object::get(c, app(1)).await.unwrap().unwrap();
        assert_eq!((row.wanted, row.applied, row.next_attempt_at), (9, 1, at(5)));
        let mut wanted = Vec::new();
        for n in 2..=4 {
            wanted.push(object::get(c, app(n)).await.unwrap().unwrap().wanted);
        }
        assert_eq!(wanted, [1, 2, 1]);
    }

    async fn many_entities_are_read_at_once_within_a_scope(store) {
        let (_, tenants, projects) = add_tree(&store, 2, 2).await;
        let mut tx = store.begin().await.unwrap();
        let c = &mut tx.conn();
        let mut apps = Vec::new();
        for project in &projects {
            apps.push(add_app(c, project, 1).await);
        }
        let ids: Vec<_> = tenants.iter().map(|row| row.id).collect();
        assert_eq!(kubeop_store::tenant::get_many(c, all(), &ids).await.unwrap().len(), 2);
        let own = kubeop_store::tenant::get_many(c, as_tenant(ids[0]), &ids).await.unwrap();
        assert_eq!(own, vec![tenants[0].clone()]);
        let ids: Vec<_> = projects.iter().map(|row| row.id).collect();
        assert_eq!(kubeop_store::project::get_many(c, all(), &ids).await.unwrap().len(), 4);
        assert_eq!(kubeop_store::project::get_many(c, as_tenant(tenants[0].id), &ids).await.unwrap().len(), 2);
        assert_eq!(kubeop_store::project::get_many(c, as_project(ids[3]), &ids).await.unwrap(), vec![projects[3].clone()]);
        assert_eq!(kubeop_store::app::get_many(c, all(), &apps).await.unwrap().len(), 4);
        assert_eq!(kubeop_store::app::get_many(c, as_project(ids[3]), &apps).await.unwrap().len(), 1);
        assert!(kubeop_store::tenant::get_many(c, as_project(ids[3]), &[tenants[0].id]).await.unwrap().is_empty());
    }

    async fn the_apps_of_a_project_that_got_its_namespace_are_due_at_once(store) {
        let (_, _, projects) = add_tree(&store, 1, 2).await;
        let mut tx = store.begin().await.unwrap();
        let c = &mut tx.conn();
        let (ready, other) = (&projects[0], &projects[1]);
        let apps = [add_app(c, ready, 1).await, add_app(c, ready, 2).await, add_app(c, other, 3).await];
        let keys = apps.map(|id| Key { cluster_id: ready.cluster_id, kind: ObjectKind::App, entity_id: id.0 });
        for key in keys {
            object::mark(c, &mark(key), at(1)).await.unwrap();
            assert!(postpone(c, key, 1, at(500)).await.unwrap());
        }
        // What was applied before waits for something else.
        assert!(settle(c, keys[1], 1, "u").await.unwrap());
        object::mark(c, &mark(keys[1]), at(2)).await.unwrap();
        assert!(postpone(c, keys[1], 2, at(500)).await.unwrap());
        assert_eq!(object::wake_apps(c, ready.cluster_id, &[ready.id], at(5)).await.unwrap(), 1);
        let due = object::due(c, ready.cluster_id, at(5), 10).await.unwrap();
        assert_eq!(due.iter().map(|row| row.entity_id).collect::<Vec<_>>(), vec![keys[0].entity_id]);
    }
}
