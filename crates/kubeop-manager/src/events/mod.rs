//! Events to the outside: what is told, to whom, and how it gets there.
//!
//! Invariant: an event is written in the transaction of the change it tells of, and delivered at least once to each hook that was
//! configured then; what cannot be delivered within a day is kept as a dead letter.

mod about;
mod dispatch;
pub mod hook;
pub mod outbox;
mod pace;
mod send;
mod sign;
mod upkeep;

pub use about::{About, of_app, of_cluster, of_project, of_tenant};

use crate::config::Config;
use crate::state::Manager;
use hook::Hook;
use kubeop_core::Result;
use std::sync::Arc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Where events go.
#[derive(Debug, Default)]
pub struct Events {
    hooks: Vec<Arc<Hook>>,
    sender: Option<send::Sender>,
}

impl Events {
    /// The hooks of a configuration.
    ///
    /// # Errors
    /// `Internal` if this machine's certificate authorities cannot be read.
    pub fn new(config: &Config) -> Result<Self> {
        let hooks = hook::of(config);
        let sender = (!hooks.is_empty()).then(|| send::Sender::new(&config.build.version)).transpose()?;
        Ok(Self { hooks, sender })
    }

    /// Whether anybody is to be told anything.
    pub fn are_wanted(&self) -> bool {
        !self.hooks.is_empty()
    }

    /// The hook of this name, if it is configured.
    pub fn hook(&self, name: &str) -> Option<&Hook> {
        self.hooks.iter().map(AsRef::as_ref).find(|hook| hook.name == name)
    }

    /// Lets what was just committed be delivered at once.
    pub fn ring(&self) {
        for hook in &self.hooks {
            hook.bell.notify_one();
        }
    }
}

/// Delivers until the process ends.
pub async fn serve(manager: Arc<Manager>, shutdown: CancellationToken) {
    if !manager.store.is_shared() {
        // Nobody else can be carrying anything out: what is claimed, a process that died has left.
        if let Err(error) = upkeep::take_back(&manager).await {
            tracing::warn!(error = %error.chain(), "failed to take back deliveries; they are due again within a minute");
        }
    }
    let mut loops = JoinSet::new();
    loops.spawn(upkeep::run(Arc::clone(&manager), shutdown.clone()));
    if let Some(sender) = &manager.events.sender {
        for hook in &manager.events.hooks {
            loops.spawn(dispatch::run(Arc::clone(&manager), Arc::clone(hook), sender.clone(), shutdown.clone()));
        }
    }
    loops.join_all().await;
}
