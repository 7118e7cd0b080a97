//! The end of the process: SIGTERM or SIGINT begins it, a second one forces it.
//!
//! Invariant: the token is cancelled once; roles end by themselves.

use anyhow::Context;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// A token that is cancelled by the first SIGTERM or SIGINT.
pub(crate) fn token() -> anyhow::Result<CancellationToken> {
    let mut terminate = signal(SignalKind::terminate()).context("failed to listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("failed to listen for SIGINT")?;
    let token = CancellationToken::new();
    let cancel = token.clone();
    tokio::spawn(async move {
        for round in 0..2 {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            if round == 0 {
                tracing::info!("shutting down");
                cancel.cancel();
            }
        }
        tracing::warn!("ended at once by a second signal");
        std::process::exit(130);
    });
    Ok(token)
}
