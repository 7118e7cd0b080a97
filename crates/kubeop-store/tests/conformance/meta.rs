//! Facts about the installation.

use kubeop_core::id::InstanceId;
use kubeop_store::meta;
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
}
