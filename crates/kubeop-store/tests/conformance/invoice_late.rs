//! Usage that comes late, and closings by clocks that differ.
//!
//! Invariant: a month is noted as changed if its own usage changed, whatever else was sent with it; lists are in the order of numbers.

use crate::fixture::{all, at, hour};
use crate::invoice::{add_tenants, close, draft, month, send, time, used};
use jiff::SignedDuration;
use kubeop_core::id::TenantId;
use kubeop_store::invoice::{self, Due};
use kubeop_store::usage::{Counts, Sample};
use kubeop_store::{Filter, Page, Store};

async fn due(store: &Store) -> Vec<(TenantId, String)> {
    let mut read = store.read().await.unwrap();
    let due: Vec<Due> = invoice::due(&mut read.conn(), month("2027-01"), None, 100).await.unwrap();
    due.into_iter().map(|due| (due.tenant_id, due.month.to_string())).collect()
}

async fn delete(store: &Store, tenant_id: TenantId) {
    let mut tx = store.begin().await.unwrap();
    assert!(kubeop_store::tenant::mark_deleted(&mut tx.conn(), tenant_id, time("2026-03-20T00:00:00Z")).await.unwrap());
    tx.commit().await.unwrap();
}

both! {
    /// Each such batch made an invoice of nothing, with a number, for the tenant that was gone.
    async fn old_usage_sent_again_beside_new_one_opens_no_month_of_a_deleted_tenant(store) {
        let some = add_tenants(&store, 3).await;
        let (gone, other, late) = (some[0].id, some[1].id, some[2].id);
        let old = [used(gone, hour(1), 5), used(gone, hour(2), 6)];
        send(&store, &old, hour(3)).await;
        for id in [gone, late] {
            delete(&store, id).await;
        }
        let april = time("2026-04-10T00:00:00Z");
        for id in [gone, other, late] {
            close(&store, id, "2026-03", april).await.unwrap();
        }
        assert_eq!(due(&store).await, [(other, "2026-04".to_owned())]);
        let june = time("2026-06-10T00:00:00Z");
        // A row is new, one is changed, another tenant's closed month has both.
        let batches: [Vec<Sample>; 3] = [
            [old.to_vec(), vec![used(other, time("2026-05-01T00:00:00Z"), 1)]].concat(),
            [old.to_vec(), vec![used(other, time("2026-05-01T00:00:00Z"), 2), used(other, hour(1), 1)]].concat(),
            [vec![used(late, hour(1), 1), used(other, hour(1), 3)], old.to_vec()].concat(),
        ];
        let counts = |created, updated| Counts { created, updated, unchanged: 2 };
        for (batch, wanted) in batches.iter().zip([counts(1, 0), counts(1, 1), counts(1, 1)]) {
            assert_eq!(send(&store, batch, june).await, wanted);
        }
        let open = due(&store).await;
        assert!(!open.iter().any(|(id, _)| *id == gone), "{open:?}");
        assert!(open.contains(&(late, "2026-06".to_owned())), "{open:?}");
        assert!(draft(&store, &some[0], "2026-06", june).await.lines.is_empty());
        assert_eq!(draft(&store, &some[2], "2026-06", june).await.lines.len(), 1);
        assert_eq!(draft(&store, &some[1], "2026-04", june).await.lines.len(), 1);
        // Usage that is new after all is billed.
        assert_eq!(send(&store, &[old[0].clone(), used(gone, hour(2), 7)], june).await.updated, 1);
        assert!(due(&store).await.contains(&(gone, "2026-06".to_owned())));
    }

    /// PostgreSQL copies in a chunk of new keys and upserts the next: what either wrote counts, and nothing else.
    async fn of_a_large_batch_just_the_months_that_changed_are_corrected(store) {
        let some = add_tenants(&store, 4).await;
        for one in &some {
            close(&store, one.id, "2026-03", time("2026-04-04T00:00:00Z")).await.unwrap();
        }
        let now = time("2026-04-10T00:00:00Z");
        let of = |tenant: usize, n: i64| Sample { source: format!("s{n}"), ..used(some[tenant].id, hour(n % 24), 1) };
        let kept: Vec<Sample> = (0..200).map(|n| of(3, n)).collect();
        send(&store, &kept, now).await;
        close(&store, some[3].id, "2026-04", time("2026-05-04T00:00:00Z")).await.unwrap();
        let batch: Vec<Sample> = (0..12_000).map(|n| of(0, n)).chain(kept).chain([of(1, 5)]).collect();
        assert_eq!(send(&store, &batch, now).await, Counts { created: 12_001, updated: 0, unchanged: 200 });
        assert_eq!(draft(&store, &some[0], "2026-04", now).await.lines[0].quantity.to_string(), "12000");
        assert_eq!(draft(&store, &some[1], "2026-04", now).await.lines[0].quantity.to_string(), "1");
        assert!(draft(&store, &some[2], "2026-04", now).await.lines.is_empty());
        assert!(draft(&store, &some[3], "2026-05", now).await.lines.is_empty());
    }

    /// Two replicas read their clocks before they wait for their turn; a reader who goes on behind the last one it saw misses none.
    async fn a_closing_whose_clock_was_read_before_the_last_one_s_is_listed_behind_it(store) {
        let some = add_tenants(&store, 4).await;
        let now = time("2026-04-10T00:00:00Z");
        let mut made = Vec::new();
        for (one, behind) in some.iter().zip([0, 90, 0, 1]) {
            let by_its_clock = now.checked_sub(SignedDuration::from_secs(behind)).unwrap();
            let closed = close(&store, one.id, "2026-03", by_its_clock).await.unwrap();
            // What a reader sees who looks after each closing.
            let mut read = store.read().await.unwrap();
            let after = made.last().copied();
            let seen = invoice::list(&mut read.conn(), all(), &Filter::default(), &Page { after, limit: 10 }).await.unwrap();
            assert_eq!(seen.iter().map(|one| one.id).collect::<Vec<_>>(), [closed.id]);
            made.push((seen[0].generated_at, seen[0].id));
        }
        let mut read = store.read().await.unwrap();
        let every = invoice::list(&mut read.conn(), all(), &Filter::default(), &Page::first(10)).await.unwrap();
        let numbers: Vec<_> = every.iter().filter_map(|one| one.number).collect();
        assert_eq!(numbers, [1, 2, 3, 4]);
        assert_eq!((every[0].generated_at, every[1].generated_at), (now, now + SignedDuration::from_micros(1)));
        let later = close(&store, some[0].id, "2026-04", time("2026-05-10T00:00:00Z")).await.unwrap();
        assert_eq!(later.generated_at, time("2026-05-10T00:00:00Z"));
    }

    async fn a_month_is_known_once_there_will_be_an_invoice_of_it(store) {
        let one = &add_tenants(&store, 1).await[0];
        let known = async |of: &str| {
            invoice::is_known(&mut store.read().await.unwrap().conn(), one.id, month(of)).await.unwrap()
        };
        assert!(known("2026-03").await && !known("2026-04").await && !known("2026-01").await);
        send(&store, &[used(one.id, time("2026-01-01T00:00:00Z"), 1)], at(0)).await;
        close(&store, one.id, "2026-03", time("2026-04-04T00:00:00Z")).await.unwrap();
        assert!(known("2026-03").await && known("2026-04").await && known("2026-01").await && !known("2026-02").await);
    }
}
