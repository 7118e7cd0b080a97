//! A TCP proxy in front of an API server that can be cut, for outages that the API server itself does not notice.

use anyhow::{Context, Result};
use std::net::{Ipv4Addr, SocketAddr};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// What happens to connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Line {
    /// They reach the API server.
    Open,
    /// They are closed at once.
    Cut,
    /// They are accepted, and nothing is ever said.
    Silent,
}

/// A proxy; gone when dropped.
#[derive(Debug)]
pub struct Proxy {
    port: u16,
    line: watch::Sender<Line>,
    task: JoinHandle<()>,
}

impl Proxy {
    /// A proxy to a port of this machine.
    pub async fn start(target: u16) -> Result<Self> {
        Self::start_at(Ipv4Addr::LOCALHOST, target).await
    }

    /// The same, listening on another address of this machine.
    pub async fn start_at(address: Ipv4Addr, target: u16) -> Result<Self> {
        let listener = TcpListener::bind((address, 0)).await.context("cannot listen")?;
        let port = listener.local_addr().context("an address")?.port();
        let (line, state) = watch::channel(Line::Open);
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(carry(client, SocketAddr::from((Ipv4Addr::LOCALHOST, target)), state.clone()));
            }
        });
        Ok(Self { port, line, task })
    }

    /// Where it listens.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Closes what is open and whatever comes.
    pub fn cut(&self) {
        self.line.send_replace(Line::Cut);
    }

    /// Stops carrying; connections stay open and hear nothing.
    pub fn silence(&self) {
        self.line.send_replace(Line::Silent);
    }

    /// Carries again.
    pub fn mend(&self) {
        self.line.send_replace(Line::Open);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn carry(mut client: TcpStream, target: SocketAddr, mut state: watch::Receiver<Line>) {
    let now = *state.borrow_and_update();
    match now {
        Line::Cut => return,
        Line::Silent => {}
        Line::Open => {
            let Ok(mut server) = TcpStream::connect(target).await else { return };
            tokio::select! {
                _ = copy_bidirectional(&mut client, &mut server) => return,
                _ = state.changed() => {}
            }
        }
    }
    // Silent: hold the connection until the line changes once more; a mended line does not revive it.
    while *state.borrow_and_update() == Line::Silent {
        if state.changed().await.is_err() {
            return;
        }
    }
}
