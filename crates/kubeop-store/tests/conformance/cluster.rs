//! Clusters.

use crate::fixture::{SEED, add_seed, at, cluster as one, label, map, sealed};
use kubeop_store::cluster::{self, BootstrapState, Cluster, Sealed};
use kubeop_store::{Inserted, Page, StoreError, Taken};
use uuid::Uuid;

both! {
    async fn what_is_written_reads_back_equal(store) {
        let mut tx = store.begin().await.unwrap();
        let c = &mut tx.conn();
        add_seed(c).await;
        let row = Cluster {
            labels: map(&[("ключ", "\"значение\" \\ 🦀")]),
            public_server: Some("https://public".into()),
            bootstrap_message: Some("waits".into()),
            created_at: "2026-03-01T00:00:00.123456Z".parse().unwrap(),
            ..one(1)
        };
        assert_eq!(cluster::insert(c, &row, &sealed()).await.unwrap(), Inserted::Yes);
        assert_eq!(cluster::get(c, row.id).await.unwrap().as_ref(), Some(&row));
        assert_eq!(cluster::by_name(c, "cluster-1").await.unwrap().as_ref(), Some(&row));
        assert_eq!(cluster::by_uid(c, "uid-1").await.unwrap().as_ref(), Some(&row));
        assert_eq!(cluster::kubeconfig(c, row.id).await.unwrap(), Some(sealed()));
        assert_eq!(cluster::get(c, one(2).id).await.unwrap(), None);
    }

    async fn name_and_api_server_are_unique_and_the_transaction_survives_a_clash(store) {
        let mut tx = store.begin().await.unwrap();
        let c = &mut tx.conn();
        add_seed(c).await;
        assert_eq!(cluster::insert(c, &one(1), &sealed()).await.unwrap(), Inserted::Yes);
        let same_name = Cluster { name: one(1).name, ..one(2) };
        assert_eq!(cluster::insert(c, &same_name, &sealed()).await.unwrap(), Inserted::Taken(Taken::Name));
        let same_server = Cluster { cluster_uid: one(1).cluster_uid, ..one(2) };
        assert_eq!(cluster::insert(c, &same_server, &sealed()).await.unwrap(), Inserted::Taken(Taken::ClusterUid));
        let same_id = Cluster { id: one(1).id, ..one(2) };
        assert_eq!(cluster::insert(c, &same_id, &sealed()).await.unwrap(), Inserted::Taken(Taken::Id));
        assert_eq!(cluster::insert(c, &one(2), &sealed()).await.unwrap(), Inserted::Yes);
        tx.commit().await.unwrap();
        assert_eq!(cluster::count(&mut store.read().await.unwrap().conn()).await.unwrap(), 2);
    }

    async fn of_two_registrations_at_once_one_is_told(store) {
        let mut tx = store.begin().await.unwrap();
        add_seed(&mut tx.conn()).await;
        tx.commit().await.unwrap();
        let add = |n: u128| {
            let store = store.clone();
            tokio::spawn(async move {
                let row = Cluster { name: label("same"), ..one(n) };
                let mut tx = store.begin().await.unwrap();
                let done = cluster::insert(&mut tx.conn(), &row, &sealed()).await.unwrap();
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
                tx.commit().await.unwrap();
                done
            })
        };
        let both = [add(1), add(2)];
        let mut outcomes = Vec::new();
        for outcome in both {
            outcomes.push(outcome.await.unwrap());
        }
        assert!(outcomes.contains(&Inserted::Yes) && outcomes.contains(&Inserted::Taken(Taken::Name)), "{outcomes:?}");
    }

    async fn a_deleted_cluster_keeps_its_row_without_credential_and_frees_its_name(store) {
        let mut tx = store.begin().await.unwrap();
        let c = &mut tx.conn();
        add_seed(c).await;
        let mut row = one(1);
        let _ = cluster::insert(c, &row, &sealed()).await.unwrap();
        assert_eq!(cluster::sealed_with(c, SEED, Uuid::nil(), 10).await.unwrap(), vec![(row.id, vec![1, 2, 3])]);
        assert!(cluster::mark_deleted(c, &mut row, at(9)).await.unwrap());
        assert_eq!((row.version, row.deleted_at), (2, Some(at(9))));
        assert_eq!(cluster::get(c, row.id).await.unwrap(), None);
        assert_eq!(cluster::get_any(c, row.id).await.unwrap().as_ref(), Some(&row));
        assert_eq!(cluster::kubeconfig(c, row.id).await.unwrap(), None);
        assert!(cluster::sealed_with(c, SEED, Uuid::nil(), 10).await.unwrap().is_empty());
        assert!(cluster::ids(c).await.unwrap().is_empty());
        assert!(!cluster::mark_deleted(c, &mut row, at(10)).await.unwrap());
        assert!(!cluster::set_kubeconfig(c, row.id, &sealed()).await.unwrap());
        assert_eq!(cluster::lock(c, row.id).await.unwrap(), None);
        let successor = Cluster { id: one(2).id, ..one(1) };
        assert_eq!(cluster::insert(c, &successor, &sealed()).await.unwrap(), Inserted::Yes);
    }

    async fn a_change_needs_the_version_it_was_made_from(store) {
        let mut tx = store.begin().await.unwrap();
        let c = &mut tx.conn();
        add_seed(c).await;
        let _ = cluster::insert(c, &one(1), &sealed()).await.unwrap();
        let (mut mine, mut theirs) = (one(1), one(1));
        mine.labels = map(&[("a", "1")]);
        mine.server = "https://new".into();
        mine.auto_bootstrap = false;
        assert!(cluster::update(c, &mut mine, at(50)).await.unwrap());
        assert_eq!((mine.version, mine.updated_at), (2, at(50)));
        assert_eq!(cluster::get(c, mine.id).await.unwrap().as_ref(), Some(&mine));
        assert!(!cluster::update(c, &mut theirs, at(51)).await.unwrap());
        assert_eq!(theirs, one(1));
        let other = Sealed { seed_id: SEED, bytes: vec![4] };
        assert!(cluster::set_kubeconfig(c, mine.id, &other).await.unwrap());
        assert_eq!(cluster::kubeconfig(c, mine.id).await.unwrap(), Some(other));
        assert!(cluster::set_bootstrap(c, mine.id, BootstrapState::Failed, Some("no\0 route")).await.unwrap());
        let shown = cluster::lock(c, mine.id).await.unwrap().unwrap();
        assert_eq!(shown.bootstrap_state, BootstrapState::Failed);
        assert_eq!(shown.bootstrap_message.as_deref(), Some("no route"));
        assert_eq!(shown.version, 2);
    }

    /// A failed upgrade stopped a working cluster, and an installation under way undid that the cluster was being removed.
    async fn a_failed_upgrade_leaves_it_done_and_nothing_takes_back_its_removal(store) {
        let mut tx = store.begin().await.unwrap();
        let c = &mut tx.conn();
        add_seed(c).await;
        let row = Cluster { bootstrap_state: BootstrapState::Pending, ..one(1) };
        let _ = cluster::insert(c, &row, &sealed()).await.unwrap();
        assert!(cluster::fail_bootstrap(c, row.id, "no route").await.unwrap());
        assert_eq!(cluster::get(c, row.id).await.unwrap().unwrap().bootstrap_state, BootstrapState::Failed);
        assert!(cluster::set_bootstrap(c, row.id, BootstrapState::Done, None).await.unwrap());
        assert!(cluster::fail_bootstrap(c, row.id, "no route").await.unwrap());
        let shown = cluster::get(c, row.id).await.unwrap().unwrap();
        assert_eq!((shown.bootstrap_state, shown.bootstrap_message.as_deref()), (BootstrapState::Done, Some("no route")));
        assert!(!cluster::take_back(c, row.id).await.unwrap());
        for _ in 0..2 {
            assert!(cluster::set_bootstrap(c, row.id, BootstrapState::Removing, Some("going")).await.unwrap());
        }
        assert!(!cluster::set_bootstrap(c, row.id, BootstrapState::Done, None).await.unwrap());
        assert!(!cluster::fail_bootstrap(c, row.id, "no route").await.unwrap());
        let shown = cluster::get(c, row.id).await.unwrap().unwrap();
        assert_eq!((shown.bootstrap_state, shown.bootstrap_message.as_deref()), (BootstrapState::Removing, Some("going")));
        assert!(cluster::take_back(c, row.id).await.unwrap());
        assert_eq!(cluster::get(c, row.id).await.unwrap().unwrap().bootstrap_state, BootstrapState::Pending);
    }

    async fn a_kubeconfig_needs_its_seed(store) {
        let mut tx = store.begin().await.unwrap();
        let stray = Sealed { seed_id: Uuid::from_u128(1), bytes: vec![1] };
        let error = cluster::insert(&mut tx.conn(), &one(1), &stray).await.unwrap_err();
        assert!(matches!(error, StoreError::Conflict(_)), "{error:?}");
    }

    async fn pages_follow_each_other(store) {
        let mut tx = store.begin().await.unwrap();
        let c = &mut tx.conn();
        add_seed(c).await;
        for n in 1..=5 {
            let row = Cluster { created_at: at(7), ..one(n) };
            let _ = cluster::insert(c, &row, &sealed()).await.unwrap();
        }
        let mut seen = Vec::new();
        let mut page = Page::first(2);
        loop {
            let rows = cluster::list(c, &page).await.unwrap();
            let Some(last) = rows.last() else { break };
            page.after = Some((last.created_at, last.id.0));
            seen.extend(rows.into_iter().map(|row| row.id));
        }
        assert_eq!(seen, (1..=5).map(|n| one(n).id).collect::<Vec<_>>());
        assert_eq!(cluster::ids(c).await.unwrap(), seen);
    }

    async fn whether_a_cluster_answers_is_noted_once(store) {
        let mut tx = store.begin().await.unwrap();
        let c = &mut tx.conn();
        add_seed(c).await;
        let row = one(1);
        let _ = cluster::insert(c, &row, &sealed()).await.unwrap();
        assert!(!cluster::set_unreachable(c, row.id, None).await.unwrap());
        assert!(cluster::set_unreachable(c, row.id, Some("time\0 out")).await.unwrap());
        assert!(!cluster::set_unreachable(c, row.id, Some("time out")).await.unwrap());
        let known = cluster::reach(c, &[row.id, one(2).id]).await.unwrap();
        assert_eq!(known.len(), 1);
        assert_eq!(known[0].unreachable.as_deref(), Some("time out"));
        assert_eq!((known[0].id, known[0].bootstrap_state), (row.id, BootstrapState::Pending));
        assert!(cluster::set_unreachable(c, row.id, None).await.unwrap());
        assert_eq!(cluster::get(c, row.id).await.unwrap(), Some(row));
    }
    async fn when_a_cluster_last_answered_is_kept_while_it_does_not(store) {
        let mut tx = store.begin().await.unwrap();
        let c = &mut tx.conn();
        add_seed(c).await;
        let row = one(1);
        let _ = cluster::insert(c, &row, &sealed()).await.unwrap();
        assert_eq!(cluster::last_seen(c, row.id).await.unwrap(), None);
        let at = |second| jiff::Timestamp::from_second(second).unwrap();
        cluster::set_seen(c, row.id, at(100)).await.unwrap();
        cluster::set_seen(c, row.id, at(90)).await.unwrap();
        let _ = cluster::set_unreachable(c, row.id, Some("time out")).await.unwrap();
        assert_eq!(cluster::last_seen(c, row.id).await.unwrap(), Some(at(100)));
        cluster::set_seen(c, row.id, at(110)).await.unwrap();
        assert_eq!(cluster::last_seen(c, row.id).await.unwrap(), Some(at(110)));
        assert_eq!(cluster::get(c, row.id).await.unwrap(), Some(row));
    }

    async fn becoming_ready_is_news_once(store) {
        let mut tx = store.begin().await.unwrap();
        let c = &mut tx.conn();
        add_seed(c).await;
        let row = one(1);
        let _ = cluster::insert(c, &row, &sealed()).await.unwrap();
        let expected = [(None, false), (Some(at(5)), true), (Some(at(6)), false), (None, true), (None, false)];
        for (since, news) in expected {
            assert_eq!(cluster::set_ready(c, row.id, since).await.unwrap(), news, "{since:?}");
        }
        assert!(!cluster::set_ready(c, one(2).id, Some(at(5))).await.unwrap(), "there is none");
    }
}
