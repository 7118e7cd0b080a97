//! `GET /v1/usage/snapshot`.
//!
//! Invariant: what is shown of a month equals what its invoices bill; tenants are paged like a list.

use crate::api::list;
use crate::api::tenants::parse_quotas;
use crate::auth::caller::Caller;
use crate::auth::permission::ReadBilling;
use crate::http::answer::Paged;
use crate::http::error::ApiResult;
use crate::http::params::Query;
use axum::extract::OriginalUri;
use kubeop_api::billing::{MeterValues, Snapshot, SnapshotQuery, SnapshotTotals, TenantUsage};
use kubeop_api::resource::QuotaMap;
use kubeop_core::authz::{Reach, Scope};
use kubeop_core::id::TenantId;
use kubeop_core::month::Month;
use kubeop_core::quantity::Quantity;
use kubeop_core::quota::{CPU, MEMORY};
use kubeop_core::{Error, Result};
use kubeop_store::tenant::Tenant;
use kubeop_store::{Conn, app, cluster, project, tenant, usage};
use kubeop_store::{Filter, Page};
use std::collections::{BTreeMap, BTreeSet};

type Span = (jiff::Timestamp, jiff::Timestamp);

/// Usage of a month and what is there.
pub async fn handle(
    caller: Caller<ReadBilling>,
    OriginalUri(uri): OriginalUri,
    Query(query): Query<SnapshotQuery>,
) -> ApiResult<Paged<Snapshot>> {
    let now = caller.manager.clock.now();
    let month = query.month.as_deref().map_or_else(|| Ok(Month::of(now)), Month::parse)?;
    let span = (month.start(), month.end());
    let page = list::page(query.limit.as_deref(), query.cursor.as_deref())?;
    let asked = query.tenant_id.as_deref().map(TenantId::parse).transpose().map_err(|e| e.at("tenant_id"))?;
    let filter = Filter { tenant_id: asked, ..Filter::default() };
    let mut read = caller.read().await?;
    let whole = asked.is_none() && caller.scope.reach() == Reach::All;
    let totals = if whole {
        totals_of_all(&mut read.conn(), span).await?
    } else {
        totals_of(&mut read.conn(), caller.scope, &filter, span).await?
    };
    if let Some(id) = asked.filter(|_| totals.tenants == 0) {
        return Err(Error::not_found(format!("there is no tenant {id}")).into());
    }
    let mut rows = tenant::list(&mut read.conn(), caller.scope, &filter, &page).await?;
    let cursor = list::cut(&mut rows, &page, |row| (row.created_at, row.id.0));
    let tenants = tenants(&mut read.conn(), &rows, span).await?;
    let next = list::answer(Vec::<()>::new(), &uri, cursor).next;
    Ok(Paged { item: Snapshot { totals, tenants, as_of: now }, next })
}

async fn tenants(conn: &mut Conn<'_>, rows: &[Tenant], span: Span) -> Result<Vec<TenantUsage>> {
    let ids: Vec<TenantId> = rows.iter().map(|row| row.id).collect();
    let used: BTreeMap<_, _> = usage::totals(conn, &ids, span)
        .await?
        .into_iter()
        .filter_map(|total| {
            Some((total.tenant_id?, MeterValues { cpu_milli: total.cpu_milli, mem_mib: total.mem_mib }))
        })
        .collect();
    let projects = project::count_by_tenant(conn, &ids).await?;
    let apps = app::count_by_tenant(conn, &ids).await?;
    let mut namespaces: BTreeMap<TenantId, Vec<String>> = BTreeMap::new();
    for held in project::namespaces(conn, &ids).await? {
        namespaces.entry(held.tenant_id).or_default().push(held.namespace.to_string());
    }
    Ok(rows
        .iter()
        .map(|row| TenantUsage {
            tenant_id: row.id,
            tenant_name: row.name.to_string(),
            quotas: QuotaMap(row.quotas.clone()),
            used: used.get(&row.id).cloned().unwrap_or_default(),
            projects: projects.get(&row.id).copied().unwrap_or_default(),
            apps: apps.get(&row.id).copied().unwrap_or_default(),
            namespaces: namespaces.remove(&row.id).unwrap_or_default(),
        })
        .collect())
}

async fn totals_of_all(conn: &mut Conn<'_>, span: Span) -> Result<SnapshotTotals> {
    let used = usage::total(conn, span).await?;
    let mut page = Page::first(1000);
    let mut envelopes = Envelopes::default();
    loop {
        let rows = tenant::list(conn, kubeop_core::authz::system_scope(), &Filter::default(), &page).await?;
        let Some(last) = rows.last() else { break };
        page.after = Some((last.created_at, last.id.0));
        envelopes.add(&rows)?;
    }
    Ok(SnapshotTotals {
        cpu_milli: used.cpu_milli,
        mem_mib: used.mem_mib,
        clusters: cluster::count(conn).await?,
        tenants: tenant::count(conn).await?,
        projects: project::count(conn).await?,
        apps: app::count(conn).await?,
        quotas: envelopes.to_map(),
    })
}

/// Sums over all the rows that a confined caller may see, whichever page is shown of them.
async fn totals_of(conn: &mut Conn<'_>, scope: Scope, filter: &Filter<'_>, span: Span) -> Result<SnapshotTotals> {
    let mut page = Page::first(1000);
    let (mut envelopes, mut clusters) = (Envelopes::default(), BTreeSet::new());
    let (mut used, mut count, mut projects, mut apps) = (MeterValues::default(), 0_usize, 0, 0);
    loop {
        let rows = tenant::list(conn, scope, filter, &page).await?;
        let Some(last) = rows.last() else { break };
        page.after = Some((last.created_at, last.id.0));
        envelopes.add(&rows)?;
        clusters.extend(rows.iter().map(|row| row.cluster_id));
        for tenant in tenants(conn, &rows, span).await? {
            used.cpu_milli += tenant.used.cpu_milli;
            used.mem_mib += tenant.used.mem_mib;
            projects += tenant.projects;
            apps += tenant.apps;
            count += 1;
        }
    }
    let number = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
    Ok(SnapshotTotals {
        cpu_milli: used.cpu_milli,
        mem_mib: used.mem_mib,
        clusters: number(clusters.len()),
        tenants: number(count),
        projects,
        apps,
        quotas: envelopes.to_map(),
    })
}

/// CPU and memory of envelopes, added up in nano-units.
#[derive(Default)]
struct Envelopes {
    cpu: i128,
    memory: i128,
}

impl Envelopes {
    fn add(&mut self, rows: &[Tenant]) -> Result<()> {
        for row in rows {
            let quotas = parse_quotas(&row.quotas)?;
            self.cpu = self.cpu.saturating_add(quotas.get(CPU).map_or(0, Quantity::nanos));
            self.memory = self.memory.saturating_add(quotas.get(MEMORY).map_or(0, Quantity::nanos));
        }
        Ok(())
    }

    fn to_map(&self) -> QuotaMap {
        QuotaMap(BTreeMap::from([
            ("cpu".to_owned(), Quantity::from_nanos(self.cpu).to_string()),
            ("memory".to_owned(), Quantity::from_nanos_binary(self.memory).to_string()),
        ]))
    }
}
