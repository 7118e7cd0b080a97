//! `POST /v1/tenants`.
//!
//! Invariant: a tenant's name is free again only when the one before is gone from its cluster.

use super::{KIND, answer, parse_quotas};
use crate::audit::digest;
use crate::auth::caller::{Caller, Deed};
use crate::auth::permission::WriteTenants;
use crate::events;
use crate::http::answer::Created;
use crate::http::body::Body;
use crate::http::error::ApiResult;
use crate::http::params::{ItemQueryExt, Query};
use crate::sync::{objects, settle};
use kubeop_api::resource::{ItemQuery, check_labels};
use kubeop_api::tenant::{Tenant as Answer, TenantInput};
use kubeop_core::id::{ClusterId, TenantId};
use kubeop_core::month::Month;
use kubeop_core::name::Label;
use kubeop_core::{Error, Result};
use kubeop_store::cluster::{self, BootstrapState};
use kubeop_store::tenant::{self, Tenant};
use kubeop_store::{Conn, Inserted, invoice};

/// Creates a tenant.
pub async fn handle(
    caller: Caller<WriteTenants>,
    Query(query): Query<ItemQuery>,
    Body(input): Body<TenantInput>,
) -> ApiResult<Created<Answer>> {
    let manager = &caller.manager;
    let wait = query.wait()?;
    let required = |field: &str| Error::invalid(format!("{field}: is required"));
    let name = Label::parse(input.name.as_deref().ok_or_else(|| required("name"))?).map_err(|e| e.at("name"))?;
    let cluster_id = input.cluster_id.as_deref().ok_or_else(|| required("cluster_id"))?;
    let cluster_id = ClusterId::parse(cluster_id).map_err(|e| e.at("cluster_id"))?;
    let quotas = input.quotas.unwrap_or_default().0;
    parse_quotas(&quotas)?;
    let now = manager.clock.now();
    let row = Tenant {
        id: TenantId(manager.ids.next()),
        cluster_id,
        name,
        quotas,
        labels: check_labels(input.labels.unwrap_or_default())?,
        version: 1,
        created_at: now,
        updated_at: now,
        deleting_at: None,
        deleted_at: None,
    };
    let mut tx = caller.change().await?;
    // The cluster's row is held, so that it cannot be deleted under the new tenant.
    match cluster::lock(&mut tx.conn(), cluster_id).await?.map(|cluster| cluster.bootstrap_state) {
        None => return Err(Error::invalid(format!("cluster_id: there is no cluster {cluster_id}")).into()),
        Some(BootstrapState::Removing) => {
            let going = format!("kubeOP is being removed from cluster {cluster_id}: it takes no new tenants");
            return Err(Error::conflict(going).into());
        }
        Some(_) => {}
    }
    let inserted = tenant::insert(&mut tx.conn(), &row).await?;
    taken(&caller, &mut tx.conn(), &row, inserted).await?;
    invoice::open(&mut tx.conn(), row.id, Month::of(now)).await?;
    objects::mark_tenant(&mut tx.conn(), &row, now).await?;
    let deed = Deed {
        verb: "create",
        kind: KIND,
        id: row.id.to_string(),
        tenant: Some(row.id),
        after: Some(digest::of(&row)?),
        about: events::of_tenant(&row),
        ..Deed::default()
    };
    let location = format!("/v1/tenants/{}", row.id);
    let item = answer(&mut tx.conn(), row.clone()).await?;
    let mut created = Created { item, version: row.version, location };
    caller.commit_answered(tx, deed, &created).await?;
    manager.wake.cluster(cluster_id);
    if !wait.is_zero() {
        let looking = async {
            settle::wait(manager, objects::tenant_key(&row), wait).await?;
            answer(&mut caller.read().await?.conn(), row).await
        };
        created.item = settle::or_committed(looking.await, created.item);
    }
    Ok(created)
}

async fn taken(caller: &Caller<WriteTenants>, conn: &mut Conn<'_>, row: &Tenant, inserted: Inserted) -> Result<()> {
    if inserted == Inserted::Yes {
        return Ok(());
    }
    let existing = tenant::by_name(conn, caller.scope, row.name.as_str()).await?;
    let name = row.name.as_str();
    Err(Error::conflict(if existing.is_some_and(|tenant| tenant.deleting_at.is_some()) {
        format!("tenant {name:?} is being deleted; its name is free when that is done")
    } else {
        format!("a tenant named {name:?} exists already")
    }))
}
