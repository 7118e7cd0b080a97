//! One connection: whether it is idle, and how long it may leave an answer untaken.
//!
//! Invariant: nothing a caller does or leaves undone keeps a connection for ever; an idle one gives its place to a newcomer.

use hyper::body::Incoming;
use std::io::{Error, ErrorKind, IoSlice, Result};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep};
use tower::Service;

/// What a connection is at.
#[derive(Debug, Default)]
pub(super) struct Activity {
    requests: AtomicUsize,
    writing: AtomicBool,
}

impl Activity {
    /// Whether no request is being carried out, and no answer is on its way.
    pub(super) fn is_idle(&self) -> bool {
        self.requests.load(Ordering::Acquire) == 0 && !self.writing.load(Ordering::Acquire)
    }
}

/// The stream of a connection. What is offered for writing has to be taken within a time, at whatever pace.
#[derive(Debug)]
pub(super) struct Stream {
    socket: TcpStream,
    limit: Duration,
    stalled: Option<Pin<Box<Sleep>>>,
    activity: Arc<Activity>,
}

impl Stream {
    pub(super) fn new(socket: TcpStream, limit: Duration, activity: Arc<Activity>) -> Self {
        Self { socket, limit, stalled: None, activity }
    }

    fn after(&mut self, cx: &mut Context<'_>, offered: usize, written: Poll<Result<usize>>) -> Poll<Result<usize>> {
        match written {
            Poll::Ready(Ok(n)) if n < offered => {}
            Poll::Ready(_) => {
                self.stalled = None;
                self.activity.writing.store(false, Ordering::Release);
            }
            Poll::Pending => {
                self.activity.writing.store(true, Ordering::Release);
                let stalled = self.stalled.get_or_insert_with(|| Box::pin(sleep(self.limit)));
                if stalled.as_mut().poll(cx).is_ready() {
                    return Poll::Ready(Err(Error::new(ErrorKind::TimedOut, "the answer was not taken in time")));
                }
            }
        }
        written
    }
}

impl AsyncRead for Stream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.socket).poll_read(cx, buf)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize>> {
        let written = Pin::new(&mut self.socket).poll_write(cx, bytes);
        self.after(cx, bytes.len(), written)
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, cx: &mut Context<'_>, all: &[IoSlice<'_>]) -> Poll<Result<usize>> {
        let written = Pin::new(&mut self.socket).poll_write_vectored(cx, all);
        self.after(cx, all.iter().map(|slice| slice.len()).sum(), written)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}

/// The application, as one connection's requests reach it.
#[derive(Clone, Debug)]
pub(super) struct Counted<S> {
    app: S,
    activity: Arc<Activity>,
}

impl<S> Counted<S> {
    pub(super) fn new(app: S, activity: Arc<Activity>) -> Self {
        Self { app, activity }
    }
}

/// A request that is being carried out.
struct Request(Arc<Activity>);

impl Drop for Request {
    fn drop(&mut self) {
        self.0.requests.fetch_sub(1, Ordering::AcqRel);
    }
}

impl<S> hyper::service::Service<http::Request<Incoming>> for Counted<S>
where
    S: Service<http::Request<Incoming>> + Clone,
    S::Future: Send + 'static,
    S::Response: Send,
    S::Error: Send,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = std::result::Result<S::Response, S::Error>> + Send>>;

    fn call(&self, request: http::Request<Incoming>) -> Self::Future {
        self.activity.requests.fetch_add(1, Ordering::AcqRel);
        let under_way = Request(Arc::clone(&self.activity));
        // A router is always ready.
        let answering = self.app.clone().call(request);
        Box::pin(async move {
            let _under_way = under_way;
            answering.await
        })
    }
}
