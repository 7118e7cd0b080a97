//! The way to an API server on loopback from within a container: the gateway to its machine (kind and k3d write such kubeconfigs).
//!
//! Invariant: the detour is taken only where loopback itself does not answer and the gateway does; the certificate is checked against the name that
//! the kubeconfig gives, so that whoever answers at the gateway has to be that very server.

use crate::kubeconfig::Kubeconfig;
use kubeop_core::Result;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;
use tokio::net::TcpStream;

/// The name that container engines give to the machine they run on.
pub const DEFAULT: &str = "host.docker.internal";
/// How long either way may take to answer.
const LIMIT: Duration = Duration::from_secs(2);

/// The kubeconfig of a server at "every address of this machine" (k3d writes `0.0.0.0`): where there is a gateway, one on loopback, with its name in TLS kept.
///
/// # Errors
/// Only a defect: loopback is a host.
pub fn local(kubeconfig: &Kubeconfig, gateway: Option<&str>) -> Result<Kubeconfig> {
    match kubeconfig.unspecified() {
        Some(IpAddr::V4(_)) if gateway.is_some() => kubeconfig.rerouted(&Ipv4Addr::LOCALHOST.to_string()),
        Some(IpAddr::V6(_)) if gateway.is_some() => kubeconfig.rerouted(&Ipv6Addr::LOCALHOST.to_string()),
        _ => Ok(kubeconfig.clone()),
    }
}

/// The kubeconfig to connect with: itself, or rerouted through `gateway` (a host name or address).
///
/// # Errors
/// A gateway that is no host.
pub async fn route(kubeconfig: Kubeconfig, gateway: Option<&str>) -> Result<Kubeconfig> {
    let Some(gateway) = gateway.filter(|_| kubeconfig.is_loopback()) else { return Ok(kubeconfig) };
    let port = kubeconfig.server().port_u16().unwrap_or(443);
    if answers(kubeconfig.host(), port).await || !answers(gateway, port).await {
        return Ok(kubeconfig);
    }
    tracing::info!(server = %kubeconfig.server(), gateway, "loopback does not answer: the server is reached through the gateway");
    kubeconfig.rerouted(gateway)
}

async fn answers(host: &str, port: u16) -> bool {
    matches!(tokio::time::timeout(LIMIT, TcpStream::connect((host, port))).await, Ok(Ok(_)))
}
