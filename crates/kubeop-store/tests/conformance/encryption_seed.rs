//! Encryption seeds, and what is sealed with them.

use crate::fixture::{at, cluster as one, label};
use kubeop_core::id::TenantId;
use kubeop_store::audit::{self, Chain};
use kubeop_store::cluster::{self, Sealed};
use kubeop_store::encryption_seed::{self, EncryptionSeed};
use kubeop_store::idempotency::{self, Claim};
use kubeop_store::{Conn, Inserted, Options, Store, StoreError};
use sqlx::Row;
use std::collections::BTreeSet;
use std::time::Duration;
use uuid::Uuid;

fn id(n: u128) -> Uuid {
    Uuid::from_u128(n)
}

fn seed(n: u128, second: i64) -> EncryptionSeed {
    EncryptionSeed { id: id(n), master_key_id: "old".into(), wrapped: vec![0, 255, 1], created_at: at(second) }
}

async fn add(store: &Store, seeds: &[EncryptionSeed]) {
    let mut tx = store.begin().await.unwrap();
    for seed in seeds {
        encryption_seed::insert(&mut tx.conn(), seed).await.unwrap();
    }
    tx.commit().await.unwrap();
}

async fn answer(c: &mut Conn<'_>, digest: u8, seed: Uuid) {
    let digest = vec![digest; 32];
    let claim =
        Claim { digest: digest.clone(), request: vec![1], owner: id(9), claimed_until: at(10), expires_at: at(20) };
    assert_eq!(idempotency::claim(c, &claim, at(1)).await.unwrap(), None);
    assert!(idempotency::answer(c, &digest, id(9), seed, &[digest[0], 7]).await.unwrap());
}

both! {
    async fn a_seed_is_rewrapped_unless_it_changed_and_lists_oldest_first(store) {
        add(&store, &[seed(1, 5), seed(2, 3)]).await;
        let mut tx = store.begin().await.unwrap();
        let c = &mut tx.conn();
        assert_eq!(encryption_seed::newest(c).await.unwrap(), Some(id(1)));
        assert!(encryption_seed::rewrap(c, &seed(1, 5), "new", &[7]).await.unwrap());
        assert!(!encryption_seed::rewrap(c, &seed(1, 5), "newer", &[8]).await.unwrap(), "it is not as it was");
        assert!(!encryption_seed::rewrap(c, &seed(9, 5), "new", &[7]).await.unwrap());
        let list = encryption_seed::list(c).await.unwrap();
        assert_eq!(list[0], seed(2, 3));
        assert_eq!(list[1], EncryptionSeed { master_key_id: "new".into(), wrapped: vec![7], ..seed(1, 5) });
        assert_eq!(encryption_seed::get(c, id(9)).await.unwrap(), None);
        tx.commit().await.unwrap();
        let mut tx = store.begin().await.unwrap();
        let error = encryption_seed::insert(&mut tx.conn(), &seed(1, 5)).await.unwrap_err();
        assert!(matches!(error, StoreError::Conflict(_)), "{error:?}");
    }

    async fn there_is_no_newest_of_none(store) {
        assert_eq!(encryption_seed::newest(&mut store.read().await.unwrap().conn()).await.unwrap(), None);
    }

    async fn what_a_seed_seals_is_found_in_pages_and_replaced_only_as_it_was_read(store) {
        add(&store, &[seed(1, 1), seed(2, 2)]).await;
        let mut tx = store.begin().await.unwrap();
        let c = &mut tx.conn();
        for digest in [3, 1, 2] {
            answer(c, digest, id(1)).await;
        }
        let page = idempotency::sealed_with(c, id(1), &[], 2).await.unwrap();
        assert_eq!(page, vec![(vec![1; 32], vec![1, 7]), (vec![2; 32], vec![2, 7])]);
        assert_eq!(idempotency::sealed_with(c, id(1), &[2; 32], 2).await.unwrap(), vec![(vec![3; 32], vec![3, 7])]);
        assert!(idempotency::reseal(c, &[1; 32], (id(1), &[1, 7]), (id(2), &[5])).await.unwrap());
        assert!(!idempotency::reseal(c, &[1; 32], (id(1), &[1, 7]), (id(2), &[6])).await.unwrap());
        assert!(!idempotency::reseal(c, &[2; 32], (id(1), &[0]), (id(2), &[6])).await.unwrap());
        assert_eq!(idempotency::sealed_with(c, id(2), &[], 9).await.unwrap(), vec![(vec![1; 32], vec![5])]);

        let row = cluster::Cluster { name: label("a"), ..one(1) };
        let old = Sealed { seed_id: id(1), bytes: vec![4] };
        let new = Sealed { seed_id: id(2), bytes: vec![5] };
        assert_eq!(cluster::insert(c, &row, &old).await.unwrap(), Inserted::Yes);
        assert!(!cluster::reseal(c, row.id, &new, &old).await.unwrap());
        assert!(cluster::reseal(c, row.id, &old, &new).await.unwrap());
        assert_eq!(cluster::kubeconfig(c, row.id).await.unwrap(), Some(new));
        assert_eq!(cluster::get(c, row.id).await.unwrap().unwrap().version, row.version, "no change by a caller");

        let chain = |tenant: Option<u128>, of: u128| Chain {
            seq: 1,
            seed_id: Some(id(of)),
            ..Chain::new(tenant.map(|n| TenantId(id(n))), at(1))
        };
        for one in [chain(None, 1), chain(Some(4), 1), chain(Some(5), 2)] {
            audit::put_chain(c, &one).await.unwrap();
        }
        let first = audit::chains_with(c, id(1), None, 1).await.unwrap();
        assert_eq!(first, vec![chain(None, 1)]);
        assert_eq!(audit::chains_with(c, id(1), Some(None), 9).await.unwrap(), vec![chain(Some(4), 1)]);
        assert!(audit::chains_with(c, id(1), Some(Some(TenantId(id(4)))), 9).await.unwrap().is_empty());
    }

    async fn a_seed_goes_only_when_nothing_is_sealed_with_it(store) {
        add(&store, &[seed(1, 1), seed(2, 2), seed(3, 3)]).await;
        let mut tx = store.begin().await.unwrap();
        let c = &mut tx.conn();
        answer(c, 1, id(1)).await;
        audit::put_chain(c, &Chain { seed_id: Some(id(2)), ..Chain::new(None, at(1)) }).await.unwrap();
        assert!(!encryption_seed::remove_unused(c, id(1)).await.unwrap());
        assert!(!encryption_seed::remove_unused(c, id(2)).await.unwrap());
        assert!(encryption_seed::remove_unused(c, id(3)).await.unwrap());
        assert!(!encryption_seed::remove_unused(c, id(3)).await.unwrap());
        tx.commit().await.unwrap();
    }

    async fn a_seed_that_a_writer_holds_outlives_a_removal_at_the_same_moment(store) {
        add(&store, &[seed(1, 1)]).await;
        let mut writing = store.begin().await.unwrap();
        let newest = encryption_seed::newest(&mut writing.conn()).await.unwrap().unwrap();
        let removal = {
            let store = store.clone();
            tokio::spawn(async move {
                let mut tx = store.begin().await.unwrap();
                let removed = encryption_seed::remove_unused(&mut tx.conn(), id(1)).await;
                if removed.is_ok() {
                    tx.commit().await.unwrap();
                }
                removed
            })
        };
        tokio::time::sleep(Duration::from_millis(100)).await;
        answer(&mut writing.conn(), 1, newest).await;
        writing.commit().await.unwrap();
        let removed = removal.await.unwrap();
        assert!(matches!(removed, Ok(false) | Err(StoreError::Conflict(_))), "{removed:?}");
        assert!(encryption_seed::get(&mut store.read().await.unwrap().conn(), id(1)).await.unwrap().is_some());
    }
}

/// What `remove_unused` and a rotation of keys must know of: whoever adds a column of this kind has to tell them.
const SEALED: [&str; 3] = ["audit_chain", "cluster", "idempotency_key"];

#[tokio::test]
async fn every_table_that_refers_to_seeds_is_known() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&crate::harness::sqlite_url(folder.path()), Options::default()).await.unwrap();
    store.migrate().await.unwrap();
    let mut read = store.read().await.unwrap();
    let Conn::Sqlite(c) = read.conn() else { unreachable!() };
    let query = "SELECT m.name AS name FROM sqlite_schema AS m JOIN pragma_foreign_key_list(m.name) AS f WHERE f.\"table\" = 'encryption_seed'";
    let rows = sqlx::query(query).fetch_all(c).await.unwrap();
    let found: BTreeSet<String> = rows.iter().map(|row| row.get("name")).collect();
    assert_eq!(found.into_iter().collect::<Vec<_>>(), SEALED);
}
