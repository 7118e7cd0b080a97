//! The operator: reconciles the custom resources of one cluster.
//!
//! Invariant: only the holder of the lease writes; the API server is the only state, so a restart or another replica goes on where it stands.

mod context;
mod events;
mod failure;
mod finalizer;
mod grants;
mod ledger;
pub mod metrics;
mod objects;
mod providers;
mod queues;
mod readiness;
mod reconcilers;
mod secret;
mod status;
mod stores;
mod watches;
mod webhook;

use crate::context::Context;
use crate::events::Events;
use crate::metrics::Metrics;
pub use crate::readiness::Readiness;
use kube::Client;
use kubeop_cluster::clock::ClusterClock;
use kubeop_cluster::lease::{Standing, Terms, campaign};
use kubeop_core::clock::{Clock, IdSource};
use kubeop_core::name::SYSTEM_NAMESPACE;
use kubeop_core::{Error, Result};
use kubeop_plan::install::names::OPERATOR_LEASE;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Who makes admission's certificate and sets the `caBundle` of its webhook.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Certificates {
    /// The operator's leader.
    #[default]
    Operator,
    /// Somebody else (cert-manager): the operator touches neither; it still turns `Ignore` to `Fail`.
    External,
}

/// What the operator needs.
#[derive(Clone)]
pub struct Config {
    /// Acts as ServiceAccount `kubeop-operator`.
    pub client: Client,
    /// Who this process is among the replicas (pod name, or host and process).
    pub identity: String,
    /// Who makes admission's certificate.
    pub certificates: Certificates,
    /// This machine's clock; certificates and conditions go by the cluster's.
    pub clock: Arc<dyn Clock>,
    /// Draws nonces.
    pub ids: Arc<dyn IdSource>,
    /// Where it is told whether this process does its part.
    pub readiness: Readiness,
}

/// How long work in hand may go on after the term of leadership, which ends five seconds before anybody else's can begin.
const GRACE: Duration = Duration::from_secs(3);

/// Runs until `shutdown`: stands for election, and reconciles while it leads. The lease is released at the end.
///
/// # Errors
/// Only a defect; whatever the API server does is tried again.
pub async fn run(config: Config, metrics: Metrics, shutdown: CancellationToken) -> Result<()> {
    let terms = Terms::new(SYSTEM_NAMESPACE, OPERATOR_LEASE, config.identity.clone());
    let quit = CancellationToken::new();
    let (mut standing, election) = campaign(config.client.clone(), terms, config.clock.clone(), quit.clone());
    config.readiness.follow(standing.clone());
    loop {
        tokio::select! {
            () = shutdown.cancelled() => break,
            led = until(&mut standing, true) => led?,
        }
        metrics.leads(true);
        let over = shutdown.child_token();
        let mut term = tokio::spawn(lead(config.clone(), metrics.clone(), over.clone()));
        tokio::select! {
            () = shutdown.cancelled() => {}
            _ = until(&mut standing, false) => tracing::warn!("leadership lost"),
            ended = &mut term => {
                if let Ok(Err(error)) = ended {
                    tracing::error!(error = %error.chain(), "reconcilers ended; they are started again");
                }
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
        metrics.leads(false);
        config.readiness.working(false);
        over.cancel();
        if !term.is_finished() && tokio::time::timeout(GRACE, &mut term).await.is_err() {
            term.abort();
        }
    }
    // Released only now, when nothing of ours writes any more.
    quit.cancel();
    election.await.map_err(Error::internal)
}

/// One term of leadership: fresh watches, fresh caches, the reconcilers, the webhook's keeper.
async fn lead(config: Config, metrics: Metrics, over: CancellationToken) -> Result<()> {
    let (stores, writers) = stores::stores();
    let clock = Arc::new(ClusterClock::new(config.clock));
    clock.begin(&config.client).await;
    let ctx = Arc::new(Context {
        client: config.client.clone(),
        clock: clock.clone(),
        stores,
        ledger: ledger::Ledger::default(),
        grants: grants::Grants::default(),
        failures: failure::Failures::default(),
        zone: providers::ClusterZone::default(),
        self_signed: providers::SelfSigned::default(),
        events: Events::start(config.client.clone(), &config.identity),
        metrics,
    });
    let (queues, receivers) = queues::queues();
    let _watches = watches::start(&ctx, &queues, writers);
    tokio::select! {
        () = over.cancelled() => return Ok(()),
        ready = ctx.stores.ready() => ready?,
    }
    config.readiness.working(true);
    let reconciling = reconcilers::run(&ctx, receivers, &over);
    let opening = async {
        queues.open(&ctx).await;
        futures::future::pending::<()>().await;
    };
    let keeping = webhook::keep(config.client.clone(), config.certificates, clock.clone(), config.ids);
    let zone = providers::keep_zone(&ctx);
    tokio::select! {
        () = reconciling => {}
        () = opening => {}
        () = zone => {}
        () = keeping => {}
        () = clock.follow(&config.client) => {}
    }
    Ok(())
}

/// Waits until this process leads, or does not.
async fn until(standing: &mut watch::Receiver<Standing>, leads: bool) -> Result<()> {
    standing.wait_for(|now| (*now == Standing::Leads) == leads).await.map(|_| ()).map_err(Error::internal)
}
