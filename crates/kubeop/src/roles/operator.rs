//! `kubeop operator`.
//!
//! Invariant: everything it knows is on its cluster.

use super::metrics;
use crate::config::{ClusterArgs, address};
use crate::shutdown;
use anyhow::Context;
use kube::Client;
use kubeop_cluster::address::AddressPolicy;
use kubeop_cluster::client::{connect, from_trusted};
use kubeop_cluster::kubeconfig::{Intake, Kubeconfig};
use kubeop_core::clock::{Clock, IdSource, SystemClock, SystemIds};
use prometheus_client::registry::Registry;
use std::sync::{Arc, Mutex, PoisonError};

/// Runs the operator until a signal.
pub(crate) async fn run(args: ClusterArgs) -> anyhow::Result<()> {
    let shutdown = shutdown::token()?;
    let registry = Arc::new(Mutex::new(Registry::default()));
    let metrics_addr = address("KUBEOP_METRICS_ADDR", &args.metrics_addr)?;
    let readiness = kubeop_operator::Readiness::default();
    let problems = {
        let readiness = readiness.clone();
        move || readiness.problems()
    };
    let serving = tokio::spawn(metrics::serve(metrics_addr, Arc::clone(&registry), problems, shutdown.clone()));
    let metrics =
        kubeop_operator::metrics::Metrics::register(&mut registry.lock().unwrap_or_else(PoisonError::into_inner));
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let config = kubeop_operator::Config {
        client: client(&args)?,
        identity: args.pod_name.clone().unwrap_or_else(|| format!("kubeop-operator-{}", SystemIds.next())),
        clock,
        ids: Arc::new(SystemIds),
        readiness,
    };
    kubeop_operator::run(config, metrics, shutdown).await?;
    serving.await.context("the metrics listener panicked")?
}

/// A client as the arguments say: a kubeconfig, or the pod's own ServiceAccount.
pub(crate) fn client(args: &ClusterArgs) -> anyhow::Result<Client> {
    let Some(path) = &args.kubeconfig else {
        let config =
            kube::Config::incluster().context("not in a pod: KUBEOP_KUBECONFIG (or --kubeconfig) is needed")?;
        return Ok(from_trusted(config)?);
    };
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("KUBEOP_KUBECONFIG: failed to read {}", path.display()))?;
    Ok(connect(&Kubeconfig::parse(&text, Intake { insecure: false })?, &AddressPolicy::default())?)
}
