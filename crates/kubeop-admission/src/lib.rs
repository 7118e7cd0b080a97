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
use kubeop_core::clock::Clock;
use kubeop_core::name::SYSTEM_NAMESPACE;
use kubeop_core::{Error, Result};
use kubeop_plan::install::names::TLS_SECRET;
use metrics::Metrics;
use policy_cache::PolicyCache;
use server::Reviewer;
use std::sync::Arc;
use tls::Certificates;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// What the role runs with.
pub struct Config {
    /// Where reviews arrive, over TLS: `POST /admit` and `/canary`, and `/healthz` and `/readyz`. Nothing is served before a certificate is loaded.
    pub listener: TcpListener,
    /// Where `/healthz` and `/readyz` are served in plain HTTP from the start, so that a process without a certificate is not taken for dead.
    pub probes: Option<TcpListener>,
    /// A client that is ServiceAccount `kubeop-admission`: may get, list and watch the Secret `kubeop-admission-tls` (`tls.crt`,
    /// `tls.key`; made and renewed by the operator) and the ConfigMap `kubeop-policy` by name.
    pub client: Client,
    /// The namespace of both; `kubeop-system`.
    pub namespace: String,
    /// Tells whether the certificate is valid.
    pub clock: Arc<dyn Clock>,
}

impl Config {
    /// A configuration with the usual namespace and without a listener for probes.
    pub fn new(listener: TcpListener, client: Client, clock: Arc<dyn Clock>) -> Self {
        Self { listener, probes: None, client, namespace: SYSTEM_NAMESPACE.to_owned(), clock }
    }
}

/// Runs until `shutdown`, then finishes what is in flight (8 s at most).
///
/// A missing Secret is waited for; a missing or malformed policy denies until it is there. Both are followed without a restart.
///
/// # Errors
/// Only what makes the role impossible from the start: a TLS stack without usable protocol versions, a listener without an address.
pub async fn run(config: Config, metrics: Metrics, shutdown: CancellationToken) -> Result<()> {
    let certificates = Arc::new(Certificates::new(config.clock.clone(), metrics.clone()));
    let policy = Arc::new(PolicyCache::new(metrics.clone()));
    let acceptor = tls::acceptor(certificates.clone())?;
    let reviewer = Arc::new(Reviewer::new(policy.clone(), certificates.clone(), metrics.clone()));
    let address = config.listener.local_addr().map_err(Error::internal)?;

    let secrets: Api<Secret> = Api::namespaced(config.client.clone(), &config.namespace);
    let follow_secret = watch::follow(secrets, TLS_SECRET, metrics.clone(), |secret| certificates.update(secret));
    let config_maps: Api<ConfigMap> = Api::namespaced(config.client, &config.namespace);
    let follow_policy = watch::follow(config_maps, kubeop_plan::policy::NAME, metrics, |map| policy.update(map));

    let probes = async {
        if let Some(listener) = config.probes {
            listener::serve(listener, None, server::probes(reviewer.clone()), shutdown.clone()).await;
        }
    };
    let reviews = async {
        tokio::select! {
            () = certificates.loaded() => {}
            () = shutdown.cancelled() => return,
        }
        tracing::info!(%address, "admission serves");
        listener::serve(config.listener, Some(acceptor), server::router(reviewer.clone()), shutdown.clone()).await;
    };
    tokio::select! {
        ((), ()) = futures::future::join(probes, reviews) => {}
        ((), ()) = futures::future::join(follow_secret, follow_policy) => {}
    }
    Ok(())
}
