//! The serving certificate, from a Secret that the operator makes and renews.
//!
//! Invariant: a certificate is served from the first good one on; a broken or deleted Secret never takes the last good one away.

use crate::metrics::Metrics;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kubeop_core::clock::Clock;
use kubeop_core::{Error, Result};
use kubeop_plan::install::names::TLS_SECRET;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::fmt;
use std::sync::Arc;
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

/// A certificate with its key, and the days it is valid.
#[derive(Clone, Debug)]
struct Loaded {
    key: Arc<CertifiedKey>,
    not_before: Timestamp,
    not_after: Timestamp,
}

/// Holds the certificate in force and swaps it without touching open connections.
pub(crate) struct Certificates {
    current: watch::Sender<Option<Loaded>>,
    clock: Arc<dyn Clock>,
    metrics: Metrics,
}

impl Certificates {
    pub(crate) fn new(clock: Arc<dyn Clock>, metrics: Metrics) -> Self {
        Self { current: watch::Sender::new(None), clock, metrics }
    }

    /// Takes over what the cluster holds now.
    pub(crate) fn update(&self, secret: Option<Secret>) {
        let Some(secret) = secret else {
            tracing::warn!(
                secret = TLS_SECRET,
                "the serving certificate is missing; the last good one, if any, stays in use"
            );
            return;
        };
        match load(&secret) {
            Ok(loaded) => {
                tracing::info!(not_after = %loaded.not_after, "serving certificate loaded");
                self.metrics.certificate_expires(loaded.not_after.as_second());
                self.current.send_replace(Some(loaded));
            }
            Err(error) => {
                tracing::error!(
                    error = error.chain(),
                    "the serving certificate is unusable; the last good one, if any, stays in use"
                );
            }
        }
    }

    /// Returns once there is a certificate.
    pub(crate) async fn loaded(&self) {
        // The sender lives in `self`, so waiting cannot fail.
        let _ = self.current.subscribe().wait_for(Option::is_some).await;
    }

    /// Why the API server would not accept the certificate now, if so.
    pub(crate) fn problem(&self) -> Option<String> {
        let now = self.clock.now();
        match &*self.current.borrow() {
            None => Some(format!("no serving certificate: Secret {TLS_SECRET} is missing or unusable")),
            Some(loaded) if now < loaded.not_before => {
                Some(format!("the serving certificate is valid from {}", loaded.not_before))
            }
            Some(loaded) if now > loaded.not_after => {
                Some(format!("the serving certificate expired at {}", loaded.not_after))
            }
            Some(_) => None,
        }
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.current.borrow().as_ref().map(|loaded| loaded.key.clone())
    }
}

impl fmt::Debug for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Certificates")
    }
}

/// Accepts TLS 1.2 and 1.3, HTTP/2 and HTTP/1.1, with whatever certificate is in force at the handshake.
pub(crate) fn acceptor(certificates: Arc<Certificates>) -> Result<TlsAcceptor> {
    let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(Error::internal)?
        .with_no_client_auth()
        .with_cert_resolver(certificates);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// Reads `tls.crt` and `tls.key`; they must belong together.
fn load(secret: &Secret) -> Result<Loaded> {
    let field = |name: &str| {
        let data = secret.data.as_ref().and_then(|data| data.get(name));
        data.map(|bytes| bytes.0.as_slice()).ok_or_else(|| Error::invalid(format!("Secret {TLS_SECRET} has no {name}")))
    };
    let unusable = |name: &str, why: &str| Error::invalid(format!("{name} of Secret {TLS_SECRET} is unusable: {why}"));
    let chain = CertificateDer::pem_slice_iter(field("tls.crt")?)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| unusable("tls.crt", "it is no PEM").caused_by(error))?;
    let leaf = chain.first().ok_or_else(|| unusable("tls.crt", "it holds no certificate"))?;
    let (_, parsed) = x509_parser::parse_x509_certificate(leaf)
        .map_err(|error| unusable("tls.crt", "it is no X.509").caused_by(error))?;
    let time = |seconds: i64| {
        Timestamp::from_second(seconds).map_err(|error| unusable("tls.crt", "its dates").caused_by(error))
    };
    let not_before = time(parsed.validity().not_before.timestamp())?;
    let not_after = time(parsed.validity().not_after.timestamp())?;
    // The cause is left out: it could quote the key.
    let key = PrivateKeyDer::from_pem_slice(field("tls.key")?)
        .map_err(|_| unusable("tls.key", "it holds no private key in PEM"))?;
    let key = CertifiedKey::from_der(chain, key, &aws_lc_rs::default_provider())
        .map_err(|error| unusable("tls.key", "it does not belong to the certificate").caused_by(error))?;
    Ok(Loaded { key: Arc::new(key), not_before, not_after })
}

#[cfg(test)]
pub(crate) mod tests;
