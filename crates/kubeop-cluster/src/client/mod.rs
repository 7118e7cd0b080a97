//! A closed kubeconfig → a client: addresses checked when connecting, every wait bounded, answers bounded.
//!
//! Invariant: no client is built by kube's kubeconfig loader, and none follows a redirect, a proxy or an environment variable.

mod account;
mod bounds;
mod resolve;

use crate::address::AddressPolicy;
use crate::kubeconfig::{Credential, Kubeconfig, Trust, certificates};
use base64::Engine;
use bounds::Bounds;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use kube::Client;
use kube::client::{Body, ConfigExt, retry::RetryPolicy};
use kubeop_core::{Error, Result};
use resolve::Resolver;
use secrecy::{ExposeSecret, SecretString};
use std::time::Duration;
use tower::retry::RetryLayer;
use tower::{BoxError, ServiceBuilder};

pub use account::{ServiceAccountName, as_service_account};

/// How long connecting (name, TCP, TLS) may take.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const KEEPALIVE: Duration = Duration::from_secs(30);

/// A client with the kubeconfig's own credential. Serves registration, bootstrap and token requests only; all else runs `as_service_account`.
pub fn connect(kubeconfig: &Kubeconfig, policy: &AddressPolicy) -> Result<Client> {
    let mut config = base(kubeconfig, policy)?;
    match kubeconfig.credential() {
        Credential::Token(token) => config.auth_info.token = Some(token.clone()),
        Credential::ClientCertificate { certificate, key } => {
            let encode = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
            config.auth_info.client_certificate_data = Some(encode(certificate));
            config.auth_info.client_key_data = Some(SecretString::from(encode(key.expose_secret())));
        }
    }
    build(config, policy.clone(), None)
}

/// A client from a configuration that the executable trusts (a pod's own, `kube::Config::incluster`).
pub fn from_trusted(config: kube::Config) -> Result<Client> {
    build(config, AddressPolicy::default(), None)
}

/// Server and trust, without any credential.
fn base(kubeconfig: &Kubeconfig, policy: &AddressPolicy) -> Result<kube::Config> {
    kubeconfig.check_address(policy)?;
    let mut config = kube::Config::new(kubeconfig.server().clone());
    config.tls_server_name = kubeconfig.tls_server_name().map(ToOwned::to_owned);
    match kubeconfig.trust() {
        Trust::Ca(pem) => config.root_cert = Some(certificates(pem)?.iter().map(|der| der.to_vec()).collect()),
        Trust::System => {}
        Trust::Insecure => config.accept_invalid_certs = true,
    }
    Ok(config)
}

/// How often a request is repeated that was answered with 429, 503 or 504, waiting as long as the answer says. Few times: who asks has its
/// own way to wait, and holds a place while it does it here.
fn patience() -> Result<RetryPolicy> {
    RetryPolicy::new(Duration::from_millis(50), Duration::from_secs(1), 4, true).map_err(Error::internal)
}

fn build(config: kube::Config, policy: AddressPolicy, account: Option<&account::Tokens>) -> Result<Client> {
    // kube's own builder does the same; two providers cannot be meant, since the workspace has one.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let invalid = |error: kube::Error| Error::invalid(format!("kubeconfig: {}", unusable(&error))).caused_by(error);
    let mut connector = HttpConnector::new_with_resolver(Resolver::new(policy));
    connector.enforce_http(false);
    connector.set_nodelay(true);
    connector.set_keepalive(Some(KEEPALIVE));
    let connector = config.rustls_https_connector_with_connector(connector).map_err(invalid)?;
    let connector = ServiceBuilder::new().map_future(Box::pin).timeout(CONNECT_TIMEOUT).service(connector);
    let transport = hyper_util::client::legacy::Client::builder(TokioExecutor::new()).build::<_, Body>(connector);
    let service = ServiceBuilder::new()
        .layer_fn(|inner| account::Authorized::new(inner, account.cloned()))
        .layer_fn(Bounds::new)
        .layer(config.base_uri_layer())
        .layer(RetryLayer::new(patience()?))
        .option_layer(config.auth_layer().map_err(invalid)?)
        .map_err(BoxError::from)
        .service(transport);
    Ok(Client::new(service, config.default_namespace))
}

/// What is wrong with credentials that TLS cannot use; never their content.
fn unusable(error: &kube::Error) -> &'static str {
    match error {
        kube::Error::RustlsTls(kube::client::RustlsTlsError::AddRootCertificate(_)) => {
            "the CA certificate cannot be used"
        }
        kube::Error::RustlsTls(kube::client::RustlsTlsError::InvalidServerName(_)) => "tls-server-name cannot be used",
        kube::Error::RustlsTls(_) => "the client certificate and its key cannot be used together",
        kube::Error::Auth(_) => "the token cannot be used",
        _ => "the connection cannot be set up with it",
    }
}

#[cfg(test)]
mod tests;
