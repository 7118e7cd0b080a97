//! What hostile and slow clients send over the wire, and how the listener ends.

use crate::fixture::Fixture;
use axum::http::StatusCode;
use kubeop_core::authz::Role;
use kubeop_manager::http::server::{Patience, serve};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

const LONG: Duration = Duration::from_secs(20);

fn impatient() -> Patience {
    Patience { headers: Duration::from_millis(300), answer: Duration::from_millis(400), ..Patience::default() }
}

struct Served {
    fixture: Fixture,
    address: SocketAddr,
    task: JoinHandle<kubeop_core::Result<()>>,
}

async fn served(patience: Patience) -> Served {
    let fixture = Fixture::new().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let task = tokio::spawn(serve(listener, fixture.router(), fixture.manager.shutdown.clone(), patience));
    Served { fixture, address, task }
}

impl Served {
    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Sends bytes; everything that comes back until the connection ends.
    async fn exchange(&self, bytes: &[u8]) -> String {
        let mut stream = self.connect().await;
        stream.write_all(bytes).await.unwrap();
        rest(&mut stream).await
    }

    async fn policy_version(&self) -> i64 {
        let token = self.fixture.token(Role::Admin);
        self.fixture.call("GET", "/v1/platform/policy", Some(&token), None).await.body["version"].as_i64().unwrap()
    }
}

/// What comes until the end, which must come.
async fn rest(stream: &mut TcpStream) -> String {
    let mut got = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        match timeout(LONG, stream.read(&mut buffer)).await.unwrap_or_else(|_| panic!("the connection stays")) {
            Ok(0) | Err(_) => return String::from_utf8_lossy(&got).into_owned(),
            Ok(n) => got.extend_from_slice(&buffer[..n]),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_is_slow_or_silent_before_a_request_is_cut_off() {
    let served = served(impatient()).await;
    // Nothing at all; a beginning; a header a while; an idle connection after an answer.
    assert_eq!(served.exchange(b"").await, "");
    assert_eq!(served.exchange(b"GET /healthz HTTP/1.1\r\nHost: x\r\n").await, "");
    let mut slow = served.connect().await;
    let begun = Instant::now();
    while slow.write_all(b"GET /healthz HTTP/1.1\r\nX-Slow: 1").await.is_ok() && begun.elapsed() < LONG {
        sleep(Duration::from_millis(50)).await;
    }
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    let answered = served.exchange(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert!(answered.starts_with("HTTP/1.1 200"), "{answered}");
    assert_eq!(answered.matches("HTTP/1.1").count(), 1);
}

/// Answers that nobody takes are given up, so that they do not fill the memory.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_does_not_take_the_answers_is_cut_off() {
    let served = served(impatient()).await;
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(8 << 10).unwrap();
    let mut stream = socket.connect(served.address).await.unwrap();
    let asked = 200;
    let requests = b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n".repeat(asked);
    stream.write_all(&requests).await.unwrap();
    let begun = Instant::now();
    // The server hangs up; until then one byte a while is taken, which must not keep it.
    let mut byte = [0; 1];
    while stream.read_exact(&mut byte).await.is_ok() && stream.write_all(b"GET").await.is_ok() {
        assert!(begun.elapsed() < LONG, "it is still there");
        sleep(Duration::from_millis(20)).await;
    }
    let whole = served.exchange(b"GET /openapi.json HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
    assert!(whole.len() > 100_000, "who takes it gets it");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_connection_gives_its_place_to_a_newcomer() {
    // None of them goes because of its time.
    let served = served(Patience { connections: 3, headers: Duration::from_mins(2), ..Patience::default() }).await;
    let mut idle = Vec::new();
    for _ in 0..3 {
        idle.push(served.connect().await);
        // Long enough for the server to have seen it before the next.
        sleep(Duration::from_millis(200)).await;
    }
    let newcomer = async |n: usize| {
        let answer = served.exchange(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{n}: {answer:?}");
    };
    newcomer(0).await;
    // The first to be idle was the first to go.
    assert_eq!(rest(&mut idle[0]).await, "");
    assert!(timeout(Duration::from_millis(50), idle[2].read_u8()).await.is_err(), "the last is still there");
    for n in 1..6 {
        newcomer(n).await;
    }
}

/// One request in another's body must stay there: a proxy in front of us may see the border elsewhere.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_shape_of_a_request_smuggles_another() {
    let served = served(impatient()).await;
    let token = served.fixture.token(Role::Admin);
    let policy = r#"{"imageAllowlist":["smuggled.example.com"]}"#;
    let inner = format!(
        "PUT /v1/platform/policy HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{policy}",
        policy.len()
    );
    let n = inner.len();
    let chunked = "Transfer-Encoding: chunked\r\n";
    let before = served.policy_version().await;
    for (what, headers, body) in [
        ("length and chunked", format!("Content-Length: {}\r\n{chunked}", n + 5), format!("0\r\n\r\n{inner}")),
        ("chunked and length", format!("{chunked}Content-Length: 5\r\n"), format!("0\r\n\r\n{inner}")),
        ("two lengths", format!("Content-Length: 0\r\nContent-Length: {n}\r\n"), inner.clone()),
        ("a list of lengths", format!("Content-Length: 0, {n}\r\n"), inner.clone()),
        ("a signed length", "Content-Length: +0\r\n".to_owned(), inner.clone()),
        ("a length in hexadecimal", "Content-Length: 0x0\r\n".to_owned(), inner.clone()),
        ("not chunked last", "Transfer-Encoding: chunked, identity\r\n".to_owned(), format!("0\r\n\r\n{inner}")),
        ("another coding", "Transfer-Encoding: xchunked\r\n".to_owned(), format!("0\r\n\r\n{inner}")),
        ("a space before the colon", "Transfer-Encoding : chunked\r\n".to_owned(), format!("0\r\n\r\n{inner}")),
        ("a folded line", "X: y\r\n Transfer-Encoding: chunked\r\nContent-Length: 0 0\r\n".to_owned(), inner.clone()),
        ("a chunk's size too large", chunked.to_owned(), format!("fffffffffffffffff\r\n{inner}")),
        ("a chunk's size that is none", chunked.to_owned(), format!("-1\r\n{inner}")),
        ("two hosts", "Host: y\r\nConnection: close\r\n".to_owned(), String::new()),
    ] {
        let outer = format!(
            "POST /v1/tenants HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\n"
        );
        let answer = served.exchange(format!("{outer}{headers}\r\n{body}").as_bytes()).await;
        let statuses: Vec<&str> = answer.split("HTTP/1.1 ").skip(1).map(|part| &part[..3]).collect();
        assert_eq!(statuses, ["400"], "{what}: {answer}");
        assert_eq!(served.policy_version().await, before, "{what}: the inner request was carried out");
    }
    // In HTTP/1.0 there is no chunking.
    let old = format!("POST /v1/tenants HTTP/1.0\r\n{chunked}\r\n0\r\n\r\n{inner}");
    let answer = served.exchange(old.as_bytes()).await;
    assert!(answer.contains(" 400 ") && answer.matches("HTTP/1.").count() == 1, "{answer}");
    assert_eq!(served.policy_version().await, before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn headers_and_bodies_beyond_the_limits_are_refused() {
    let served = served(impatient()).await;
    let token = served.fixture.token(Role::Admin);
    let long = format!("GET /healthz HTTP/1.1\r\nHost: x\r\nX: {}\r\n\r\n", "y".repeat(300 << 10));
    let many = format!("GET /healthz HTTP/1.1\r\nHost: x\r\n{}\r\n", "X: y\r\n".repeat(101));
    for request in [long, many] {
        let answer = served.exchange(request.as_bytes()).await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431"), "{}", &answer[..answer.len().min(100)]);
    }
    let announced = format!(
        "POST /v1/tenants HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\nExpect: 100-continue\r\nContent-Length: 99999999999\r\n\r\n"
    );
    let answer = served.exchange(announced.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 413") && answer.contains("larger than"), "{answer}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_end_is_told_lingered_for_and_answers_what_was_begun() {
    let served = served(Patience { linger: Duration::from_millis(800), ..impatient() }).await;
    let token = served.fixture.token(Role::Admin);
    let body = r#"{"imageAllowlist":["docker.io"]}"#;
    let (half, other) = body.split_at(10);
    let mut begun = served.connect().await;
    let head = format!(
        "PUT /v1/platform/policy HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{half}",
        body.len()
    );
    begun.write_all(head.as_bytes()).await.unwrap();
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n");
    assert!(served.exchange(get("/readyz").as_bytes()).await.starts_with("HTTP/1.1 200"));
    served.fixture.manager.shutdown.cancel();
    let told = served.exchange(get("/readyz").as_bytes()).await;
    assert!(told.starts_with("HTTP/1.1 503") && told.contains("shutting down"), "{told}");
    let working = served.exchange(get("/healthz").as_bytes()).await;
    assert!(working.starts_with("HTTP/1.1 200") && working.to_lowercase().contains("connection: close"), "{working}");
    // Those who are connected when it closes, as far as they know, are answered.
    let mut late = Vec::new();
    let mut refused = false;
    let since = Instant::now();
    while since.elapsed() < LONG {
        let Ok(mut stream) = TcpStream::connect(served.address).await else {
            refused = true;
            break;
        };
        stream.write_all(get("/version").as_bytes()).await.unwrap();
        late.push(stream);
        sleep(Duration::from_millis(5)).await;
    }
    assert!(refused, "it takes connections still");
    begun.write_all(other.as_bytes()).await.unwrap();
    assert!(rest(&mut begun).await.starts_with("HTTP/1.1 200"), "the request that was begun");
    // One may have come between the last look at who waits and the close.
    late.pop();
    for (n, stream) in late.iter_mut().enumerate() {
        let answer = rest(stream).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{n}: {answer:?}");
    }
    timeout(LONG, served.task).await.unwrap().unwrap().unwrap();
    assert_eq!(served.fixture.call("GET", "/healthz", None, None).await.status, StatusCode::OK);
}
