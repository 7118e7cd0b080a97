//! `kubeop manager`.
//!
//! Invariant: the database is open and current before the API is served, and untouched if the master key is not its own.

use super::{keys, metrics, migrate};
use crate::cli::Cli;
use crate::config::{Home, ManagerArgs, address, warn_of_unknown_variables};
use crate::shutdown;
use anyhow::Context;
use clap::CommandFactory;
use kubeop_core::clock::{SystemClock, SystemIds};
use kubeop_manager::state::RoleHost;
use kubeop_manager::{Deps, run as run_manager};
use prometheus_client::registry::Registry;
use std::sync::{Arc, Mutex};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// Runs the manager until a signal.
pub(crate) async fn run(args: ManagerArgs) -> anyhow::Result<()> {
    let registry = Arc::new(Mutex::new(Registry::default()));
    Box::pin(serve(args, Home::Production, registry, None, shutdown::token()?)).await
}

/// Runs the manager until `shutdown`.
pub(crate) async fn serve(
    args: ManagerArgs,
    home: Home,
    registry: Arc<Mutex<Registry>>,
    host: Option<Arc<dyn RoleHost>>,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    warn_of_unknown_variables(&Cli::command());
    let (config, listen) = (args.config(home)?, args.listen(home)?);
    keys::check_before_start(&args.database, &config.master_keys()?).await?;
    let store = migrate::open(&args.database).await?;
    let listener = TcpListener::bind(listen)
        .await
        .with_context(|| format!("KUBEOP_HTTP_ADDR: {listen} cannot be used (is another process serving there?)"))?;
    if let Some(text) = &args.metrics_addr {
        let address = address("KUBEOP_METRICS_ADDR", text)?;
        tokio::spawn(metrics::serve(address, Arc::clone(&registry), Vec::new, shutdown.clone()));
    }
    if !config.require_auth {
        tracing::warn!("authentication is off: everybody who reaches this address may do everything");
    }
    tracing::info!(address = %listener.local_addr().unwrap_or(listen), version = config.build.version, "serving the API");
    let deps = Deps { store, clock: Arc::new(SystemClock), ids: Arc::new(SystemIds), registry, host, listener };
    run_manager(config, deps, shutdown).await?;
    Ok(())
}
