//! Who publishes host names and issues certificates for a cluster, as ConfigMap `kubeop-providers` in `kubeop-system`.
//!
//! Invariant: no ConfigMap means no provider; one that is not understood in full is an error, and nothing is published or issued.

use k8s_openapi::api::core::v1::ConfigMap;
use kube::core::ObjectMeta;
use kubeop_core::name::SYSTEM_NAMESPACE;
use kubeop_core::{Error, Result};
use std::collections::BTreeMap;

/// Name of the ConfigMap.
pub const NAME: &str = "kubeop-providers";
/// Key: who publishes host names.
const DNS: &str = "dns";
/// Key: who issues certificates.
const ISSUER: &str = "issuer";

/// Who publishes host names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DnsProvider {
    /// A section in the configuration of the cluster's CoreDNS: names resolve for pods, and nowhere else.
    ClusterZone,
}

impl DnsProvider {
    /// As the ConfigMap spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ClusterZone => "cluster-zone",
        }
    }
}

/// Who issues certificates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Issuer {
    /// A CA of this cluster's own, which nobody trusts by himself.
    SelfSigned,
}

impl Issuer {
    /// As the ConfigMap and `Certificate.spec.issuer` spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::SelfSigned => "self-signed",
        }
    }
}

/// The providers of a cluster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Providers {
    /// Who publishes host names, if anybody does.
    pub dns: Option<DnsProvider>,
    /// Who issues certificates, if anybody does.
    pub issuer: Option<Issuer>,
}

impl Providers {
    /// The built-in stand-ins for outside providers, which need no account (`withMocks`).
    pub const MOCKS: Self = Self { dns: Some(DnsProvider::ClusterZone), issuer: Some(Issuer::SelfSigned) };
}

/// The ConfigMap of the providers.
pub fn to_config_map(providers: Providers) -> ConfigMap {
    let data = [(DNS, providers.dns.map(DnsProvider::as_str)), (ISSUER, providers.issuer.map(Issuer::as_str))];
    let data: BTreeMap<String, String> =
        data.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?.to_owned()))).collect();
    ConfigMap {
        metadata: ObjectMeta {
            name: Some(NAME.to_owned()),
            namespace: Some(SYSTEM_NAMESPACE.to_owned()),
            ..ObjectMeta::default()
        },
        data: Some(data),
        ..ConfigMap::default()
    }
}

/// Understands the ConfigMap.
///
/// # Errors
/// An unknown key or value; the message names it.
pub fn from_config_map(map: &ConfigMap) -> Result<Providers> {
    let mut providers = Providers::default();
    for (key, value) in map.data.iter().flatten() {
        let refuse =
            |allowed: &str| Error::invalid(format!("{NAME}: {key}: {value:?} is unknown: {allowed} is possible"));
        match key.as_str() {
            DNS if value == DnsProvider::ClusterZone.as_str() => providers.dns = Some(DnsProvider::ClusterZone),
            ISSUER if value == Issuer::SelfSigned.as_str() => providers.issuer = Some(Issuer::SelfSigned),
            DNS => return Err(refuse(DnsProvider::ClusterZone.as_str())),
            ISSUER => return Err(refuse(Issuer::SelfSigned.as_str())),
            _ => return Err(Error::invalid(format!("{NAME}: {key:?} is no key: {DNS} and {ISSUER} are possible"))),
        }
    }
    Ok(providers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        for providers in [Providers::default(), Providers::MOCKS, Providers { dns: None, ..Providers::MOCKS }] {
            assert_eq!(from_config_map(&to_config_map(providers)).unwrap(), providers);
        }
    }

    #[test]
    fn what_is_not_understood_is_an_error_that_names_it() {
        for (key, value, needle) in
            [("dns", "route53", "cluster-zone"), ("issuer", "Self-Signed", "self-signed"), ("dn", "x", "\"dn\"")]
        {
            let map = ConfigMap { data: Some([(key.to_owned(), value.to_owned())].into()), ..ConfigMap::default() };
            let told = from_config_map(&map).unwrap_err();
            assert!(told.message().contains(needle), "{}", told.message());
        }
    }
}
