//! A hostile API server: what it answers does not lead anywhere else.
//!
//! Invariant: the server is real TLS on loopback; what it lures to is a socket that counts who comes.

use super::connect;
use crate::address::AddressPolicy;
use crate::kubeconfig::{Credential, Kubeconfig, Trust};
use crate::probe;
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use secrecy::SecretString;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;

/// Serves one raw answer to every request; returns its port and its certificate in PEM.
async fn server(answer: String) -> (u16, String) {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap().self_signed(&key).unwrap();
    let pem = certificate.pem();
    let private = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let config =
        ServerConfig::builder().with_no_client_auth().with_single_cert(vec![certificate.der().clone()], private);
    let acceptor = TlsAcceptor::from(Arc::new(config.unwrap()));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let (acceptor, answer) = (acceptor.clone(), answer.clone());
            tokio::spawn(async move {
                let Ok(mut tls) = acceptor.accept(socket).await else { return };
                let mut seen = vec![0; 4096];
                let _ = tls.read(&mut seen).await;
                let _ = tls.write_all(answer.as_bytes()).await;
                let _ = tls.shutdown().await;
            });
        }
    });
    (port, pem)
}

/// A socket that counts connections.
async fn lure() -> (u16, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let count = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&count);
    tokio::spawn(async move {
        while listener.accept().await.is_ok() {
            seen.fetch_add(1, Ordering::Relaxed);
        }
    });
    (port, count)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redirects_are_not_followed() {
    let (lure, count) = lure().await;
    for (status, location) in [
        ("301 Moved Permanently", format!("https://127.0.0.1:{lure}/version")),
        ("302 Found", format!("http://127.0.0.1:{lure}/version")),
        ("307 Temporary Redirect", format!("https://127.0.0.1:{lure}/version")),
        ("308 Permanent Redirect", format!("//127.0.0.1:{lure}/version")),
    ] {
        let answer =
            format!("HTTP/1.1 {status}\r\nLocation: {location}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        let (port, ca) = server(answer).await;
        let token = Credential::Token(SecretString::from("canary-token"));
        let kubeconfig = Kubeconfig::new(&format!("https://127.0.0.1:{port}"), None, Trust::Ca(ca), token).unwrap();
        let client = connect(&kubeconfig, &AddressPolicy::default()).unwrap();
        let error = probe::version(&client).await.unwrap_err();
        assert!(!error.chain().contains("canary-token"), "{}", error.chain());
        assert_eq!(count.load(Ordering::Relaxed), 0, "{status}");
    }
}
