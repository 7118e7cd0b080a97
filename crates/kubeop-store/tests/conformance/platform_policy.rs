//! The platform policy.

use crate::fixture::at;
use kubeop_store::platform_policy::{self as policy, PlatformPolicy};
use serde_json::json;

both! {
    async fn each_replacement_raises_the_version(store) {
        let mut tx = store.begin().await.unwrap();
        let c = &mut tx.conn();
        assert_eq!(policy::get(c).await.unwrap(), None);
        let first = policy::put_if_absent(c, &json!({"a": 1}), at(1)).await.unwrap();
        assert_eq!(first, PlatformPolicy { policy: json!({"a": 1}), version: 1, updated_at: at(1) });
        assert_eq!(policy::put_if_absent(c, &json!({"a": 2}), at(2)).await.unwrap(), first);
        let second = policy::put(c, None, &json!({"a": 3}), at(3)).await.unwrap().unwrap();
        assert_eq!(second, PlatformPolicy { policy: json!({"a": 3}), version: 2, updated_at: at(3) });
        assert_eq!(policy::put(c, Some(1), &json!({"a": 4}), at(4)).await.unwrap(), None);
        assert_eq!(policy::put(c, Some(0), &json!({"a": 4}), at(4)).await.unwrap(), None);
        assert_eq!(policy::put(c, Some(2), &json!({"a": 4}), at(4)).await.unwrap().unwrap().version, 3);
        assert_eq!(policy::get(c).await.unwrap().unwrap().policy, json!({"a": 4}));
    }

    /// After a restore no cluster took the policy any more, since each held a later one.
    async fn a_version_that_a_cluster_is_ahead_of_is_outrun_once(store) {
        let mut tx = store.begin().await.unwrap();
        let c = &mut tx.conn();
        policy::put_if_absent(c, &json!({"a": 1}), at(1)).await.unwrap();
        for (held, version) in [(1, 1), (0, 1), (7, 8), (7, 8), (8, 8), (i64::MAX, 8), (9, 10)] {
            let before = policy::get(c).await.unwrap().unwrap().version;
            assert_eq!(policy::outrun(c, held).await.unwrap(), before != version, "{held}");
            assert_eq!(policy::get(c).await.unwrap().unwrap().version, version, "{held}");
        }
    }

    async fn the_first_one_may_be_put_with_or_without_an_expectation(store) {
        let mut tx = store.begin().await.unwrap();
        assert_eq!(policy::put(&mut tx.conn(), Some(1), &json!({}), at(1)).await.unwrap(), None);
        assert_eq!(policy::put(&mut tx.conn(), Some(0), &json!({}), at(1)).await.unwrap().unwrap().version, 1);
        tx.rollback().await.unwrap();
        let mut tx = store.begin().await.unwrap();
        assert_eq!(policy::put(&mut tx.conn(), None, &json!({}), at(1)).await.unwrap().unwrap().version, 1);
    }
}
