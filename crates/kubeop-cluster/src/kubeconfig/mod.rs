//! The closed form of a registered kubeconfig: an https server, what proves it, and one credential.
//!
//! Invariant: nothing here runs a program, reads a file or follows a proxy; what a kubeconfig could ask for beyond these fields was refused when
//! it was parsed (`exec`, `auth-provider`, `tokenFile` and paths would act in the manager's name).

mod file;
mod parse;

use crate::address::{AddressPolicy, check_server_address};
use http::Uri;
use kubeop_core::{Error, Result};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use zeroize::Zeroizing;

pub use parse::Intake;

/// What proves that the server is who it claims to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trust {
    /// Only certificates issued by these (PEM).
    Ca(String),
    /// What the machine trusts.
    System,
    /// Nothing is checked; only in dev mode.
    Insecure,
}

/// What proves to the server who we are.
#[derive(Clone)]
pub enum Credential {
    /// A bearer token.
    Token(SecretString),
    /// A client certificate (PEM chain) and its key (PEM).
    ClientCertificate {
        /// The chain, leaf first.
        certificate: String,
        /// The private key.
        key: SecretString,
    },
}

/// A kubeconfig reduced to what kubeOP uses of it.
#[derive(Clone)]
pub struct Kubeconfig {
    server: Uri,
    tls_server_name: Option<String>,
    trust: Trust,
    credential: Credential,
}

/// The stored form: stable names, one version.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    v: u8,
    server: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tls_server_name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ca: Option<String>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    insecure: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    token: Option<Zeroizing<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    certificate: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key: Option<Zeroizing<String>>,
}

impl Kubeconfig {
    /// Builds the closed form, checking every part; `parse` and `from_bytes` end here.
    pub fn new(server: &str, tls_server_name: Option<String>, trust: Trust, credential: Credential) -> Result<Self> {
        if let Trust::Ca(pem) = &trust {
            certificates(pem).map_err(|e| e.at("certificate-authority-data"))?;
        }
        match &credential {
            Credential::Token(token) => check_token(token.expose_secret())?,
            Credential::ClientCertificate { certificate, key } => {
                certificates(certificate).map_err(|e| e.at("client-certificate-data"))?;
                PrivateKeyDer::from_pem_slice(key.expose_secret().as_bytes())
                    .map_err(|_| Error::invalid("client-key-data: base64 of a PEM private key is needed"))?;
            }
        }
        if let Some(name) = &tls_server_name
            && rustls_pki_types::ServerName::try_from(name.as_str()).is_err()
        {
            return Err(Error::invalid("tls-server-name: a host name or an address is needed"));
        }
        Ok(Self { server: parse_server(server)?, tls_server_name, trust, credential })
    }

    /// The API server's URL.
    pub fn server(&self) -> &Uri {
        &self.server
    }

    /// The server's host as written: a name or an address (IPv6 without brackets).
    pub fn host(&self) -> &str {
        host(&self.server)
    }

    /// The name the server's certificate is checked against, where it is not the URL's host.
    pub fn tls_server_name(&self) -> Option<&str> {
        self.tls_server_name.as_deref()
    }

    /// What proves the server.
    pub fn trust(&self) -> &Trust {
        &self.trust
    }

    /// The CA certificates in PEM, as issued kubeconfigs carry them; none if the machine's own trust is used or nothing is checked.
    pub fn ca_pem(&self) -> Option<&str> {
        match &self.trust {
            Trust::Ca(pem) => Some(pem),
            Trust::System | Trust::Insecure => None,
        }
    }

    /// What proves us.
    pub fn credential(&self) -> &Credential {
        &self.credential
    }

    /// The server's address, where the URL tells it without name resolution.
    fn literal_address(&self) -> Option<IpAddr> {
        literal_address(&self.server)
    }

    /// Whether the server is this machine's own loopback.
    pub fn is_loopback(&self) -> bool {
        let named = || self.host().eq_ignore_ascii_case("localhost");
        self.literal_address().map_or_else(named, |address| address.to_canonical().is_loopback())
    }

    /// The server's address, where it is no machine's (`0.0.0.0`, `::`).
    pub(crate) fn unspecified(&self) -> Option<IpAddr> {
        self.literal_address().filter(IpAddr::is_unspecified)
    }

    /// Judges the server's address where the URL tells it: such a one never passes the resolver, which judges all others when they are connected to.
    pub fn check_address(&self, policy: &AddressPolicy) -> Result<()> {
        self.literal_address().map_or(Ok(()), |address| check_server_address(address, policy))
    }

    /// The same cluster reached through another host (a container's gateway to its machine), with the name in TLS kept.
    pub fn rerouted(&self, host: &str) -> Result<Self> {
        let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
        let port = self.server.port().map_or_else(String::new, |port| format!(":{port}"));
        let server = format!("https://{host}{port}{}", self.server.path().trim_end_matches('/'));
        let name = self.tls_server_name.clone().unwrap_or_else(|| self.host().to_owned());
        Ok(Self { server: parse_server(&server)?, tls_server_name: Some(name), ..self.clone() })
    }

    /// The stable form to encrypt and store.
    pub fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        let (token, certificate, key) = match &self.credential {
            Credential::Token(token) => (Some(Zeroizing::new(token.expose_secret().to_owned())), None, None),
            Credential::ClientCertificate { certificate, key } => {
                (None, Some(certificate.clone()), Some(Zeroizing::new(key.expose_secret().to_owned())))
            }
        };
        let stored = Stored {
            v: 1,
            server: self.server.to_string(),
            tls_server_name: self.tls_server_name.clone(),
            ca: self.ca_pem().map(ToOwned::to_owned),
            insecure: self.trust == Trust::Insecure,
            token,
            certificate,
            key,
        };
        // Strings, booleans and a number: serializing them cannot fail.
        Zeroizing::new(serde_json::to_vec(&stored).unwrap_or_default())
    }

    /// Reads what `to_bytes` wrote.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        // The parser's message could quote a secret: only its place is kept.
        let stored: Stored = serde_json::from_slice(bytes)
            .map_err(|e| Error::internal(format!("stored kubeconfig is malformed at column {}", e.column())))?;
        if stored.v != 1 {
            return Err(Error::internal(format!("stored kubeconfig has version {}: this build reads 1", stored.v)));
        }
        let trust = match (stored.ca, stored.insecure) {
            (Some(pem), false) => Trust::Ca(pem),
            (None, false) => Trust::System,
            (None, true) => Trust::Insecure,
            (Some(_), true) => return Err(Error::internal("stored kubeconfig has both a CA and insecure")),
        };
        let credential = match (stored.token, stored.certificate, stored.key) {
            (Some(token), None, None) => Credential::Token(SecretString::from(token.as_str())),
            (None, Some(certificate), Some(key)) => {
                Credential::ClientCertificate { certificate, key: SecretString::from(key.as_str()) }
            }
            _ => return Err(Error::internal("stored kubeconfig has no single credential")),
        };
        Self::new(&stored.server, stored.tls_server_name, trust, credential)
    }
}

impl fmt::Debug for Kubeconfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kubeconfig")
            .field("server", &self.server)
            .field("credential", &self.credential)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Token(_) => "Token(redacted)",
            Self::ClientCertificate { .. } => "ClientCertificate(redacted)",
        })
    }
}

/// The certificates of a PEM text: at least one.
pub(crate) fn certificates(pem: &str) -> Result<Vec<CertificateDer<'static>>> {
    let found: Vec<_> = CertificateDer::pem_slice_iter(pem.as_bytes())
        .collect::<std::result::Result<_, _>>()
        .map_err(|_| Error::invalid("base64 of PEM certificates is needed"))?;
    if found.is_empty() {
        return Err(Error::invalid("base64 of at least one PEM certificate is needed"));
    }
    Ok(found)
}

fn check_token(token: &str) -> Result<()> {
    // RFC 6750 §2.1 (b64token) and what an HTTP header can carry.
    let ok = !token.is_empty() && token.len() <= 65_536 && token.bytes().all(|b| b.is_ascii_graphic());
    if ok { Ok(()) } else { Err(Error::invalid("token: printable ASCII characters without spaces are needed")) }
}

/// Checks a server URL (also the `publicServer` of a cluster): https, a host, nothing hidden in it.
pub fn parse_server(text: &str) -> Result<Uri> {
    // Never quoted with an '@': the part before it may be a password.
    let shown =
        if text.contains('@') { "server".to_owned() } else { format!("server {:?}", kubeop_core::id::shorten(text)) };
    let refuse = |why: &str| Error::invalid(format!("{shown}: {why}"));
    let authority = text.split_once("://").map_or(text, |(_, rest)| rest).split('/').next().unwrap_or_default();
    if authority.contains('@') {
        return Err(Error::invalid("server: user information in the URL is not allowed"));
    }
    if text.contains(['#', '?']) {
        return Err(refuse("a URL without query and fragment is needed"));
    }
    if text.len() > 2048 {
        return Err(refuse("at most 2048 characters are allowed"));
    }
    let uri: Uri = text.parse().map_err(|_| refuse("an https:// URL is needed"))?;
    match uri.scheme_str() {
        Some("https") => {}
        Some("http") => return Err(refuse("http is refused: credentials need https")),
        _ => return Err(refuse("an https:// URL is needed")),
    }
    if uri.host().is_none_or(str::is_empty) {
        return Err(refuse("a host is needed"));
    }
    // What is no port would be taken for none, and so for 443.
    let after_host = authority.rsplit(']').next().unwrap_or_default();
    if let Some((_, port)) = after_host.split_once(':')
        && !(port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|port| port > 0))
    {
        return Err(refuse("a port from 1 to 65535 is needed after the colon"));
    }
    let literal = host(&uri).parse::<IpAddr>();
    if uri.host().is_some_and(|host| host.starts_with('[')) && !literal.as_ref().is_ok_and(IpAddr::is_ipv6) {
        return Err(refuse("an IPv6 address without a zone is needed between brackets"));
    }
    if literal.is_err() && is_number(host(&uri)) {
        return Err(refuse("an IPv4 address is written as four decimal numbers without leading zeros"));
    }
    Ok(uri)
}

/// Whether resolvers may take a host for an IPv4 address (`0x7f000001`, `127.1`, `0177.0.0.1`): its last part is a number
/// (<https://url.spec.whatwg.org/#ends-in-a-number-checker>).
fn is_number(host: &str) -> bool {
    let last = host.trim_end_matches('.').rsplit('.').next().unwrap_or_default();
    let digits = !last.is_empty() && last.bytes().all(|byte| byte.is_ascii_digit());
    digits || last.to_ascii_lowercase().starts_with("0x")
}

fn host(uri: &Uri) -> &str {
    let host = uri.host().unwrap_or_default();
    host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host)
}

/// The address of a server URL that needs no name resolution.
pub fn literal_address(uri: &Uri) -> Option<IpAddr> {
    let host = host(uri);
    if host.trim_end_matches('.').eq_ignore_ascii_case("localhost") {
        return Some(IpAddr::V4(Ipv4Addr::LOCALHOST));
    }
    host.parse().ok()
}

#[cfg(test)]
mod tests;
