//! Writing usage: sets, exactly once, exact counts.

use crate::fixture::{at, hour};
use kubeop_core::id::{ProjectId, TenantId};
use kubeop_core::usage::MAX_VALUE;
use kubeop_store::usage::{self, Counts, Sample};
use kubeop_store::{Conn, Store, StoreError};
use std::collections::BTreeMap;
use uuid::Uuid;

pub(crate) fn tenant(n: u128) -> TenantId {
    TenantId(Uuid::from_u128(0x7e00 + n))
}

pub(crate) fn sample(hours: i64, n: u128, cpu_milli: i64) -> Sample {
    Sample {
        bucket: hour(hours),
        tenant_id: tenant(n),
        project_id: None,
        source: String::new(),
        cpu_milli,
        mem_mib: 2 * cpu_milli,
    }
}

pub(crate) async fn send(store: &Store, batch: &[Sample]) -> Counts {
    let mut tx = store.begin().await.unwrap();
    let counts = usage::put(&mut tx, batch, at(0)).await.unwrap();
    tx.commit().await.unwrap();
    counts
}

fn counts(created: u64, updated: u64, unchanged: u64) -> Counts {
    Counts { created, updated, unchanged }
}

/// Everything in the ledger, by its key.
async fn ledger(store: &Store) -> BTreeMap<(i64, Uuid, Uuid, String), (i64, i64)> {
    let mut read = store.read().await.unwrap();
    let rows: Vec<(kubeop_store::Ts, Uuid, Uuid, String, i64, i64)> = match read.conn() {
        Conn::Sqlite(c) => {
            sqlx::query_as("SELECT bucket, tenant_id, project_id, source, cpu_milli, mem_mib FROM usage_hour")
                .fetch_all(c)
                .await
                .unwrap()
        }
        Conn::Pg(c) => {
            sqlx::query_as("SELECT bucket, tenant_id, project_id, source, cpu_milli, mem_mib FROM usage_hour")
                .fetch_all(c)
                .await
                .unwrap()
        }
    };
    rows.into_iter()
        .map(|row| ((jiff::Timestamp::from(row.0).as_second(), row.1, row.2, row.3), (row.4, row.5)))
        .collect()
}

/// A small generator, so that the random tests repeat.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }

    fn sample(&mut self) -> Sample {
        let project_id = match self.below(3) {
            0 => None,
            n => Some(ProjectId(Uuid::from_u128(u128::from(n)))),
        };
        let source = ["", "meter-a", "Meter B", "é"][usize::try_from(self.below(4)).unwrap()].to_owned();
        let figure = i64::try_from(self.below(4)).unwrap();
        let hours = i64::try_from(self.below(6)).unwrap();
        Sample { project_id, source, ..sample(hours, u128::from(self.below(5)), figure) }
    }
}

both! {
    async fn sending_again_sets_and_never_adds(store) {
        let batch = [sample(0, 1, 500), sample(1, 1, 600), sample(0, 2, 700)];
        assert_eq!(send(&store, &batch).await, counts(3, 0, 0));
        let first = ledger(&store).await;
        assert_eq!(send(&store, &batch).await, counts(0, 0, 3));
        assert_eq!(ledger(&store).await, first);
        assert_eq!(send(&store, &[sample(0, 1, 501), sample(1, 1, 600), sample(2, 1, 1)]).await, counts(1, 1, 1));
        // Back to what it was, and on to something else: an update each time.
        assert_eq!(send(&store, &[sample(0, 1, 500)]).await, counts(0, 1, 0));
        assert_eq!(send(&store, &[Sample { mem_mib: 1, ..sample(0, 1, 500) }]).await, counts(0, 1, 0));
        assert_eq!(send(&store, &[]).await, counts(0, 0, 0));
        assert_eq!(ledger(&store).await.len(), 4);
    }

    async fn of_repeats_in_a_batch_the_last_counts(store) {
        let batch = [sample(0, 1, 1), sample(0, 2, 5), sample(0, 1, 2), sample(0, 1, 3)];
        assert_eq!(send(&store, &batch).await, counts(2, 0, 0));
        assert_eq!(send(&store, &[sample(0, 1, 3)]).await, counts(0, 0, 1));
    }

    async fn project_and_source_are_part_of_the_key(store) {
        let other = Sample { source: "meter".into(), ..sample(0, 1, 1) };
        let project = Sample { project_id: Some(ProjectId(Uuid::from_u128(8))), ..sample(0, 1, 1) };
        assert_eq!(send(&store, &[sample(0, 1, 1), other, project]).await, counts(3, 0, 0));
    }

    async fn what_is_rolled_back_never_was(store) {
        let mut tx = store.begin().await.unwrap();
        usage::put(&mut tx, &[sample(0, 1, 1)], at(0)).await.unwrap();
        drop(tx);
        assert_eq!(send(&store, &[sample(0, 1, 1)]).await, counts(1, 0, 0));
    }

    /// PostgreSQL copies in what seems new, and must fall back when one key in the midst was there.
    async fn one_key_sent_before_among_new_ones_is_counted_as_such(store) {
        assert_eq!(send(&store, &[sample(0, 10, 7), sample(0, 60, 1)]).await, counts(2, 0, 0));
        let mut tx = store.begin().await.unwrap();
        let batch: Vec<Sample> = (0..100).map(|n| sample(0, n, 7)).collect();
        assert_eq!(usage::put(&mut tx, &batch, at(0)).await.unwrap(), counts(98, 1, 1));
        assert_eq!(usage::put(&mut tx, &[sample(1, 1, 1)], at(0)).await.unwrap(), counts(1, 0, 0));
        tx.commit().await.unwrap();
        assert_eq!(ledger(&store).await.len(), 101);
    }

    async fn more_than_one_chunk_with_replays_counts_exactly(store) {
        let batch: Vec<Sample> = (0..25_000).map(|n| sample(i64::from(n % 3), u128::try_from(n).unwrap(), 5)).collect();
        assert_eq!(send(&store, &batch).await, counts(25_000, 0, 0));
        assert_eq!(send(&store, &batch).await, counts(0, 0, 25_000));
        let changed: Vec<Sample> = batch
            .iter()
            .enumerate()
            .map(|(n, one)| Sample { cpu_milli: if n % 2 == 0 { 6 } else { 5 }, ..one.clone() })
            .chain((0..100).map(|n| sample(9, n, 1)))
            .rev()
            .collect();
        assert_eq!(send(&store, &changed).await, counts(100, 12_500, 12_500));
        assert_eq!(ledger(&store).await.len(), 25_100);
    }

    /// Against a map in memory: random batches, with repeats inside and over each other.
    async fn any_sequence_of_batches_leaves_what_a_map_would_hold(store) {
        let (mut random, mut model) = (Random(0x9e37_79b9_7f4a_7c15), BTreeMap::new());
        for _ in 0..120 {
            let batch: Vec<Sample> = (0..random.below(40)).map(|_| random.sample()).collect();
            let mut last = BTreeMap::new();
            for one in &batch {
                let project = one.project_id.map_or(Uuid::nil(), |id| id.0);
                let key = (one.bucket.as_second(), one.tenant_id.0, project, one.source.clone());
                last.insert(key, (one.cpu_milli, one.mem_mib));
            }
            let mut wanted = Counts::default();
            for (key, figures) in last {
                match model.insert(key, figures) {
                    None => wanted.created += 1,
                    Some(before) if before == figures => wanted.unchanged += 1,
                    Some(_) => wanted.updated += 1,
                }
            }
            assert_eq!(send(&store, &batch).await, wanted);
        }
        assert_eq!(ledger(&store).await, model);
    }

    /// The same keys, in other orders and other chunks: no deadlock, every key created once, and one of the senders' figures stands.
    async fn concurrent_overlapping_batches_are_exact(store) {
        let tasks: Vec<_> = (0..4_i64)
            .map(|task| {
                let store = store.clone();
                tokio::spawn(async move {
                    let mut sum = Counts::default();
                    for round in 0..2_i64 {
                        let from = u128::try_from(task * 1_500).unwrap();
                        let mut batch: Vec<Sample> =
                            (from..from + 12_000).map(|n| sample(round % 2, n, task)).collect();
                        if task % 2 == 0 {
                            batch.reverse();
                        }
                        let some = send(&store, &batch).await;
                        assert_eq!(some.created + some.updated + some.unchanged, 12_000);
                        sum.created += some.created;
                        sum.updated += some.updated;
                        sum.unchanged += some.unchanged;
                    }
                    sum
                })
            })
            .collect();
        let mut created = 0;
        for task in tasks {
            created += task.await.unwrap().created;
        }
        let rows = ledger(&store).await;
        assert_eq!((created, rows.len()), (33_000, 33_000));
        assert!(rows.values().all(|(cpu, mem)| (0..4).contains(cpu) && *mem == 2 * cpu));
    }

    async fn what_was_not_checked_is_refused(store) {
        let mut tx = store.begin().await.unwrap();
        for bad in [
            Sample { bucket: at(1), ..sample(0, 1, 1) },
            sample(0, 1, -1),
            Sample { mem_mib: MAX_VALUE + 1, ..sample(0, 1, 1) },
            Sample { source: "a\0".into(), ..sample(0, 1, 1) },
        ] {
            assert!(matches!(usage::put(&mut tx, &[bad], at(0)).await, Err(StoreError::Defect(_))));
        }
    }
}
