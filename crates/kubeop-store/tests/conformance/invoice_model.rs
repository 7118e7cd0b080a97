//! Random histories of a tenant against a model in memory.
//!
//! Invariant: whatever is sent, repeated, reordered, rolled back and closed: all invoices together bill the last state of the usage.

use crate::fixture::all;
use crate::invoice::{add_tenants, close, draft, month, time, used};
use jiff::{SignedDuration, Timestamp};
use kubeop_core::id::ProjectId;
use kubeop_core::month::Month;
use kubeop_store::invoice;
use kubeop_store::usage::{self, Sample};
use kubeop_store::{Filter, Page, Store};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use rust_decimal::Decimal;
use std::collections::BTreeMap;
use uuid::Uuid;

/// What happens to a tenant.
#[derive(Clone, Debug)]
enum Step {
    /// A batch: month from March on, hour, project or none, millicores; sent so often, the last time kept or not.
    Send { batch: Vec<(u8, i64, u8, i64)>, times: u8, kept: bool, turned: bool },
    /// The oldest open month ends and is closed.
    Close,
}

const MONTHS: [&str; 6] = ["2026-03", "2026-04", "2026-05", "2026-06", "2026-07", "2026-08"];

fn steps() -> impl Strategy<Value = Vec<Step>> {
    // Around the middle of March, where the price changes.
    let sample = (0u8..6, 355i64..365, 0u8..3, 0i64..5);
    let send = (proptest::collection::vec(sample, 1..6), 1u8..4, prop::bool::weighted(0.8), any::<bool>())
        .prop_map(|(batch, times, kept, turned)| Step::Send { batch, times, kept, turned });
    proptest::collection::vec(prop_oneof![3 => send, 1 => Just(Step::Close)], 1..14)
}

fn sample(tenant: &kubeop_store::tenant::Tenant, of: (u8, i64, u8, i64)) -> Sample {
    let project_id = (of.2 > 0).then(|| ProjectId(Uuid::from_u128(u128::from(of.2))));
    let bucket = month(MONTHS[usize::from(of.0)]).start() + SignedDuration::from_hours(of.1);
    Sample { project_id, ..used(tenant.id, bucket, of.3) }
}

pub(crate) type Lines = BTreeMap<(String, Option<ProjectId>, Decimal), Decimal>;

/// What the usage comes to: by the month it was used in, project and rate.
pub(crate) fn bill(model: &BTreeMap<(Timestamp, Option<ProjectId>), i64>) -> Lines {
    let mut lines = Lines::new();
    for ((bucket, project), cpu) in model {
        let rate = if *bucket < time("2026-03-16T00:00:00Z") { Decimal::new(1, 2) } else { Decimal::new(2, 2) };
        *lines.entry((Month::of(*bucket).to_string(), *project, rate)).or_default() += Decimal::from(*cpu);
    }
    lines.retain(|_, quantity| !quantity.is_zero());
    lines
}

async fn play(store: &Store, tenant: &kubeop_store::tenant::Tenant, steps: &[Step]) -> Result<(), TestCaseError> {
    let mut model: BTreeMap<(Timestamp, Option<ProjectId>), i64> = BTreeMap::new();
    let mut closed = 0;
    for step in steps {
        let now = month(MONTHS[closed]).end() + SignedDuration::from_hours(1);
        match step {
            Step::Close if closed + 1 < MONTHS.len() => {
                prop_assert!(close(store, tenant.id, MONTHS[closed], now).await.is_some());
                prop_assert!(close(store, tenant.id, MONTHS[closed], now).await.is_none());
                closed += 1;
            }
            Step::Close => {}
            Step::Send { batch, times, kept, turned } => {
                // One figure a key, as the API demands of a batch.
                let mut unique: BTreeMap<(u8, i64, u8), i64> = BTreeMap::new();
                unique.extend(batch.iter().map(|of| ((of.0, of.1, of.2), of.3)));
                let mut samples: Vec<Sample> =
                    unique.iter().map(|(of, cpu)| sample(tenant, (of.0, of.1, of.2, *cpu))).collect();
                samples.extend(samples.clone());
                if *turned {
                    samples.reverse();
                }
                for n in 0..*times {
                    let mut tx = store.begin().await.unwrap();
                    usage::put(&mut tx, &samples, now).await.unwrap();
                    if *kept || n > 0 { tx.commit().await.unwrap() } else { tx.rollback().await.unwrap() }
                }
                if *kept || *times > 1 {
                    model.extend(samples.iter().map(|one| ((one.bucket, one.project_id), one.cpu_milli)));
                }
            }
        }
    }
    check(store, tenant, &bill(&model), closed).await
}

/// All frozen invoices and all open ones together, against what the usage comes to.
async fn check(
    store: &Store,
    tenant: &kubeop_store::tenant::Tenant,
    truth: &Lines,
    closed: usize,
) -> Result<(), TestCaseError> {
    let mut invoices = Vec::new();
    for (n, of) in MONTHS.iter().enumerate() {
        let mut read = store.read().await.unwrap();
        let found = invoice::get(&mut read.conn(), all(), tenant.id, month(of)).await.unwrap();
        prop_assert_eq!(found.is_some(), n < closed);
        drop(read);
        invoices.push(match found {
            Some(invoice) => invoice,
            None => draft(store, tenant, of, time("2026-09-01T00:00:00Z")).await,
        });
    }
    let (mut billed, mut money, mut lines) = (Lines::new(), Decimal::ZERO, 0_i64);
    for invoice in &invoices {
        let sum: Decimal = invoice.lines.iter().map(|line| line.amount).sum();
        prop_assert_eq!(sum, invoice.total);
        prop_assert_eq!(invoice.subtotal + invoice.adjustments, invoice.total);
        for line in &invoice.lines {
            let month = line.corrects.unwrap_or(invoice.month);
            prop_assert!(month <= invoice.month);
            *billed.entry((month.to_string(), line.project_id, line.rate)).or_default() += line.quantity;
            lines += 1;
        }
        money += invoice.total;
    }
    billed.retain(|_, quantity| !quantity.is_zero());
    prop_assert_eq!(&billed, truth);
    let exact: Decimal = truth.iter().map(|((_, _, rate), quantity)| rate * quantity).sum();
    prop_assert!((money - exact).abs() <= Decimal::new(5, 3) * Decimal::from(lines));
    let mut read = store.read().await.unwrap();
    let filter = Filter { tenant_id: Some(tenant.id), ..Filter::default() };
    let listed = invoice::list(&mut read.conn(), all(), &filter, &Page::first(100)).await.unwrap();
    prop_assert_eq!(listed.len(), closed);
    Ok(())
}

/// A tenant each; the seed is fixed, so that a failure comes again.
async fn histories(store: Store) {
    const CASES: u32 = 48;
    let tenants = add_tenants(&store, u128::from(CASES)).await;
    let mut runner = TestRunner::new_with_rng(Config::default(), TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    for tenant in &tenants {
        let steps = steps().new_tree(&mut runner).unwrap().current();
        if let Err(error) = play(&store, tenant, &steps).await {
            panic!("{error}\n{steps:#?}");
        }
    }
    let mut read = store.read().await.unwrap();
    let every = invoice::list(&mut read.conn(), all(), &Filter::default(), &Page::first(1000)).await.unwrap();
    let mut numbers: Vec<i64> = every.iter().map(|invoice| invoice.number.unwrap()).collect();
    numbers.sort_unstable();
    assert!(numbers.len() > 50, "{}", numbers.len());
    assert_eq!(numbers, (1..=i64::try_from(numbers.len()).unwrap()).collect::<Vec<_>>());
}

both! {
    async fn any_history_bills_the_last_state_of_the_usage(store) {
        histories(store).await;
    }
}
