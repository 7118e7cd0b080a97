//! A receiver of events: a small HTTP/1.1 server that keeps what arrives.

use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// A request that arrived.
#[derive(Clone, Debug)]
pub struct Arrival {
    /// Its headers, names in lower case.
    pub headers: HashMap<String, String>,
    /// Its body.
    pub body: Vec<u8>,
    /// The body as JSON.
    pub event: Value,
}

/// A receiver that takes whatever arrives; gone when dropped.
#[derive(Debug)]
pub struct Receiver {
    port: u16,
    arrived: Arc<Mutex<Vec<Arrival>>>,
    task: JoinHandle<()>,
}

impl Receiver {
    /// Starts one.
    pub async fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.context("cannot listen")?;
        let port = listener.local_addr().context("an address")?.port();
        let arrived = Arc::<Mutex<Vec<Arrival>>>::default();
        let kept = Arc::clone(&arrived);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                // A sender that is killed leaves half a request: nothing is kept of it.
                tokio::spawn(serve(stream, Arc::clone(&kept)));
            }
        });
        Ok(Self { port, arrived, task })
    }

    /// Where it is.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/hook", self.port)
    }

    /// What arrived so far.
    pub fn arrived(&self) -> Vec<Arrival> {
        self.arrived.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(stream: TcpStream, kept: Arc<Mutex<Vec<Arrival>>>) -> Result<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await? == 0 {
            return Ok(());
        }
        let mut headers = HashMap::new();
        loop {
            let mut line = String::new();
            if stream.read_line(&mut line).await? == 0 {
                bail!("the request ended in its headers");
            }
            let Some((name, value)) = line.trim_end().split_once(": ") else { break };
            headers.insert(name.to_ascii_lowercase(), value.to_owned());
        }
        let length = headers.get("content-length").context("no length")?.parse()?;
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await?;
        let event = serde_json::from_slice(&body).unwrap_or_default();
        kept.lock().unwrap_or_else(PoisonError::into_inner).push(Arrival { headers, body, event });
        stream.get_mut().write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await?;
    }
}
