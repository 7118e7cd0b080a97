//! What projects hold of their tenant's envelope.
//!
//! Invariant: called with the tenant's row held, so that concurrent grants never oversell; of each key of the envelope every project holds an
//! amount.

use crate::api::policy;
use crate::api::tenants::parse_quotas;
use crate::sync::objects;
use jiff::Timestamp;
use kubeop_core::Result;
use kubeop_core::authz::system_scope;
use kubeop_core::id::ProjectId;
use kubeop_core::quota::{self, Quotas, Request};
use kubeop_plan::policy::ceiling;
use kubeop_plan::project::quota::implied;
use kubeop_store::tenant::Tenant;
use kubeop_store::{Conn, project};
use std::collections::BTreeMap;

/// Decides the grant of project `id` (new or changed) that asks for `asked`.
pub async fn decide(
    conn: &mut Conn<'_>,
    tenant: &Tenant,
    id: ProjectId,
    asked: Option<&BTreeMap<String, String>>,
) -> Result<BTreeMap<String, String>> {
    let envelope = parse_quotas(&tenant.quotas)?;
    let asked = asked.map(parse_quotas).transpose()?;
    let ceiling = ceiling(&policy::current(conn).await?.policy);
    let implied = implied(&ceiling)?;
    let (mut held, mut others) = (Quotas::default(), Vec::new());
    for grant in project::grants(conn, tenant.id).await? {
        let granted = parse_quotas(&grant.granted)?;
        if grant.id == id {
            held = granted;
        } else {
            others.push(granted.or(&implied));
        }
    }
    let request =
        Request { envelope: &envelope, others: &others, asked: asked.as_ref(), held: &held, ceiling: &ceiling };
    Ok(quota::grant(&request)?.to_map())
}

/// Fits what the projects of a tenant hold to its changed envelope: of a key that is new in it they hold from now on what they have on the
/// cluster anyway, or a slice.
///
/// # Errors
/// `Invalid` with both numbers if the envelope is below what they hold.
pub async fn refit(conn: &mut Conn<'_>, tenant: &Tenant, now: Timestamp) -> Result<()> {
    let envelope = parse_quotas(&tenant.quotas)?;
    let implied = implied(&ceiling(&policy::current(conn).await?.policy))?;
    let grants = project::grants(conn, tenant.id).await?;
    let held = grants.iter().map(|grant| parse_quotas(&grant.granted)).collect::<Result<Vec<_>>>()?;
    let fitted = quota::complete(&envelope, &held, &implied)?;
    for ((grant, before), after) in grants.iter().zip(&held).zip(fitted) {
        if grant.deleting_at.is_some() || *before == after {
            continue;
        }
        // One whose row went meanwhile holds nothing any more.
        let Some(mut row) = project::lock(conn, system_scope(), grant.id).await? else { continue };
        row.granted = after.to_map();
        if project::update(conn, &mut row, now).await? {
            objects::mark_project(conn, tenant, &row, now).await?;
        }
    }
    Ok(())
}
