//! Desired-state rows: what the workers do with them.

use crate::cluster_object::{key, mark};
use crate::fixture::{add_tree, at, cluster};
use kubeop_store::Conn;
use kubeop_store::cluster_object::{self as object, Failure, Key, ObjectKind, Observation};
use uuid::Uuid;

async fn due(c: &mut Conn<'_>, now: i64) -> Vec<u128> {
    let rows = object::due(c, cluster(1).id, at(now), 10).await.unwrap();
    rows.into_iter().map(|row| row.entity_id.as_u128()).collect()
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
        assert!(object::settle(c, app(2), 1, "u2").await.unwrap());
        assert_eq!(due(c, 9).await, vec![1]);
        let row = object::get(c, app(2)).await.unwrap().unwrap();
        assert!(row.is_synced());
        assert_eq!((row.applied, row.uid.as_deref()), (1, Some("u2")));
        assert!(object::settle(c, app(1), 1, "u1").await.unwrap());
        assert_eq!(object::next_due_at(c, cluster(1).id).await.unwrap(), None);
        assert!(!object::settle(c, app(9), 1, "u").await.unwrap());
    }

    async fn a_change_made_while_applying_stays_due(store) {
        add_tree(&store, 0, 0).await;
        let mut tx = store.begin().await.unwrap();
        let c = &mut tx.conn();
        object::mark(c, &mark(app(1)), at(1)).await.unwrap();
        let failure = Failure { version: 1, error: "no", next_attempt_at: at(2) };
        assert!(object::fail(c, app(1), &failure).await.unwrap());
        let rendered = object::get(c, app(1)).await.unwrap().unwrap().wanted;
        object::mark(c, &mark(app(1)), at(3)).await.unwrap();
        assert!(object::settle(c, app(1), rendered, "u").await.unwrap());
        let row = object::get(c, app(1)).await.unwrap().unwrap();
        assert_eq!((row.wanted, row.applied, row.is_synced()), (2, 1, false));
        assert_eq!(row.last_error.as_deref(), Some("no"));
        assert_eq!(due(c, 3).await, vec![1]);
        assert!(object::settle(c, app(1), 2, "u").await.unwrap());
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
        assert!(object::settle(c, app(1), 3, "new").await.unwrap());
        assert!(!object::settle(c, app(1), 2, "old").await.unwrap());
        assert!(!object::settle(c, app(1), 3, "old").await.unwrap());
        assert!(!object::settle(c, app(1), 4, "never wanted").await.unwrap());
        assert_eq!(object::get(c, app(1)).await.unwrap().unwrap().uid.as_deref(), Some("new"));
    }

    async fn a_failure_waits_unless_the_row_was_marked_meanwhile(store) {
        add_tree(&store, 0, 0).await;
        let mut tx = store.begin().await.unwrap();
        let c = &mut tx.conn();
        object::mark(c, &mark(app(1)), at(1)).await.unwrap();
        let failure = Failure { version: 1, error: "refused\0", next_attempt_at: at(60) };
        assert!(object::fail(c, app(1), &failure).await.unwrap());
        let row = object::get(c, app(1)).await.unwrap().unwrap();
        assert_eq!((row.attempts, row.next_attempt_at, row.last_error.as_deref()), (1, at(60), Some("refused")));
        assert_eq!(due(c, 59).await, Vec::<u128>::new());
        assert!(object::fail(c, app(1), &Failure { next_attempt_at: at(90), ..failure }).await.unwrap());
        assert_eq!(object::get(c, app(1)).await.unwrap().unwrap().attempts, 2);
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
            let failure = Failure { version: 1, error: "x", next_attempt_at: at(500) };
            object::fail(c, app(n), &failure).await.unwrap();
        }
        object::settle(c, app(3), 1, "u").await.unwrap();
        assert!(object::wake(c, app(1), at(10)).await.unwrap());
        assert!(!object::wake(c, app(3), at(10)).await.unwrap());
        assert_eq!(due(c, 10).await, vec![1]);
        assert_eq!(object::wake_all(c, cluster(1).id, at(11)).await.unwrap(), 1);
        assert_eq!(due(c, 11).await, vec![1, 2]);
        assert_eq!(object::get(c, app(2)).await.unwrap().unwrap().attempts, 0);
        assert!(object::postpone(c, app(1), 1, at(700)).await.unwrap());
        assert_eq!(object::get(c, app(1)).await.unwrap().unwrap().last_error, None);
        assert!(!object::postpone(c, app(1), 2, at(900)).await.unwrap());
        assert_eq!(object::next_due_at(c, cluster(1).id).await.unwrap(), Some(at(11)));
    }

    async fn a_deleted_row_stays_due_until_it_is_removed(store) {
        add_tree(&store, 0, 0).await;
        let mut tx = store.begin().await.unwrap();
        let c = &mut tx.conn();
        object::mark(c, &mark(app(1)), at(1)).await.unwrap();
        assert_eq!(object::begin(c, cluster(1).id, &[app(1).entity_id]).await.unwrap(), vec![app(1)]);
        object::settle(c, app(1), 1, "u").await.unwrap();
        let seen = Observation {
            kind: ObjectKind::App,
            entity_id: app(1).entity_id,
            status: serde_json::json!({}),
            uid: "u".into(),
        };
        object::observe_many(c, cluster(1).id, &[seen], at(1)).await.unwrap();
        assert_eq!(object::mark_deleted(c, app(1), at(20)).await.unwrap(), Some(true));
        assert_eq!(due(c, 20).await, vec![1]);
        assert!(object::postpone(c, app(1), 2, at(30)).await.unwrap());
        assert_eq!(due(c, 29).await, Vec::<u128>::new());
        assert!(object::settle(c, app(1), 2, "u").await.unwrap());
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
}
