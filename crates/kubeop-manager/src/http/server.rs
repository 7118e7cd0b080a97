//! The listener: HTTP/1.1 over connections whose every step has a limit, and an end that answers what was taken in.
//!
//! Invariant: once it ended no connection is accepted, and every request that was read is answered or the grace time has passed.

use super::connection::{Activity, Counted, Stream};
use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use kubeop_core::Result;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

/// Bytes of a request's line and headers.
const MAX_BUFFER: usize = 64 << 10;
/// How long a newcomer waits for an idle connection to go.
const TURN: Duration = Duration::from_secs(1);
/// When nobody has come for this long, nobody is waiting to be accepted.
const QUIET: Duration = Duration::from_millis(20);
/// How long those who came before the end are accepted.
const BACKLOG: Duration = Duration::from_millis(500);

/// How long, and how many.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// How long a connection may be without a whole request's headers, from its begin or the answer before.
    pub headers: Duration,
    /// How long the caller may take to take an answer in.
    pub answer: Duration,
    /// How long connections are accepted after the end began, for those who do not know of it yet.
    pub linger: Duration,
    /// How long running requests may go on after that.
    pub grace: Duration,
    /// Connections at once; the one that is idle for longest goes when another comes.
    pub connections: usize,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            headers: Duration::from_secs(10),
            answer: Duration::from_mins(1),
            linger: Duration::ZERO,
            grace: Duration::from_millis(5500),
            connections: 4096,
        }
    }
}

/// Serves `app` until `shutdown`.
pub async fn serve(listener: TcpListener, app: Router, shutdown: CancellationToken, patience: Patience) -> Result<()> {
    let mut server = Server {
        app,
        patience,
        graceful: GracefulShutdown::new(),
        places: Arc::new(Semaphore::new(patience.connections)),
        newcomers: Arc::new(Notify::new()),
    };
    let over = async {
        shutdown.cancelled().await;
        sleep(patience.linger).await;
    };
    let mut over = pin!(over);
    loop {
        tokio::select! {
            () = &mut over => break,
            accepted = listener.accept() => server.take(accepted).await,
        }
    }
    // Who is connected already, as far as the kernel is concerned, may have sent a request.
    let end = Instant::now() + BACKLOG;
    while Instant::now() < end
        && let Ok(accepted) = timeout(QUIET, listener.accept()).await
    {
        server.take(accepted).await;
    }
    drop(listener);
    if timeout(patience.grace, server.graceful.shutdown()).await.is_err() {
        tracing::warn!("requests were still running after the grace time");
    }
    Ok(())
}

struct Server {
    app: Router,
    patience: Patience,
    graceful: GracefulShutdown,
    places: Arc<Semaphore>,
    /// Rung for each who finds no place; the connection that is idle for longest hears it.
    newcomers: Arc<Notify>,
}

impl Server {
    async fn take(&mut self, accepted: std::io::Result<(TcpStream, std::net::SocketAddr)>) {
        match accepted {
            Ok((stream, _)) => {
                if let Some(place) = self.place().await {
                    self.serve(stream, place);
                } else {
                    tracing::warn!("too many connections are busy: one is closed at once");
                }
            }
            Err(error) => {
                // Out of descriptors, or the peer is already gone: accepting again at once would only spin.
                tracing::warn!(%error, "failed to accept a connection");
                sleep(Duration::from_millis(50)).await;
            }
        }
    }

    async fn place(&self) -> Option<OwnedSemaphorePermit> {
        if let Ok(place) = Arc::clone(&self.places).try_acquire_owned() {
            return Some(place);
        }
        self.newcomers.notify_one();
        timeout(TURN, Arc::clone(&self.places).acquire_owned()).await.ok()?.ok()
    }

    fn serve(&self, stream: TcpStream, place: OwnedSemaphorePermit) {
        let activity = Arc::new(Activity::default());
        // Answers are small and whole: waiting for more of them to send only delays.
        let _ = stream.set_nodelay(true);
        let stream = Stream::new(stream, self.patience.answer, Arc::clone(&activity));
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.patience.headers)
            .max_buf_size(MAX_BUFFER)
            .serve_connection(TokioIo::new(stream), Counted::new(self.app.clone(), Arc::clone(&activity)));
        let watched = self.graceful.watch(connection);
        let newcomers = Arc::clone(&self.newcomers);
        tokio::spawn(async move {
            let _place = place;
            let (mut watched, mut evicted) = (pin!(watched), pin!(newcomers.notified()));
            let ended = poll_fn(|cx| {
                if let Poll::Ready(ended) = watched.as_mut().poll(cx) {
                    return Poll::Ready(Some(ended));
                }
                if activity.is_idle() {
                    return evicted.as_mut().poll(cx).map(|()| None);
                }
                // Whoever is busy loses the place in the row of those who are idle.
                evicted.set(newcomers.notified());
                Poll::Pending
            });
            match ended.await {
                Some(Ok(())) => {}
                Some(Err(error)) => tracing::debug!(%error, "connection ended"),
                None => tracing::debug!("an idle connection gave its place to another"),
            }
        });
    }
}
