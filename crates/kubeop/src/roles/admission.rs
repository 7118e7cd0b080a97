//! `kubeop admission`.
//!
//! Invariant: holds nothing but a cache of policy and its certificate.

use super::{metrics, operator};
use crate::cli::AdmissionArgs;
use crate::config::address;
use crate::shutdown;
use anyhow::Context;
use kubeop_core::clock::{Clock, SystemClock};
use prometheus_client::registry::Registry;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::net::TcpListener;

/// Runs admission until a signal.
pub(crate) async fn run(args: AdmissionArgs) -> anyhow::Result<()> {
    let shutdown = shutdown::token()?;
    let registry = Arc::new(Mutex::new(Registry::default()));
    let metrics_addr = address("KUBEOP_METRICS_ADDR", &args.cluster.metrics_addr)?;
    let readiness = kubeop_admission::Readiness::default();
    let problems = {
        let readiness = readiness.clone();
        move || readiness.problems()
    };
    let serving = tokio::spawn(metrics::serve(metrics_addr, Arc::clone(&registry), problems, shutdown.clone()));
    let listen = address("KUBEOP_ADMISSION_ADDR", &args.addr)?;
    let listener =
        TcpListener::bind(listen).await.with_context(|| format!("KUBEOP_ADMISSION_ADDR: {listen} cannot be used"))?;
    let metrics =
        kubeop_admission::metrics::Metrics::register(&mut registry.lock().unwrap_or_else(PoisonError::into_inner));
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let linger = Duration::from_secs(args.linger_seconds);
    let config = kubeop_admission::Config {
        linger,
        readiness,
        ..kubeop_admission::Config::new(listener, operator::client(&args.cluster)?, clock)
    };
    kubeop_admission::run(config, metrics, shutdown).await?;
    serving.await.context("the metrics listener panicked")?
}
