//! The listener: connections with bounded header time, and a shutdown that lets running requests end.
//!
//! Invariant: once shutdown begins no connection is accepted, and every request that was read is answered or the grace time has passed.

use axum::Router;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use kubeop_core::{Error, Result};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// How long running requests may go on after shutdown began.
const GRACE: Duration = Duration::from_millis(5500);
const HEADER_TIME: Duration = Duration::from_secs(10);
const MAX_HEADERS: usize = 16 << 10;

/// Serves `app` until `shutdown`.
///
/// # Errors
/// `Unavailable` if the listener fails for good.
pub async fn serve(listener: TcpListener, app: Router, shutdown: CancellationToken) -> Result<()> {
    let graceful = GracefulShutdown::new();
    loop {
        let stream = tokio::select! {
            () = shutdown.cancelled() => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(error) if is_transient(&error) => {
                    // Out of descriptors, or the peer is already gone: accepting again at once would only spin.
                    tracing::warn!(%error, "failed to accept a connection");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
                Err(error) => return Err(Error::unavailable("the listener failed").caused_by(error)),
            },
        };
        let mut builder = Builder::new(TokioExecutor::new());
        builder
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADER_TIME)
            .max_buf_size(MAX_HEADERS.max(64 << 10));
        builder.http2().timer(TokioTimer::new()).max_concurrent_streams(100);
        let service = TowerToHyperService::new(app.clone());
        let connection = builder.serve_connection(TokioIo::new(stream), service).into_owned();
        let watched = graceful.watch(connection);
        tokio::spawn(async move {
            if let Err(error) = watched.await {
                tracing::debug!(%error, "connection ended");
            }
        });
    }
    drop(listener);
    if tokio::time::timeout(GRACE, graceful.shutdown()).await.is_err() {
        tracing::warn!("requests were still running after the grace time");
    }
    Ok(())
}

fn is_transient(error: &std::io::Error) -> bool {
    use std::io::ErrorKind as K;
    // 23 and 24 are ENFILE and EMFILE: no descriptor is free at this moment.
    matches!(
        error.kind(),
        K::ConnectionAborted | K::ConnectionReset | K::ConnectionRefused | K::Interrupted | K::WouldBlock
    ) || matches!(error.raw_os_error(), Some(23 | 24))
}
