//! Operations on a cluster's installation, and the prices of the platform.
//!
//! Invariant: `?clusterID=` names the cluster; it may be left out where there is just one.

pub mod autoscale;
pub mod bootstrap;
pub mod prices;
pub mod status;

use crate::api::clusters::get::find;
use kubeop_core::{Error, Result};
use kubeop_store::Conn;
use kubeop_store::Page;
use kubeop_store::cluster::{self, Cluster};

/// The cluster that a query names, or the only one.
async fn of_query(conn: &mut Conn<'_>, id: Option<&str>) -> Result<Cluster> {
    if let Some(id) = id {
        return find(conn, id).await.map_err(|e| e.at("cluster_id"));
    }
    let mut all = cluster::list(conn, &Page::first(2)).await?;
    match (all.pop(), all.is_empty()) {
        (Some(only), true) => Ok(only),
        _ => Err(Error::invalid("cluster_id: is required, since there is not just one cluster")),
    }
}
