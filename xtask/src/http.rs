//! A small HTTP client for loopback addresses: one request, one connection, the answer read to its end. HTTP/1.0, so that no answer comes in chunks.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use anyhow::{Context, Result};

const TIMEOUT: Duration = Duration::from_secs(90);

/// Status and body.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: String,
}

/// Sends a request with a JSON body, if any.
pub(crate) fn request(address: SocketAddr, method: &str, path: &str, body: Option<&str>) -> Result<Answer> {
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(5))
        .with_context(|| format!("cannot connect to {address}"))?;
    stream.set_read_timeout(Some(TIMEOUT)).context("cannot set a timeout")?;
    stream.set_nodelay(true).context("cannot set an option")?;
    let body = body.unwrap_or_default();
    let head = format!(
        "{method} {path} HTTP/1.0\r\nHost: {address}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(head.as_bytes()).context("cannot send the request")?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).with_context(|| format!("{method} {path}: no complete answer"))?;
    parse(&String::from_utf8_lossy(&answer)).with_context(|| format!("{method} {path}: the answer is not HTTP"))
}

fn parse(text: &str) -> Option<Answer> {
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.split_whitespace().nth(1)?.parse().ok()?;
    Some(Answer { status, body: body.to_owned() })
}

#[cfg(test)]
mod tests {
    use std::{net::TcpListener, thread};

    use super::*;

    #[test]
    fn a_request_is_sent_and_its_answer_read() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut seen = [0_u8; 1024];
            let length = stream.read(&mut seen).unwrap();
            stream.write_all(b"HTTP/1.0 201 Created\r\nContent-Length: 2\r\n\r\n{}").unwrap();
            String::from_utf8_lossy(&seen[..length]).into_owned()
        });
        let answer = request(address, "POST", "/v1/x", Some("{\"a\":1}")).unwrap();
        assert_eq!(answer, Answer { status: 201, body: "{}".into() });
        let seen = server.join().unwrap();
        assert!(seen.starts_with("POST /v1/x HTTP/1.0\r\n") && seen.contains("Content-Length: 7\r\n"), "{seen}");
    }
}
