//! CAs of our own (admission's, the self-signed issuer's) and their leaf certificates.
//!
//! Invariant: an issued leaf is judged by what stands in it (its end, its names), never by when we think it was made; keys leave only as PEM for
//! the Secret they belong in.

use jiff::{SignedDuration, Timestamp};
use kubeop_core::{Error, Result};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PublicKeyData, SanType,
};
use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use secrecy::{ExposeSecret, SecretString};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// How long a leaf holds.
pub const LEAF_LIFE: SignedDuration = SignedDuration::from_hours(90 * 24);
/// How long a CA holds.
pub const CA_LIFE: SignedDuration = SignedDuration::from_hours(5 * 365 * 24);
/// How far back a certificate begins, for clocks that are behind.
const SKEW: SignedDuration = SignedDuration::from_hours(1);

/// A certificate and its key, in PEM.
#[derive(Clone, Debug)]
pub struct Pair {
    /// The certificate.
    pub certificate: String,
    /// The private key (PKCS #8).
    pub key: SecretString,
}

/// Makes a CA called `name`.
pub fn make_ca(name: &str, now: Timestamp) -> Result<Pair> {
    let key = KeyPair::generate().map_err(Error::internal)?;
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.distinguished_name.push(DnType::OrganizationName, "kubeOP");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    (params.not_before, params.not_after) = span(now, CA_LIFE)?;
    let certificate = params.self_signed(&key).map_err(Error::internal)?;
    Ok(Pair { certificate: certificate.pem(), key: SecretString::from(key.serialize_pem()) })
}

/// Makes a server certificate for these names and addresses, issued by `ca`. `name` is its common name, for people: clients go by `names`.
pub fn make_leaf(ca: &Pair, name: &str, names: &[String], now: Timestamp) -> Result<Pair> {
    let ca_key = KeyPair::from_pem(ca.key.expose_secret()).map_err(Error::internal)?;
    let issuer = Issuer::from_ca_cert_pem(&ca.certificate, ca_key).map_err(Error::internal)?;
    let key = KeyPair::generate().map_err(Error::internal)?;
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.subject_alt_names = names.iter().map(|name| san(name)).collect::<Result<_>>()?;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    (params.not_before, params.not_after) = span(now, LEAF_LIFE)?;
    let certificate = params.signed_by(&key, &issuer).map_err(Error::internal)?;
    Ok(Pair { certificate: certificate.pem(), key: SecretString::from(key.serialize_pem()) })
}

/// What stands in a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// When it begins.
    pub not_before: Timestamp,
    /// When it ends.
    pub not_after: Timestamp,
    /// Its DNS names and addresses, sorted.
    pub names: Vec<String>,
}

impl Facts {
    /// Reads the first certificate of a PEM text.
    pub fn read(pem: &str) -> Result<Self> {
        let unreadable = || Error::invalid("not a PEM certificate");
        let (_, block) = x509_parser::pem::parse_x509_pem(pem.as_bytes()).map_err(|_| unreadable())?;
        let certificate = block.parse_x509().map_err(|_| unreadable())?;
        let at = |seconds: i64| Timestamp::from_second(seconds).map_err(|_| unreadable());
        let mut names = Vec::new();
        if let Ok(Some(extension)) = certificate.subject_alternative_name() {
            for name in &extension.value.general_names {
                match name {
                    x509_parser::extensions::GeneralName::DNSName(name) => names.push((*name).to_owned()),
                    x509_parser::extensions::GeneralName::IPAddress(bytes) => {
                        names.extend(address(bytes).map(|ip| ip.to_string()));
                    }
                    _ => {}
                }
            }
        }
        names.sort();
        let validity = certificate.validity();
        Ok(Self {
            not_before: at(validity.not_before.timestamp())?,
            not_after: at(validity.not_after.timestamp())?,
            names,
        })
    }

    /// When two thirds of its life are over.
    pub fn renewal(&self) -> Timestamp {
        let life = self.not_after.duration_since(self.not_before);
        self.not_before.checked_add(life * 2 / 3).unwrap_or(self.not_after)
    }

    /// Whether it can serve these names at `now`.
    pub fn holds(&self, names: &[String], now: Timestamp) -> bool {
        let mut wanted = names.to_vec();
        wanted.sort();
        wanted.dedup();
        self.names == wanted && now >= self.not_before && now < self.not_after
    }

    /// Whether it can serve these names at `now` without being renewed.
    pub fn serves(&self, names: &[String], now: Timestamp) -> bool {
        self.holds(names, now) && now < self.renewal()
    }
}

/// Whether a server that shows `leaf` proves to whoever trusts `ca` alone that it is each of `names`, and holds the leaf's key.
pub fn proves(leaf: &Pair, ca: &str, names: &[String], now: Timestamp) -> bool {
    let check = || -> Option<()> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(ca.as_bytes()).ok()?).ok()?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build().ok()?;
        let end = CertificateDer::from_pem_slice(leaf.certificate.as_bytes()).ok()?;
        let at = UnixTime::since_unix_epoch(Duration::from_secs(u64::try_from(now.as_second()).ok()?));
        for name in names {
            verifier.verify_server_cert(&end, &[], &ServerName::try_from(name.as_str()).ok()?, &[], at).ok()?;
        }
        Some(())
    };
    check().is_some() && belong(leaf)
}

/// Whether certificate and key belong together.
pub fn belong(pair: &Pair) -> bool {
    let check = || {
        let key = KeyPair::from_pem(pair.key.expose_secret()).ok()?;
        let der = CertificateDer::from_pem_slice(pair.certificate.as_bytes()).ok()?;
        let (_, certificate) = x509_parser::parse_x509_certificate(&der).ok()?;
        Some(certificate.public_key().raw == key.subject_public_key_info())
    };
    check().unwrap_or(false)
}

fn span(now: Timestamp, life: SignedDuration) -> Result<(time::OffsetDateTime, time::OffsetDateTime)> {
    let at = |time: Timestamp| time::OffsetDateTime::from_unix_timestamp(time.as_second()).map_err(Error::internal);
    let from = now.checked_sub(SKEW).map_err(Error::internal)?;
    let to = now.checked_add(life).map_err(Error::internal)?;
    Ok((at(from)?, at(to)?))
}

fn san(name: &str) -> Result<SanType> {
    if let Ok(address) = name.parse::<IpAddr>() {
        return Ok(SanType::IpAddress(address));
    }
    let dns =
        name.to_owned().try_into().map_err(|_| Error::invalid(format!("{name:?} cannot stand in a certificate")))?;
    Ok(SanType::DnsName(dns))
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    <[u8; 4]>::try_from(bytes).map(IpAddr::from).or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leaf_is_accepted_under_its_ca_for_its_names_only() {
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        let ca = make_ca("CA", now).unwrap();
        let texts = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
        let names = texts(&["kubeop-admission.kubeop-system.svc", "127.0.0.1"]);
        let leaf = make_leaf(&ca, "leaf", &names, now).unwrap();
        assert!(proves(&leaf, &ca.certificate, &names, now));
        assert!(!proves(&leaf, &ca.certificate, &texts(&["127.0.0.2"]), now));
        assert!(!proves(&leaf, &ca.certificate, &names, now + LEAF_LIFE + SKEW));
        assert!(!proves(&leaf, &make_ca("CA", now).unwrap().certificate, &names, now), "a CA of the same name");
        let other = make_leaf(&ca, "leaf", &names, now).unwrap();
        assert!(!proves(&Pair { key: other.key, ..leaf }, &ca.certificate, &names, now), "another key");
    }

    #[test]
    fn a_leaf_is_renewed_after_two_thirds_or_when_names_change() {
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        let names = vec!["b.svc".to_owned(), "a.svc".to_owned()];
        let leaf = make_leaf(&make_ca("CA", now).unwrap(), "leaf", &names, now).unwrap();
        let facts = Facts::read(&leaf.certificate).unwrap();
        assert_eq!(facts.names, ["a.svc", "b.svc"]);
        assert!(facts.serves(&names, now));
        assert!(!facts.serves(&names[..1], now));
        assert!(facts.serves(&names, now + SignedDuration::from_hours(59 * 24)));
        assert!(!facts.serves(&names, now + SignedDuration::from_hours(60 * 24)));
    }
}
