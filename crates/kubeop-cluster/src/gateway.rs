//! The way to an API server on loopback from within a container: the gateway to its machine (kind and k3d write such kubeconfigs).
//!
//! Invariant: the detour is taken only where loopback itself does not answer and the gateway does; the certificate is checked against the name that
//! the kubeconfig gives, so that whoever answers at the gateway has to be that very server.

use crate::kubeconfig::Kubeconfig;
use kubeop_core::Result;
use std::time::Duration;
use tokio::net::TcpStream;

/// The name that container engines give to the machine they run on.
pub const DEFAULT: &str = "host.docker.internal";
/// How long either way may take to answer.
const LIMIT: Duration = Duration::from_secs(2);

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
