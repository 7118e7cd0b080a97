//! What a project is granted of its tenant's envelope.
//!
//! Invariant: called with the tenant's row held, so that concurrent grants never oversell.

use crate::api::policy;
use crate::api::tenants::parse_quotas;
use kubeop_core::Result;
use kubeop_core::id::ProjectId;
use kubeop_core::quota::{self, Request};
use kubeop_plan::policy::ceiling;
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
    let others = project::grants(conn, tenant.id).await?;
    let others = others
        .iter()
        .filter(|grant| grant.id != id)
        .map(|grant| parse_quotas(&grant.granted))
        .collect::<Result<Vec<_>>>()?;
    let ceiling = ceiling(&policy::current(conn).await?.policy);
    let granted =
        quota::grant(&Request { envelope: &envelope, others: &others, asked: asked.as_ref(), ceiling: &ceiling })?;
    Ok(granted.to_map())
}
