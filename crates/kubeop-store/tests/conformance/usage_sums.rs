//! Summing usage.

use crate::fixture::{at, hour};
use crate::usage::{sample, send, tenant};
use kubeop_core::id::ProjectId;
use kubeop_core::usage::MAX_VALUE;
use kubeop_store::StoreError;
use kubeop_store::usage::{self, IntervalSum, Sample};
use uuid::Uuid;

both! {
    async fn sums_are_by_project_and_price_interval(store) {
        let project = ProjectId(Uuid::from_u128(8));
        let of = |hours: i64, project_id: Option<ProjectId>, cpu: i64| Sample { project_id, ..sample(hours, 1, cpu) };
        let second = Sample { source: "b".into(), ..of(1, Some(project), 4) };
        let batch = [of(0, None, 1), of(1, Some(project), 2), second, of(2, None, 8), of(3, None, 16), sample(1, 2, 99)];
        send(&store, &batch).await;
        let mut read = store.read().await.unwrap();
        let c = &mut read.conn();
        let sum = |interval: usize, project_id: Option<ProjectId>, cpu: i128| IntervalSum {
            interval,
            project_id,
            cpu_milli: cpu,
            mem_mib: 2 * cpu,
        };
        let whole = usage::sums(c, tenant(1), (hour(0), hour(4)), &[]).await.unwrap();
        assert_eq!(whole, vec![sum(0, None, 25), sum(0, Some(project), 6)]);
        // Half-open; a price that begins within an hour counts from the next hour on.
        let cut = usage::sums(c, tenant(1), (hour(0), hour(3)), &[hour(1), at(3600 + 1)]).await.unwrap();
        assert_eq!(cut, vec![sum(0, None, 1), sum(1, Some(project), 6), sum(2, None, 8)]);
        assert!(usage::sums(c, tenant(1), (hour(2), hour(2)), &[]).await.unwrap().is_empty());
        assert!(usage::sums(c, tenant(3), (hour(0), hour(4)), &[]).await.unwrap().is_empty());
    }

    async fn totals_of_tenants_add_up_to_the_total(store) {
        let batch: Vec<Sample> = (1..=4).flat_map(|n| (0..10).map(move |hours| sample(hours, n, 7))).collect();
        send(&store, &batch).await;
        let mut read = store.read().await.unwrap();
        let c = &mut read.conn();
        let period = (hour(2), hour(6));
        let totals = usage::totals(c, &[tenant(3), tenant(1), tenant(9)], period).await.unwrap();
        let shown: Vec<_> = totals.iter().map(|total| (total.tenant_id, total.cpu_milli, total.mem_mib)).collect();
        assert_eq!(shown, vec![(Some(tenant(1)), 28, 56), (Some(tenant(3)), 28, 56)]);
        let total = usage::total(c, period).await.unwrap();
        assert_eq!((total.tenant_id, total.cpu_milli, total.mem_mib), (None, 112, 224));
        let nothing = usage::total(c, (hour(100), hour(101))).await.unwrap();
        assert_eq!((nothing.cpu_milli, nothing.mem_mib), (0, 0));
    }

    /// 10,000 times the largest figure is more than a thousandth of what 64 bits hold; the split must not lose a unit.
    async fn sums_of_the_largest_figures_are_exact(store) {
        let largest = |n: i64| Sample {
            source: format!("s{n}"),
            cpu_milli: MAX_VALUE,
            mem_mib: MAX_VALUE - 1,
            ..sample(n % 10, 1, 0)
        };
        let batch: Vec<Sample> = (0..10_000).map(largest).collect();
        send(&store, &batch).await;
        let mut read = store.read().await.unwrap();
        let sums = usage::sums(&mut read.conn(), tenant(1), (hour(0), hour(10)), &[]).await.unwrap();
        assert_eq!(sums[0].cpu_milli, 10_000_000_000_000_000);
        assert_eq!(sums[0].mem_mib, 9_999_999_999_990_000);
    }

    async fn only_whole_hours_are_summed(store) {
        let mut read = store.read().await.unwrap();
        let odd = usage::sums(&mut read.conn(), tenant(1), (at(1), hour(1)), &[]).await;
        assert!(matches!(odd, Err(StoreError::Defect(_))));
        let endless = usage::totals(&mut read.conn(), &[], (hour(0), hour(200_000))).await;
        assert!(matches!(endless, Err(StoreError::Defect(_))));
    }
}
