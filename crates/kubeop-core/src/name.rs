//! Names: DNS-1123 labels of our entities, namespaces a project may have, and host names.
//!
//! Invariant: a value of these types has passed the rule once; composite names join with a dot, which no label can contain.

use crate::id::{ProjectId, shorten};
use crate::{Error, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;

/// A DNS-1123 label (RFC 1123 §2.1, Kubernetes "object names"): 1-63 of `a-z`, `0-9` and `-`, beginning and ending with a letter or digit.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, JsonSchema)]
#[serde(transparent)]
pub struct Label(String);

impl Label {
    /// Parses a label; the message names the value and the rule.
    pub fn parse(text: &str) -> Result<Self> {
        let bytes = text.as_bytes();
        let inner = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-';
        let ok = (1..=63).contains(&bytes.len())
            && bytes.iter().all(inner)
            && bytes.first() != Some(&b'-')
            && bytes.last() != Some(&b'-');
        if ok {
            Ok(Self(text.to_owned()))
        } else {
            Err(Error::invalid(format!(
                "{:?} is not a valid name: 1 to 63 of a-z, 0-9 and '-' are needed, beginning and ending with a letter or digit",
                shorten(text)
            )))
        }
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Label {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}

/// The namespace kubeOP's own objects live in.
pub const SYSTEM_NAMESPACE: &str = "kubeop-system";
/// The namespace of the ServiceAccounts and Secrets behind issued kubeconfigs, out of every tenant's reach.
pub const ACCESS_NAMESPACE: &str = "kubeop-access";

/// The name of the Project resource: `<tenant>.<project>`.
pub fn project_resource_name(tenant: &Label, project: &Label) -> String {
    format!("{tenant}.{project}")
}

/// Checks that a project may have this namespace: never `default`, `kube-*`, `kubeop-system` or `kubeop-access`.
pub fn check_project_namespace(namespace: &Label) -> Result<()> {
    let name = namespace.as_str();
    if name == "default" || name.starts_with("kube-") || name == SYSTEM_NAMESPACE || name == ACCESS_NAMESPACE {
        return Err(Error::invalid(format!(
            "namespace {name:?} is reserved: default, kube-*, {SYSTEM_NAMESPACE} and {ACCESS_NAMESPACE} cannot be a project's"
        )));
    }
    Ok(())
}

/// What a namespace begins with when a caller who is not an admin chooses it.
pub fn tenant_namespace_prefix(tenant: &Label) -> String {
    format!("kubeop-{tenant}-")
}

/// The namespaces a project gets when none is asked for, in the order they are tried: the plain one if it fits in 63 characters, then one
/// shortened with a hash of the project's id (which also serves where the plain one is taken).
pub fn default_namespaces(tenant: &Label, project: &Label, id: ProjectId) -> Vec<Label> {
    let plain = format!("{}{project}", tenant_namespace_prefix(tenant));
    // The last 40 bits of a UUIDv7 are random: enough to tell projects apart, and reproducible from the id.
    let tail = id.0.as_u128() & 0xff_ffff_ffff;
    let mut short = plain.clone();
    short.truncate(63 - 11);
    let hashed = format!("{}-{tail:010x}", short.trim_end_matches('-'));
    [plain, hashed].iter().filter_map(|name| Label::parse(name).ok()).collect()
}

/// A host name in canonical form: lower case, no final dot, internationalised labels in punycode (RFC 5890), at least two labels, no wildcard, not an address.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, JsonSchema)]
#[serde(transparent)]
pub struct Host(String);

impl Host {
    /// Parses and canonicalises a host name.
    pub fn parse(text: &str) -> Result<Self> {
        let refuse = |why: &str| Error::invalid(format!("{:?} is not a usable host name: {why}", shorten(text)));
        if text.contains('*') {
            return Err(refuse("wildcards are not allowed"));
        }
        if text.len() > 1024 {
            return Err(refuse("at most 253 characters are allowed"));
        }
        let ascii = idna::domain_to_ascii_strict(text.strip_suffix('.').unwrap_or(text))
            .map_err(|_| refuse("letters, digits and '-' in labels of 1 to 63 characters are needed"))?;
        if ascii.len() > 253 {
            return Err(refuse("at most 253 characters are allowed"));
        }
        let labels: Vec<&str> = ascii.split('.').collect();
        if labels.len() < 2 {
            return Err(refuse("at least two labels are needed, as in web.example"));
        }
        if labels.iter().any(|label| Label::parse(label).is_err()) {
            return Err(refuse("letters, digits and '-' in labels of 1 to 63 characters are needed"));
        }
        if labels.last().is_some_and(|last| last.bytes().all(|b| b.is_ascii_digit())) {
            return Err(refuse("an address is not a host name"));
        }
        Ok(Self(ascii))
    }

    /// The canonical text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn labels() {
        for good in ["a", "0", "a-b", "web", &"x".repeat(63)] {
            assert!(Label::parse(good).is_ok(), "{good}");
        }
        for bad in ["", "-a", "a-", "A", "a.b", "a_b", "ä", "a\0", &"x".repeat(64)] {
            assert!(Label::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn hosts_are_canonical() {
        assert_eq!(Host::parse("Web.Local.").unwrap().as_str(), "web.local");
        assert_eq!(Host::parse("bücher.example").unwrap().as_str(), "xn--bcher-kva.example");
        for bad in ["", ".", "local", "*.a.b", "a..b", "1.2.3.4", "a_b.c", "a.b/c", "a:80.b", "-a.b", "[::1]"] {
            assert!(Host::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn default_namespaces_are_valid_and_distinct_for_ambiguous_joins() {
        let id = ProjectId(uuid::Uuid::from_u128(7));
        let label = |text: &str| Label::parse(text).unwrap();
        let one = default_namespaces(&label("a-b"), &label("c"), id);
        let two = default_namespaces(&label("a"), &label("b-c"), ProjectId(uuid::Uuid::from_u128(8)));
        assert_eq!(one[0], two[0]);
        assert_ne!(one[1], two[1]);
        let long = default_namespaces(&label(&"t".repeat(63)), &label(&"p".repeat(63)), id);
        assert_eq!(long.len(), 1);
    }

    proptest! {
        #[test]
        fn no_text_panics(text in ".*") {
            let _ = Label::parse(&text);
            let _ = Host::parse(&text);
        }

        #[test]
        fn a_canonical_host_is_stable(text in "[a-zA-Z0-9.-]{1,40}") {
            if let Ok(host) = Host::parse(&text) {
                prop_assert_eq!(Host::parse(host.as_str()).unwrap(), host);
            }
        }
    }
}
