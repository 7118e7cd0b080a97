//! The audit log.

use crate::fixture::{all, as_project, as_tenant, at};
use kubeop_core::id::{ProjectId, TenantId};
use kubeop_store::audit::{self, AuditFilter, AuditRecord};
use kubeop_store::{Page, Store};
use uuid::Uuid;

fn tenant(n: u128) -> TenantId {
    TenantId(Uuid::from_u128(n))
}

fn record(n: u128) -> AuditRecord {
    AuditRecord {
        id: Uuid::from_u128(n),
        at: at(i64::try_from(n / 2).unwrap()),
        subject: if n.is_multiple_of(3) { "alice" } else { "bob" }.into(),
        role: "admin".into(),
        tenant_id: (!n.is_multiple_of(4)).then(|| tenant(n % 4)),
        action: if n.is_multiple_of(2) { "apps.create" } else { "apps.delete" }.into(),
        object_kind: "app".into(),
        object_id: format!("object-{}", n % 5),
        outcome: "ok".into(),
        request_id: format!("r{n}"),
        before_digest: None,
        after_digest: Some("sha256:ab".into()),
        detail: String::new(),
        seal: None,
    }
}

async fn fill(store: &Store) -> Vec<AuditRecord> {
    let rows: Vec<AuditRecord> = (1..=40).map(record).collect();
    let mut tx = store.begin().await.unwrap();
    for row in &rows {
        audit::append(&mut tx.conn(), row).await.unwrap();
    }
    tx.commit().await.unwrap();
    rows
}

both! {
    async fn every_filter_finds_what_a_plain_search_finds(store) {
        let rows = fill(&store).await;
        let mut read = store.read().await.unwrap();
        let c = &mut read.conn();
        for mask in 0..64_u32 {
            let on = |bit: u32| mask & (1 << bit) != 0;
            let filter = AuditFilter {
                tenant_id: on(0).then(|| tenant(1)),
                object_id: on(1).then_some("object-3"),
                subject: on(2).then_some("alice"),
                action: on(3).then_some("apps.delete"),
                from: on(4).then(|| at(4)),
                until: on(5).then(|| at(16)),
            };
            let wanted: Vec<&AuditRecord> = rows
                .iter()
                .filter(|row| filter.tenant_id.is_none() || row.tenant_id == filter.tenant_id)
                .filter(|row| filter.object_id.is_none_or(|id| row.object_id == id))
                .filter(|row| filter.subject.is_none_or(|subject| row.subject == subject))
                .filter(|row| filter.action.is_none_or(|action| row.action == action))
                .filter(|row| filter.from.is_none_or(|from| row.at >= from))
                .filter(|row| filter.until.is_none_or(|until| row.at < until))
                .collect();
            let (mut found, mut page) = (Vec::new(), Page::first(3));
            loop {
                let some = audit::list(c, all(), &filter, &page).await.unwrap();
                let Some(last) = some.last() else { break };
                page.after = Some((last.at, last.id));
                found.extend(some);
            }
            assert_eq!(found.iter().collect::<Vec<_>>(), wanted, "{filter:?}");
        }
    }

    async fn a_scope_shows_its_own_records_only(store) {
        fill(&store).await;
        let mut read = store.read().await.unwrap();
        let c = &mut read.conn();
        let mine = audit::list(c, as_tenant(tenant(2)), &AuditFilter::default(), &Page::first(99)).await.unwrap();
        assert_eq!(mine.len(), 10);
        assert!(mine.iter().all(|row| row.tenant_id == Some(tenant(2))));
        let theirs = AuditFilter { tenant_id: Some(tenant(1)), ..AuditFilter::default() };
        assert!(audit::list(c, as_tenant(tenant(2)), &theirs, &Page::first(99)).await.unwrap().is_empty());
        let project = as_project(ProjectId(Uuid::from_u128(1)));
        assert!(audit::list(c, project, &AuditFilter::default(), &Page::first(99)).await.unwrap().is_empty());
    }

    async fn odd_text_is_kept_without_nul_and_bounded(store) {
        let mut tx = store.begin().await.unwrap();
        let c = &mut tx.conn();
        let odd = AuditRecord { subject: "a\0b'; --".into(), detail: "x".repeat(20_000), ..record(1) };
        audit::append(c, &odd).await.unwrap();
        let found = audit::list(c, all(), &AuditFilter::default(), &Page::first(9)).await.unwrap();
        assert_eq!(found[0].subject, "ab'; --");
        assert_eq!(found[0].detail.len(), 10_000);
    }
}
