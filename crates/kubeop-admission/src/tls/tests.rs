//! Certificates made here and now, over real connections on loopback.

use super::*;
use crate::listener;
use crate::policy_cache::PolicyCache;
use crate::server::{Reviewer, router};
use k8s_openapi::ByteString;
use kubeop_core::clock::SystemClock;
use prometheus_client::registry::Registry;
use rcgen::{CertificateParams, KeyPair, date_time_ymd};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::ServerName;
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::sync::CancellationToken;

fn secret_of(certificate: &str, key: &str) -> Secret {
    let field = |name: &str, text: &str| (name.to_owned(), ByteString(text.as_bytes().to_vec()));
    Secret { data: Some([field("tls.crt", certificate), field("tls.key", key)].into()), ..Secret::default() }
}

/// A self-signed certificate for `localhost`, from 2025 to the first day of `year`.
pub(crate) fn secret_valid_until(year: i32) -> Secret {
    let (key, certificate) = issue(year);
    secret_of(&certificate.pem(), &key.serialize_pem())
}

fn issue(year: i32) -> (KeyPair, rcgen::Certificate) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    (params.not_before, params.not_after) = (date_time_ymd(2025, 1, 1), date_time_ymd(year, 1, 1));
    let certificate = params.self_signed(&key).unwrap();
    (key, certificate)
}

fn certificates() -> Arc<Certificates> {
    Arc::new(Certificates::new(Arc::new(SystemClock), Metrics::register(&mut Registry::default())))
}

async fn connect(address: SocketAddr, roots: &[&rcgen::Certificate]) -> std::io::Result<TlsStream<TcpStream>> {
    let mut store = RootCertStore::empty();
    for root in roots {
        store.add(root.der().clone()).unwrap();
    }
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(store)
        .with_no_client_auth();
    let name = ServerName::try_from("localhost").unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, TcpStream::connect(address).await?).await
}

/// Asks over the connection; that a review must be posted is the answer.
async fn ask(stream: &mut TlsStream<TcpStream>) -> String {
    stream.write_all(b"GET /admit HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    let mut buffer = [0; 1024];
    let length = stream.read(&mut buffer).await.unwrap();
    String::from_utf8_lossy(&buffer[..length]).into_owned()
}

#[tokio::test]
async fn a_new_certificate_is_served_at_once_and_open_connections_live_on() {
    let (certificates, shutdown) = (certificates(), CancellationToken::new());
    let metrics = Metrics::register(&mut Registry::default());
    let reviewer = Arc::new(Reviewer::new(Arc::new(PolicyCache::new(metrics.clone())), certificates.clone(), metrics));
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    let serving = tokio::spawn(listener::serve(
        socket,
        acceptor(certificates.clone()).unwrap(),
        router(reviewer, CancellationToken::new()),
        shutdown.clone(),
    ));

    let (old_key, old) = issue(2090);
    let (new_key, new) = issue(2091);
    certificates.update(Some(secret_of(&old.pem(), &old_key.serialize_pem())));
    let mut first = connect(address, &[&old]).await.unwrap();
    assert!(ask(&mut first).await.starts_with("HTTP/1.1 405"));
    assert!(connect(address, &[&new]).await.is_err());

    certificates.update(Some(secret_of(&new.pem(), &new_key.serialize_pem())));
    let mut second = connect(address, &[&new]).await.unwrap();
    assert_eq!(second.get_ref().1.peer_certificates().unwrap()[0], *new.der());
    assert!(ask(&mut second).await.starts_with("HTTP/1.1 405"));
    assert!(ask(&mut first).await.starts_with("HTTP/1.1 405"));
    assert!(connect(address, &[&old]).await.is_err());

    // What is broken takes nothing away.
    for broken in [
        None,
        Some(Secret::default()),
        Some(secret_of("", "")),
        Some(secret_of(&old.pem(), &new_key.serialize_pem())),
        Some(secret_of(&old.pem(), "")),
        Some(secret_of("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", &old_key.serialize_pem())),
    ] {
        certificates.update(broken);
        assert!(connect(address, &[&new]).await.is_ok());
        assert_eq!(certificates.problem(), None);
    }

    // Idle connections do not keep the role from stopping.
    shutdown.cancel();
    tokio::time::timeout(std::time::Duration::from_secs(4), serving).await.unwrap().unwrap();
    assert!(connect(address, &[&new]).await.is_err());
}

#[tokio::test]
async fn nothing_is_loaded_before_the_first_good_secret() {
    let certificates = certificates();
    let waiting = tokio::spawn({
        let certificates = certificates.clone();
        async move { certificates.loaded().await }
    });
    certificates.update(Some(secret_of("x", "y")));
    tokio::task::yield_now().await;
    assert!(!waiting.is_finished() && certificates.problem().is_some());
    certificates.update(Some(secret_valid_until(2090)));
    waiting.await.unwrap();
    assert_eq!(certificates.problem(), None);
}
