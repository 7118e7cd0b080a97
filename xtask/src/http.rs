//! A small HTTP client for loopback addresses: one request, one connection, the answer read to its end. HTTP/1.0, so that no answer comes in chunks.

use std::{
    io::{self, Read, Write as _},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use anyhow::{Context, Result};

const TIMEOUT: Duration = Duration::from_secs(90);

/// Status and body, where the body is text.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: String,
}

/// What is sent with a request.
pub(crate) struct Body<'a> {
    pub(crate) media_type: &'a str,
    /// Bytes that `content` will give.
    pub(crate) length: u64,
    pub(crate) content: &'a mut dyn Read,
}

/// Status, header lines and the bytes of the body.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    /// The value of a header; `name` in lower case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// Sends a request with a JSON body, if any.
pub(crate) fn request(address: SocketAddr, method: &str, path: &str, body: Option<&str>) -> Result<Answer> {
    let text = body.unwrap_or_default();
    let mut body = Body { media_type: "application/json", length: text.len() as u64, content: &mut text.as_bytes() };
    let reply = send(address, method, path, &mut body)?;
    Ok(Answer { status: reply.status, body: String::from_utf8_lossy(&reply.body).into_owned() })
}

/// Sends a request with any body.
pub(crate) fn send(address: SocketAddr, method: &str, path: &str, body: &mut Body<'_>) -> Result<Reply> {
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(5))
        .with_context(|| format!("cannot connect to {address}"))?;
    stream.set_read_timeout(Some(TIMEOUT)).context("cannot set a timeout")?;
    stream.set_write_timeout(Some(TIMEOUT)).context("cannot set a timeout")?;
    stream.set_nodelay(true).context("cannot set an option")?;
    let head = format!(
        "{method} {path} HTTP/1.0\r\nHost: {address}\r\nContent-Type: {}\r\nContent-Length: {}\r\n\r\n",
        body.media_type, body.length
    );
    let mut message = Vec::from(head);
    if body.length < 1 << 16 {
        body.content.read_to_end(&mut message).context("cannot read what is to be sent")?;
        stream.write_all(&message).context("cannot send the request")?;
    } else {
        stream.write_all(&message).context("cannot send the request")?;
        io::copy(body.content, &mut stream).context("cannot send the request")?;
    }
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).with_context(|| format!("{method} {path}: no complete answer"))?;
    parse(&answer).with_context(|| format!("{method} {path}: the answer is not HTTP"))
}

fn parse(answer: &[u8]) -> Option<Reply> {
    let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n")?;
    let head = std::str::from_utf8(answer.get(..end)?).ok()?;
    let mut lines = head.split("\r\n");
    let status = lines.next()?.split_whitespace().nth(1)?.parse().ok()?;
    let headers = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.trim().to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    Some(Reply { status, headers, body: answer.get(end + 4..)?.to_vec() })
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
