//! Facts about the installation, and encryption seeds.

use crate::fixture::at;
use kubeop_core::id::InstanceId;
use kubeop_store::encryption_seed::{self, EncryptionSeed};
use kubeop_store::{StoreError, meta};
use uuid::Uuid;

both! {
    async fn a_fact_once_written_stays(store) {
        let mut tx = store.begin().await.unwrap();
        let c = &mut tx.conn();
        assert_eq!(meta::get(c, "k").await.unwrap(), None);
        assert_eq!(meta::put_if_absent(c, "k", "first").await.unwrap(), "first");
        assert_eq!(meta::put_if_absent(c, "k", "second").await.unwrap(), "first");
        assert_eq!(meta::get(c, "k").await.unwrap().as_deref(), Some("first"));
    }

    async fn an_installation_has_one_id_whoever_asks_first(store) {
        let ask = |n: u128| {
            let store = store.clone();
            tokio::spawn(async move {
                let mut tx = store.begin().await.unwrap();
                let id = meta::instance_id(&mut tx.conn(), InstanceId(Uuid::from_u128(n))).await.unwrap();
                tx.commit().await.unwrap();
                id
            })
        };
        let asked: Vec<_> = (1..=8).map(ask).collect();
        let mut ids = Vec::new();
        for one in asked {
            ids.push(one.await.unwrap());
        }
        ids.dedup();
        assert_eq!(ids.len(), 1);
    }

    async fn a_seed_is_rewrapped_and_lists_oldest_first(store) {
        let mut tx = store.begin().await.unwrap();
        let c = &mut tx.conn();
        let seed = |n: u128, second: i64| EncryptionSeed {
            id: Uuid::from_u128(n),
            master_key_id: "old".into(),
            wrapped: vec![0, 255, 1],
            created_at: at(second),
        };
        encryption_seed::insert(c, &seed(1, 5)).await.unwrap();
        encryption_seed::insert(c, &seed(2, 3)).await.unwrap();
        assert!(encryption_seed::rewrap(c, Uuid::from_u128(1), "new", &[7]).await.unwrap());
        assert!(!encryption_seed::rewrap(c, Uuid::from_u128(9), "new", &[7]).await.unwrap());
        let list = encryption_seed::list(c).await.unwrap();
        assert_eq!(list[0], seed(2, 3));
        assert_eq!(list[1], EncryptionSeed { master_key_id: "new".into(), wrapped: vec![7], ..seed(1, 5) });
        assert_eq!(encryption_seed::get(c, Uuid::from_u128(9)).await.unwrap(), None);
        tx.commit().await.unwrap();
        let mut tx = store.begin().await.unwrap();
        let error = encryption_seed::insert(&mut tx.conn(), &seed(1, 5)).await.unwrap_err();
        assert!(matches!(error, StoreError::Conflict(_)), "{error:?}");
    }
}
