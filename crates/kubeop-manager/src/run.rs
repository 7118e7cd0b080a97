//! The manager's start, life and end.
//!
//! Invariant: nothing is written with a wrong master key, and nothing is served before the schema is current.

use crate::api::system::Readiness;
use crate::auth::token::Tokens;
use crate::clusters::Clusters;
use crate::config::Config;
use crate::events::{self, Events};
use crate::http::gate::Gate;
use crate::http::server::{self, Patience};
use crate::metrics::Metrics;
use crate::state::{Manager, RoleHost};
use crate::{audit, jobs, keys, router, sync};
use kubeop_core::Result;
use kubeop_core::clock::{Clock, IdSource};
use kubeop_store::Store;
use prometheus_client::registry::Registry;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How long background work may go on once the last request was answered; with the grace of requests it stays below ten seconds.
const BACKGROUND_GRACE: Duration = Duration::from_millis(1500);

/// How long the database may take to be closed after that: a SQLite file takes its write-ahead log in.
const CLOSING: Duration = Duration::from_secs(2);

/// What the manager works with.
pub struct Deps {
    /// The database, migrated.
    pub store: Store,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Fresh ids.
    pub ids: Arc<dyn IdSource>,
    /// Where metrics are registered.
    pub registry: Arc<Mutex<Registry>>,
    /// Runs the roles of clusters in this process, in `kubeop dev`.
    pub host: Option<Arc<dyn RoleHost>>,
    /// Where the API is served.
    pub listener: TcpListener,
}

/// Runs the manager until `shutdown`, and then closes the database.
///
/// # Errors
/// A wrong master key, a database that does not answer, a listener that fails.
pub async fn run(config: Config, deps: Deps, shutdown: CancellationToken) -> Result<()> {
    let Deps { store, clock, ids, registry, host, listener } = deps;
    let metrics = Metrics::register(&mut registry.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
    let unreadable = metrics.secrets_unreadable.clone();
    let keyring = keys::keyring::open(&store, config.master_keys()?, &*clock, &*ids, unreadable).await?;
    let instance = jobs::first_start::instance(&store, &*ids).await?;
    jobs::first_start::policy(&store, &config, &*clock).await?;
    let events = Events::new(&config)?;
    jobs::first_start::prices(&store, &config, &*clock, &*ids, &events).await?;

    let manager = Arc::new(Manager {
        tokens: Tokens::new(&config.signing_keys),
        gate: Gate::new(config.rate_limit),
        clusters: Clusters::new(keyring, config.servers.clone(), config.host_gateway.clone()),
        wake: sync::Wake::default(),
        events,
        turns: sync::Turns::default(),
        readiness: Readiness::default(),
        config,
        store,
        clock,
        ids,
        instance,
        metrics,
        registry,
        host,
        shutdown: shutdown.clone(),
    });

    let tasks = TaskTracker::new();
    // Background work outlives the listener: what a last request left in the database is still picked up, here or by the next process.
    let background = CancellationToken::new();
    tasks.spawn(sync::supervise(Arc::clone(&manager), sync::Pace::default(), background.clone()));
    tasks.spawn(jobs::credentials::collect(Arc::clone(&manager), background.clone()));
    tasks.spawn(jobs::invoices::close_months(Arc::clone(&manager), background.clone()));
    tasks.spawn(jobs::answers::collect(Arc::clone(&manager), background.clone()));
    tasks.spawn(events::serve(Arc::clone(&manager), background.clone()));
    tasks.spawn(audit::sealer::run(Arc::clone(&manager), background.clone()));
    tasks.close();

    let patience = Patience { linger: manager.config.linger, ..Patience::default() };
    let served = server::serve(listener, router::build(&manager), shutdown, patience).await;
    background.cancel();
    if tokio::time::timeout(BACKGROUND_GRACE, tasks.wait()).await.is_err() {
        tracing::warn!("background work was still running after the grace time");
    }
    if tokio::time::timeout(CLOSING, manager.store.clone().close()).await.is_err() {
        tracing::warn!(
            "the database was still in use after the grace time: the next start goes on from its write-ahead log"
        );
    }
    served
}
