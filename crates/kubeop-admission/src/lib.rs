//! The admission role: a validating webhook over TLS that judges namespaced objects of projects by the platform policy.
//!
//! Invariant: only what was understood in full and breaks no rule is admitted; every other outcome, a panic included, is a denial.

mod listener;
pub mod metrics;
mod policy_cache;
mod review;
mod rules;
mod server;
mod tls;
mod watch;

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::{Api, Client};
use kubeop_cluster::clock::ClusterClock;
use kubeop_core::clock::Clock;
use kubeop_core::name::SYSTEM_NAMESPACE;
use kubeop_core::{Error, Result};
use kubeop_plan::install::names::TLS_SECRET;
use metrics::Metrics;
use policy_cache::PolicyCache;
use server::Reviewer;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tls::Certificates;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// What the role runs with.
pub struct Config {
    /// Where reviews arrive, over TLS: `POST /admit` and `/canary`. Nothing is served before a certificate is loaded.
    pub listener: TcpListener,
    /// How long it serves on after it was told to stop: longer than API servers take to learn that it goes. Zero outside a cluster.
    pub linger: Duration,
    /// Where it is told whether reviews are judged.
    pub readiness: Readiness,
    /// A client that is ServiceAccount `kubeop-admission`: may get, list and watch the Secret `kubeop-admission-tls` (`tls.crt`,
    /// `tls.key`; made and renewed by the operator) and the ConfigMap `kubeop-policy` by name.
    pub client: Client,
    /// The namespace of both; `kubeop-system`.
    pub namespace: String,
    /// This machine's clock; whether the certificate is valid is told by the cluster's.
    pub clock: Arc<dyn Clock>,
}

impl Config {
    /// A configuration with the usual namespace, which does not linger.
    pub fn new(listener: TcpListener, client: Client, clock: Arc<dyn Clock>) -> Self {
        Self {
            listener,
            linger: Duration::ZERO,
            readiness: Readiness::default(),
            client,
            namespace: SYSTEM_NAMESPACE.to_owned(),
            clock,
        }
    }
}

/// Tells whether reviews are judged; clones tell of the same process.
#[derive(Clone, Default)]
pub struct Readiness(Arc<OnceLock<(Arc<Reviewer>, CancellationToken)>>);

impl Readiness {
    /// Why the process is not ready, a sentence each; empty if it is.
    pub fn problems(&self) -> Vec<String> {
        match self.0.get() {
            None => vec!["admission: it has not started yet".to_owned()],
            Some((_, stopping)) if stopping.is_cancelled() => vec!["admission: it is stopping".to_owned()],
            Some((reviewer, _)) => reviewer.problems(),
        }
    }
}

/// Runs until `shutdown`, serves on for as long as it lingers, then finishes what is in flight (8 s at most).
///
/// A missing Secret is waited for; a missing or malformed policy denies until it is there. Both are followed without a restart.
///
/// # Errors
/// Only what makes the role impossible from the start: a TLS stack without usable protocol versions, a listener without an address.
pub async fn run(config: Config, metrics: Metrics, shutdown: CancellationToken) -> Result<()> {
    let clock = Arc::new(ClusterClock::new(config.clock));
    let certificates = Arc::new(Certificates::new(clock.clone(), metrics.clone()));
    let policy = Arc::new(PolicyCache::new(metrics.clone()));
    let acceptor = tls::acceptor(certificates.clone())?;
    let reviewer = Arc::new(Reviewer::new(policy.clone(), certificates.clone(), metrics.clone()));
    let address = config.listener.local_addr().map_err(Error::internal)?;

    let secrets: Api<Secret> = Api::namespaced(config.client.clone(), &config.namespace);
    let follow_secret = watch::follow(secrets, TLS_SECRET, metrics.clone(), |secret| certificates.update(secret));
    let config_maps: Api<ConfigMap> = Api::namespaced(config.client.clone(), &config.namespace);
    let follow_policy = watch::follow(config_maps, kubeop_plan::policy::NAME, metrics, |map| policy.update(map));

    // A second run in one process tells of itself through a readiness of its own.
    let _ = config.readiness.0.set((reviewer.clone(), shutdown.clone()));
    let stop = CancellationToken::new();
    let lingering = async {
        shutdown.cancelled().await;
        tokio::time::sleep(config.linger).await;
        stop.cancel();
    };
    let reviews = async {
        tokio::select! {
            () = certificates.loaded() => {}
            () = shutdown.cancelled() => return,
        }
        tracing::info!(%address, "admission serves");
        let serving =
            listener::serve(config.listener, acceptor, server::router(reviewer, shutdown.clone()), stop.clone());
        futures::future::join(serving, lingering).await;
    };
    tokio::select! {
        () = reviews => {}
        ((), (), ()) = futures::future::join3(follow_secret, follow_policy, clock.follow(&config.client)) => {}
    }
    Ok(())
}
