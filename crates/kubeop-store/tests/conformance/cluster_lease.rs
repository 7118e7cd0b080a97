//! Leases of clusters.

use crate::fixture::{add_tree, cluster};
use kubeop_store::cluster_lease::{self as lease, ClusterLease};
use uuid::Uuid;

const ME: Uuid = Uuid::from_u128(1);
const YOU: Uuid = Uuid::from_u128(2);

both! {
    async fn a_lease_is_held_by_one_and_renewed_by_its_holder(store) {
        add_tree(&store, 0, 0).await;
        let id = cluster(1).id;
        let mut tx = store.begin().await.unwrap();
        let c = &mut tx.conn();
        assert_eq!(lease::get(c, id).await.unwrap(), None);
        let held = lease::acquire(c, id, ME).await.unwrap().unwrap();
        assert_eq!(held, ClusterLease { cluster_id: id, holder: ME, counter: 1 });
        assert_eq!(lease::acquire(c, id, YOU).await.unwrap(), None);
        assert_eq!(lease::acquire(c, id, ME).await.unwrap(), None);
        let next = lease::renew(c, &held).await.unwrap().unwrap();
        assert_eq!(next.counter, 2);
        assert_eq!(lease::renew(c, &held).await.unwrap(), None);
        assert_eq!(lease::renew_all(c, ME).await.unwrap(), vec![ClusterLease { counter: 3, ..held }]);
        assert!(lease::renew_all(c, YOU).await.unwrap().is_empty());
        assert_eq!(lease::list(c).await.unwrap().len(), 1);
    }

    async fn only_a_lease_that_stood_still_is_taken_over(store) {
        add_tree(&store, 0, 0).await;
        let id = cluster(1).id;
        let mut tx = store.begin().await.unwrap();
        let c = &mut tx.conn();
        let seen = lease::acquire(c, id, ME).await.unwrap().unwrap();
        let renewed = lease::renew(c, &seen).await.unwrap().unwrap();
        assert_eq!(lease::take_over(c, &seen, YOU).await.unwrap(), None);
        let taken = lease::take_over(c, &renewed, YOU).await.unwrap().unwrap();
        assert_eq!(taken, ClusterLease { cluster_id: id, holder: YOU, counter: 3 });
        assert_eq!(lease::renew(c, &renewed).await.unwrap(), None);
        assert!(lease::renew_all(c, ME).await.unwrap().is_empty());
        assert!(!lease::release(c, id, ME).await.unwrap());
    }

    async fn a_released_lease_is_acquired_at_once_and_its_counter_never_begins_again(store) {
        add_tree(&store, 0, 0).await;
        let id = cluster(1).id;
        let mut tx = store.begin().await.unwrap();
        let c = &mut tx.conn();
        let seen = lease::acquire(c, id, ME).await.unwrap().unwrap();
        assert!(lease::release(c, id, ME).await.unwrap());
        let again = lease::acquire(c, id, ME).await.unwrap().unwrap();
        assert!(again.counter > seen.counter);
        assert_eq!(lease::take_over(c, &seen, YOU).await.unwrap(), None);
    }

    async fn of_many_observers_one_takes_over(store) {
        add_tree(&store, 0, 0).await;
        let id = cluster(1).id;
        let mut tx = store.begin().await.unwrap();
        let seen = lease::acquire(&mut tx.conn(), id, Uuid::from_u128(99)).await.unwrap().unwrap();
        tx.commit().await.unwrap();
        let tries: Vec<_> = (1..=8)
            .map(|n| {
                let store = store.clone();
                tokio::spawn(async move {
                    let mut tx = store.begin().await.unwrap();
                    let won = lease::take_over(&mut tx.conn(), &seen, Uuid::from_u128(n)).await.unwrap().is_some();
                    tx.commit().await.unwrap();
                    won
                })
            })
            .collect();
        let mut winners = 0;
        for one in tries {
            winners += i32::from(one.await.unwrap());
        }
        assert_eq!(winners, 1);
    }
}
