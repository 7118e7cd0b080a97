//! Host names as the manager claims them, over all clusters.
//!
//! Invariant: a host has one app; the clusters' own claims (DNSRecords) decide within each.

use kubeop_core::name::Host;
use kubeop_core::{Error, Result};
use kubeop_store::app::App;
use kubeop_store::host_claim::{self, HostClaim};
use kubeop_store::{Conn, Inserted};

/// Claims `hosts` for an app and releases what it held besides.
pub async fn claim(conn: &mut Conn<'_>, app: &App, hosts: &[Host]) -> Result<()> {
    let held = host_claim::of_app(conn, app.id).await?;
    for gone in held.iter().filter(|claim| !hosts.contains(&claim.host)) {
        host_claim::release(conn, app.id, gone.host.as_str()).await?;
    }
    for host in hosts.iter().filter(|host| !held.iter().any(|claim| claim.host == **host)) {
        let claim =
            HostClaim { host: host.clone(), tenant_id: app.tenant_id, project_id: app.project_id, app_id: app.id };
        if host_claim::claim(conn, &claim).await? != Inserted::Yes {
            return Err(Error::conflict(format!("host {host} is used by another app")));
        }
    }
    Ok(())
}
