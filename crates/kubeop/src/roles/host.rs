//! Operator and admission of clusters inside this process, for `kubeop dev`.
//!
//! Invariant: each role acts as its own ServiceAccount; what fails closed on a cluster is removed when this process stops.

use async_trait::async_trait;
use kube::Client;
use kubeop_cluster::address::AddressPolicy;
use kubeop_cluster::bootstrap::remove_webhook;
use kubeop_cluster::client::{ServiceAccountName, as_service_account, connect};
use kubeop_cluster::kubeconfig::Kubeconfig;
use kubeop_core::clock::{Clock, SystemIds};
use kubeop_core::id::ClusterId;
use kubeop_core::{Error, Result};
use kubeop_manager::state::RoleHost;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs, UdpSocket};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Pause before a role that ended with an error is started again.
const AGAIN: Duration = Duration::from_secs(3);
/// How long a cluster is given to take its webhook configuration away.
const REMOVAL: Duration = Duration::from_millis(1500);
/// How long roles may take to end.
const ENDING: Duration = Duration::from_secs(1);

/// The clusters whose roles run here.
pub(crate) struct Host {
    clock: Arc<dyn Clock>,
    webhook_url: Option<String>,
    servers: AddressPolicy,
    operator: kubeop_operator::metrics::Metrics,
    admission: kubeop_admission::metrics::Metrics,
    clusters: Mutex<HashMap<ClusterId, Hosted>>,
}

#[derive(Default)]
struct Hosted {
    webhook: Option<(String, TcpListener)>,
    url: Option<String>,
    registered: Option<Client>,
    roles: Option<(CancellationToken, JoinSet<()>)>,
    admission: bool,
}

impl Host {
    /// A host without clusters.
    pub(crate) fn new(
        clock: Arc<dyn Clock>,
        webhook_url: Option<String>,
        servers: AddressPolicy,
        operator: kubeop_operator::metrics::Metrics,
        admission: kubeop_admission::metrics::Metrics,
    ) -> Self {
        Self { clock, webhook_url, servers, operator, admission, clusters: Mutex::default() }
    }

    /// Stops every role and takes every webhook configuration away.
    pub(crate) async fn stop_all(&self) {
        let ids: Vec<ClusterId> = self.clusters.lock().await.keys().copied().collect();
        futures::future::join_all(ids.into_iter().map(|id| self.stop(id))).await;
    }

    async fn bind(&self, kubeconfig: &Kubeconfig) -> Result<(String, TcpListener)> {
        let (listen, url) = match &self.webhook_url {
            Some(url) => (SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), port_of(url)?), Some(url.clone())),
            None => (SocketAddr::new(address_towards(kubeconfig)?, 0), None),
        };
        let listener = TcpListener::bind(listen)
            .await
            .map_err(|error| Error::unavailable(format!("the webhook cannot listen on {listen}")).caused_by(error))?;
        let bound = listener.local_addr().map_err(Error::internal)?;
        Ok((url.unwrap_or_else(|| format!("https://{bound}")), listener))
    }
}

#[async_trait]
impl RoleHost for Host {
    async fn webhook_url(&self, cluster: ClusterId, kubeconfig: &Kubeconfig) -> Result<String> {
        let mut clusters = self.clusters.lock().await;
        let hosted = clusters.entry(cluster).or_default();
        if let Some(url) = &hosted.url {
            return Ok(url.clone());
        }
        let (url, listener) = self.bind(kubeconfig).await?;
        hosted.url = Some(url.clone());
        hosted.webhook = Some((url.clone(), listener));
        Ok(url)
    }

    async fn start(&self, cluster: ClusterId, kubeconfig: &Kubeconfig, admission: bool) -> Result<()> {
        let policy = &self.servers;
        let mut clusters = self.clusters.lock().await;
        let hosted = clusters.entry(cluster).or_default();
        let registered = connect(kubeconfig, policy)?;
        if hosted.roles.is_none() {
            let client =
                as_service_account(kubeconfig, policy, registered.clone(), ServiceAccountName::Operator).await?;
            let cancel = CancellationToken::new();
            let mut roles = JoinSet::new();
            roles.spawn(operator(client, Arc::clone(&self.clock), self.operator.clone(), cancel.clone()));
            hosted.roles = Some((cancel, roles));
        }
        if admission
            && !hosted.admission
            && let Some((_, listener)) = hosted.webhook.take()
            && let Some((cancel, roles)) = &mut hosted.roles
        {
            let client =
                as_service_account(kubeconfig, policy, registered.clone(), ServiceAccountName::Admission).await?;
            let config = kubeop_admission::Config::new(listener, client, Arc::clone(&self.clock));
            let (metrics, cancel) = (self.admission.clone(), cancel.clone());
            roles.spawn(async move {
                if let Err(error) = kubeop_admission::run(config, metrics, cancel).await {
                    tracing::error!(error = %error.chain(), "admission ended");
                }
            });
            hosted.admission = true;
        }
        hosted.registered = Some(registered);
        Ok(())
    }

    async fn stop(&self, cluster: ClusterId) {
        let Some(hosted) = self.clusters.lock().await.remove(&cluster) else { return };
        // The webhook first: while nobody answers it, it must not stand in the way.
        if let Some(client) = hosted.registered.filter(|_| hosted.url.is_some()) {
            match tokio::time::timeout(REMOVAL, remove_webhook(&client)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => {
                    tracing::warn!(%cluster, error = %error.chain(), "failed to remove the webhook configuration");
                }
                Err(_) => {
                    tracing::warn!(%cluster, "the cluster did not answer in time: its webhook configuration stays");
                }
            }
        }
        if let Some((cancel, mut roles)) = hosted.roles {
            cancel.cancel();
            let ended = async { while roles.join_next().await.is_some() {} };
            if tokio::time::timeout(ENDING, ended).await.is_err() {
                tracing::warn!(%cluster, "roles were still running after the grace time");
            }
        }
    }
}

async fn operator(
    client: Client,
    clock: Arc<dyn Clock>,
    metrics: kubeop_operator::metrics::Metrics,
    cancel: CancellationToken,
) {
    while !cancel.is_cancelled() {
        let identity = format!("kubeop-dev-{}", std::process::id());
        let config = kubeop_operator::Config {
            client: client.clone(),
            identity,
            certificates: kubeop_operator::Certificates::Operator,
            clock: Arc::clone(&clock),
            ids: Arc::new(SystemIds),
            readiness: kubeop_operator::Readiness::default(),
        };
        if let Err(error) = kubeop_operator::run(config, metrics.clone(), cancel.clone()).await {
            tracing::error!(error = %error.chain(), "operator ended, starting it again");
        }
        tokio::select! {
            () = cancel.cancelled() => {}
            () = tokio::time::sleep(AGAIN) => {}
        }
    }
}

/// The address under which a cluster's API server can reach us: loopback if we reach it so, else ours on the way to it.
fn address_towards(kubeconfig: &Kubeconfig) -> Result<IpAddr> {
    if kubeconfig.is_loopback() {
        return Ok(IpAddr::V4(Ipv4Addr::LOCALHOST));
    }
    let port = kubeconfig.server().port_u16().unwrap_or(443);
    let found = (kubeconfig.host().trim_matches(['[', ']']), port)
        .to_socket_addrs()
        .ok()
        .and_then(|mut all| all.next())
        .and_then(|server| {
            let any: IpAddr =
                if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { std::net::Ipv6Addr::UNSPECIFIED.into() };
            // Connecting a datagram socket sends nothing; it only asks the routing table.
            let socket = UdpSocket::bind((any, 0)).ok()?;
            socket.connect(server).ok()?;
            socket.local_addr().ok().map(|ours| ours.ip())
        });
    found.ok_or_else(|| {
        Error::unavailable("no address is known under which the cluster could reach this process: give --webhook-url")
    })
}

fn port_of(url: &str) -> Result<u16> {
    let refuse = || Error::invalid(format!("KUBEOP_WEBHOOK_URL: {url:?} is not of the form https://host:port"));
    let rest = url.strip_prefix("https://").ok_or_else(refuse)?;
    let (host, port) = rest.trim_end_matches('/').rsplit_once(':').ok_or_else(refuse)?;
    if host.is_empty() || host.contains('/') { Err(refuse()) } else { port.parse().map_err(|_| refuse()) }
}
