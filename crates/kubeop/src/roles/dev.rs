//! `kubeop dev`: manager, operator and admission in one process.
//!
//! Invariant: the same libraries as in production; only where they run differs.

use super::host::Host;
use super::manager;
use crate::cli::DevArgs;
use crate::config::Home;
use crate::shutdown;
use kubeop_core::clock::SystemClock;
use kubeop_manager::state::RoleHost;
use prometheus_client::registry::Registry;
use std::sync::{Arc, Mutex, PoisonError};

/// Runs everything until a signal.
pub(crate) async fn run(args: DevArgs) -> anyhow::Result<()> {
    let registry = Arc::new(Mutex::new(Registry::default()));
    let (operator, admission) = {
        let mut registry = registry.lock().unwrap_or_else(PoisonError::into_inner);
        (
            kubeop_operator::metrics::Metrics::register(&mut registry),
            kubeop_admission::metrics::Metrics::register(&mut registry),
        )
    };
    let servers = args.manager.allow_private_servers.clone();
    let host = Arc::new(Host::new(Arc::new(SystemClock), args.webhook_url, servers, operator, admission));
    let roles: Arc<dyn RoleHost> = Arc::clone(&host) as Arc<dyn RoleHost>;
    let served =
        Box::pin(manager::serve(args.manager, Home::Development, registry, Some(roles), shutdown::token()?)).await;
    host.stop_all().await;
    served
}
