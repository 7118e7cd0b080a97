//! Host names as the manager claims them, over all clusters.
//!
//! Invariant: a host has one app; the clusters' own claims (DNSRecords) decide within each.

use kubeop_core::name::Host;
use kubeop_core::{Error, Result};
use kubeop_store::app::App;
use kubeop_store::host_claim::{self, HostClaim};
use kubeop_store::{Conn, Inserted};
use std::collections::BTreeSet;

/// Claims `hosts` for an app and releases what it held besides.
pub async fn claim(conn: &mut Conn<'_>, app: &App, hosts: &[Host]) -> Result<()> {
    let held: BTreeSet<Host> = host_claim::of_app(conn, app.id).await?.into_iter().map(|claim| claim.host).collect();
    let wanted: BTreeSet<Host> = hosts.iter().cloned().collect();
    // In one order, whatever the caller's: two requests that take turns at the same hosts would wait for each other.
    for host in held.symmetric_difference(&wanted) {
        if held.contains(host) {
            host_claim::release(conn, app.id, host.as_str()).await?;
            continue;
        }
        let claim =
            HostClaim { host: host.clone(), tenant_id: app.tenant_id, project_id: app.project_id, app_id: app.id };
        if host_claim::claim(conn, &claim).await? != Inserted::Yes {
            return Err(Error::conflict(format!("host {host} is used by another app")));
        }
    }
    Ok(())
}
