//! One set of samples, sent in any order, cut into any batches and repeated, while months are closed and the tenant is deleted.
//!
//! Invariant: what all invoices bill and what the ledger holds is told by the set alone; what is only repeated makes no invoice.

use crate::invoice::{add_tenants, close, frozen, month, send, time, used};
use crate::invoice_model::{Lines, bill};
use jiff::{SignedDuration, Timestamp};
use kubeop_core::id::ProjectId;
use kubeop_core::month::Month;
use kubeop_store::tenant::Tenant;
use kubeop_store::usage::{self, Sample};
use kubeop_store::{Store, invoice};
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use std::collections::BTreeMap;
use uuid::Uuid;

/// Month from March on, hour, project or none; millicores.
type Figures = BTreeMap<(usize, i64, u8), i64>;
/// Batches of samples by their place in the set, and how many months are closed after each.
type Way = Vec<(Vec<Index>, u8)>;

const MONTHS: [&str; 3] = ["2026-03", "2026-04", "2026-05"];
const GONE: &str = "2026-05-20T00:00:00Z";

fn plans() -> impl Strategy<Value = (Figures, [Way; 2], bool)> {
    // Around the middle of March, where the price changes; in May before the tenant is gone.
    let figures = proptest::collection::btree_map((0usize..3, 350i64..370, 0u8..3), 1i64..50, 1..10);
    let way = proptest::collection::vec((proptest::collection::vec(any::<Index>(), 0..8), 0u8..3), 0..7);
    (figures, [way.clone(), way], any::<bool>())
}

async fn close_next(store: &Store, tenant: &Tenant, now: &mut Timestamp) -> bool {
    let mut read = store.read().await.unwrap();
    let due = invoice::due_of(&mut read.conn(), tenant.id, month("2026-11")).await.unwrap();
    drop(read);
    let Some(due) = due else { return false };
    *now = (*now).max(due.month.end() + SignedDuration::from_hours(2));
    close(store, tenant.id, &due.month.to_string(), *now).await.is_some()
}

async fn play(store: &Store, tenant: &Tenant, figures: &Figures, way: &Way, gone: bool) -> Result<(), TestCaseError> {
    if gone {
        let mut tx = store.begin().await.unwrap();
        prop_assert!(kubeop_store::tenant::mark_deleted(&mut tx.conn(), tenant.id, time(GONE)).await.unwrap());
        tx.commit().await.unwrap();
    }
    let set: Vec<Sample> = figures
        .iter()
        .map(|((of, hour, project), cpu)| Sample {
            project_id: (*project > 0).then(|| ProjectId(Uuid::from_u128(u128::from(*project)))),
            ..used(tenant.id, month(MONTHS[*of]).start() + SignedDuration::from_hours(*hour), *cpu)
        })
        .collect();
    let mut now = time("2026-03-02T00:00:00Z");
    for (picks, closings) in way {
        let batch: Vec<Sample> = picks.iter().map(|pick| pick.get(&set).clone()).collect();
        send(store, &batch, now).await;
        for _ in 0..*closings {
            close_next(store, tenant, &mut now).await;
        }
    }
    send(store, &set, now).await;
    while close_next(store, tenant, &mut now).await {}
    // All of it again, when all is closed.
    prop_assert_eq!(send(store, &set, now).await.unchanged, u64::try_from(set.len()).unwrap());
    check(store, tenant, &set, gone).await
}

async fn check(store: &Store, tenant: &Tenant, set: &[Sample], gone: bool) -> Result<(), TestCaseError> {
    let (mut billed, mut of) = (Lines::new(), month("2026-03"));
    while of < month("2026-11") {
        let closed = frozen(store, tenant.id, &of.to_string()).await;
        prop_assert!(closed.is_some() || (gone && of > month("2026-05")), "{of}");
        for line in closed.iter().flat_map(|closed| &closed.lines) {
            let month = line.corrects.unwrap_or(of);
            *billed.entry((month.to_string(), line.project_id, line.rate)).or_default() += line.quantity;
        }
        // One more invoice of a tenant that is gone has something to correct.
        prop_assert!(of <= month("2026-05") || !gone || closed.is_none_or(|closed| !closed.lines.is_empty()), "{of}");
        of = of.next();
    }
    billed.retain(|_, quantity| !quantity.is_zero());
    let model = set.iter().map(|one| ((one.bucket, one.project_id), one.cpu_milli)).collect();
    prop_assert_eq!(billed, bill(&model));
    let mut read = store.read().await.unwrap();
    let span = (month("2026-03").start(), month("2026-06").start());
    let totals = usage::totals(&mut read.conn(), &[tenant.id], span).await.unwrap();
    let sum: i64 = set.iter().map(|one| one.cpu_milli).sum();
    prop_assert_eq!(totals[0].cpu_milli, i128::from(sum));
    let due = invoice::due_of(&mut read.conn(), tenant.id, Month::of(time("2027-06-01T00:00:00Z"))).await.unwrap();
    prop_assert_eq!(due.is_some(), !gone);
    Ok(())
}

both! {
    async fn a_set_of_samples_is_billed_the_same_in_whichever_way_it_is_sent(store) {
        const CASES: usize = 16;
        let tenants = add_tenants(&store, 2 * u128::try_from(CASES).unwrap()).await;
        let mut runner = TestRunner::new_with_rng(Config::default(), TestRng::deterministic_rng(RngAlgorithm::ChaCha));
        for pair in tenants.chunks(2) {
            let (figures, ways, gone) = plans().new_tree(&mut runner).unwrap().current();
            for (tenant, way) in pair.iter().zip(&ways) {
                if let Err(error) = play(&store, tenant, &figures, way, gone).await {
                    panic!("{error}\n{figures:?}\n{way:?}\n{gone}");
                }
            }
        }
    }
}
