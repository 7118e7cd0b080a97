//! The certificates and keys of one test cluster: its own authority, the API server's certificate, one client certificate per user, the token key.

use std::net::IpAddr;

use anyhow::{Context, Result};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, date_time_ymd,
};

/// Names and addresses the API server is reached under; 10.96.0.1 is its Service.
const SERVER_NAMES: [&str; 8] = [
    "127.0.0.1",
    "::1",
    "localhost",
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
    "kubernetes.default.svc.cluster.local",
    "10.96.0.1",
];

/// A certificate and its key, both PEM.
pub(crate) struct Pair {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

/// A certificate authority.
pub(crate) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

fn new_key() -> Result<KeyPair> {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).context("cannot make a key")
}

fn parameters(names: &[&str], common_name: &str, organization: Option<&str>) -> Result<CertificateParams> {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut parameters = CertificateParams::new(names).context("cannot use the certificate's names")?;
    parameters.distinguished_name.push(DnType::CommonName, common_name);
    if let Some(organization) = organization {
        parameters.distinguished_name.push(DnType::OrganizationName, organization);
    }
    parameters.not_before = date_time_ymd(2020, 1, 1);
    parameters.not_after = date_time_ymd(2120, 1, 1);
    Ok(parameters)
}

impl Authority {
    /// Makes a new one.
    pub(crate) fn new(common_name: &str) -> Result<Self> {
        let mut parameters = parameters(&[], common_name, None)?;
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        parameters.key_usages =
            vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
        let issuer = CertifiedIssuer::self_signed(parameters, new_key()?).context("cannot sign the authority")?;
        Ok(Self { issuer })
    }

    /// Its own certificate and key.
    pub(crate) fn pair(&self) -> Pair {
        Pair { certificate: self.issuer.pem(), key: self.issuer.key().serialize_pem() }
    }

    /// A certificate for the API server, which is also reached under `address`.
    pub(crate) fn server(&self, address: IpAddr) -> Result<Pair> {
        let address = address.to_string();
        let names: Vec<&str> =
            SERVER_NAMES.iter().copied().filter(|name| *name != address).chain([address.as_str()]).collect();
        self.serving("kube-apiserver", None, &names)
    }

    /// A certificate for a server of these names.
    pub(crate) fn serving(&self, common_name: &str, organization: Option<&str>, names: &[&str]) -> Result<Pair> {
        let mut parameters = parameters(names, common_name, organization)?;
        parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.sign(parameters)
    }

    /// A certificate for a user of the API server: the name is the user, the organization its group.
    pub(crate) fn client(&self, user: &str, group: Option<&str>) -> Result<Pair> {
        let mut parameters = parameters(&[], user, group)?;
        parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.sign(parameters)
    }

    fn sign(&self, mut parameters: CertificateParams) -> Result<Pair> {
        parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        parameters.use_authority_key_identifier_extension = true;
        let key = new_key()?;
        let certificate = parameters.signed_by(&key, &self.issuer).context("cannot sign a certificate")?;
        Ok(Pair { certificate: certificate.pem(), key: key.serialize_pem() })
    }
}

/// The key that signs ServiceAccount tokens: (private, public), both PEM.
pub(crate) fn token_key() -> Result<(String, String)> {
    let key = new_key()?;
    Ok((key.serialize_pem(), key.public_key_pem()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_certificate_is_pem_with_its_own_key() {
        let authority = Authority::new("test").unwrap();
        let (server, client) = (
            authority.server([172, 31, 77, 2].into()).unwrap(),
            authority.client("admin", Some("system:masters")).unwrap(),
        );
        assert_ne!(server.key, client.key);
        for pair in [authority.pair(), server, client] {
            assert!(
                pair.certificate.starts_with("-----BEGIN CERTIFICATE-----")
                    && pair.key.starts_with("-----BEGIN PRIVATE KEY-----")
            );
        }
    }
}
