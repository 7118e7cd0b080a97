//! A TCP proxy in front of PostgreSQL: connections are cut, fall silent, or break in the middle of a COMMIT.
//!
//! Invariant: what the proxy has taken in while it is silent is never delivered, as where packets vanish.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// What happens to the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Line {
    /// They are carried.
    Open,
    /// Connections are reset, new ones too.
    Cut,
    /// Connections stay and say nothing, new ones too; those that fell silent never speak again.
    Silent,
    /// After so many others a COMMIT never reaches the server: its connection is reset.
    ResetBeforeCommit(usize),
    /// After so many others a COMMIT reaches the server, and the connection is reset before it is answered.
    ResetAfterCommit(usize),
    /// After so many others a COMMIT reaches the server, and its connection says nothing any more.
    SilentAfterCommit(usize),
    /// Connections are reset once this many messages of clients were carried in all.
    CutAfter(usize),
}

/// A proxy; gone when dropped.
pub(crate) struct PgProxy {
    /// The database's URL, by way of the proxy.
    pub(crate) url: String,
    line: Arc<watch::Sender<Line>>,
    carried: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl PgProxy {
    /// A proxy to the server of a URL.
    pub(crate) async fn before(url: &str) -> Self {
        let authority = url.split_once("://").unwrap().1.split('/').next().unwrap();
        let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host).to_owned();
        let target: SocketAddr = tokio::net::lookup_host(host.as_str()).await.unwrap().next().unwrap();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let url = url.replacen(&host, &listener.local_addr().unwrap().to_string(), 1);
        let line = Arc::new(watch::channel(Line::Open).0);
        let carried = Arc::new(AtomicUsize::new(0));
        let (sender, count) = (Arc::clone(&line), Arc::clone(&carried));
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(carry(client, target, Arc::clone(&sender), Arc::clone(&count)));
            }
        });
        Self { url, line, carried, task }
    }

    pub(crate) fn set(&self, line: Line) {
        self.carried.store(0, Ordering::SeqCst);
        self.line.send_replace(line);
    }
}

impl Drop for PgProxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What becomes of a connection.
enum End {
    Closed,
    Reset,
    Silent,
}

async fn carry(mut client: TcpStream, target: SocketAddr, line: Arc<watch::Sender<Line>>, count: Arc<AtomicUsize>) {
    let end = match TcpStream::connect(target).await {
        Ok(mut server) => exchange(&mut client, &mut server, &line, &count).await,
        Err(_) => End::Reset,
    };
    match end {
        End::Closed => {}
        // Closing with unread or lingering data resets the connection.
        End::Reset => drop(client.set_zero_linger()),
        End::Silent => std::future::pending().await,
    }
}

async fn exchange(
    client: &mut TcpStream,
    server: &mut TcpStream,
    line: &watch::Sender<Line>,
    count: &AtomicUsize,
) -> End {
    let mut state = line.subscribe();
    let (mut asked, mut answered) = (vec![0; 64 << 10], vec![0; 64 << 10]);
    loop {
        match *state.borrow_and_update() {
            Line::Cut => return End::Reset,
            Line::Silent => return End::Silent,
            _ => {}
        }
        tokio::select! {
            _ = state.changed() => {}
            read = client.read(&mut asked) => {
                let Ok(n @ 1..) = read else { return End::Closed };
                let text = &asked[..n];
                let now = *line.borrow();
                let hit = match now {
                    Line::CutAfter(most) => count.fetch_add(1, Ordering::SeqCst) >= most,
                    Line::ResetBeforeCommit(most) | Line::ResetAfterCommit(most) | Line::SilentAfterCommit(most) => {
                        let commits = text.windows(7).any(|word| word == b"COMMIT\0");
                        commits && count.fetch_add(1, Ordering::SeqCst) == most
                    }
                    _ => false,
                };
                if hit && matches!(now, Line::CutAfter(_) | Line::ResetBeforeCommit(_)) {
                    return End::Reset;
                }
                if server.write_all(text).await.is_err() {
                    return End::Closed;
                }
                if hit {
                    // It is done once the server answers.
                    let _ = server.read(&mut answered).await;
                    return if matches!(now, Line::SilentAfterCommit(_)) { End::Silent } else { End::Reset };
                }
            }
            read = server.read(&mut answered) => {
                let Ok(n @ 1..) = read else { return End::Closed };
                if client.write_all(&answered[..n]).await.is_err() {
                    return End::Closed;
                }
            }
        }
    }
}
