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

    async fn the_first_one_may_be_put_with_or_without_an_expectation(store) {
        let mut tx = store.begin().await.unwrap();
        assert_eq!(policy::put(&mut tx.conn(), Some(1), &json!({}), at(1)).await.unwrap(), None);
        assert_eq!(policy::put(&mut tx.conn(), Some(0), &json!({}), at(1)).await.unwrap().unwrap().version, 1);
        tx.rollback().await.unwrap();
        let mut tx = store.begin().await.unwrap();
        assert_eq!(policy::put(&mut tx.conn(), None, &json!({}), at(1)).await.unwrap().unwrap().version, 1);
    }
}
