//! Image references, normalised as the container runtime does, and the allow-list they are compared with.
//!
//! Invariant: an [`ImageRef`] names its registry explicitly and in one spelling, so comparing it is comparing what will be pulled.
//! The grammar and the normalisation are those of `distribution/reference`, which kubelet and containerd use.

mod allowlist;

pub use allowlist::ImageAllowlist;

use crate::id::shorten;
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::Ipv6Addr;

/// What an image without a registry comes from.
const DEFAULT_REGISTRY: &str = "docker.io";
/// The older name of the default registry.
const LEGACY_REGISTRY: &str = "index.docker.io";
/// The longest registry and repository together that runtimes take; with tag and digest a reference stays below 600.
const MAX_NAME: usize = 255;
const MAX_REFERENCE: usize = 600;

/// A normalised image reference: `nginx` is `docker.io/library/nginx:latest`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ImageRef {
    registry: String,
    repository: String,
    tag: Option<String>,
    digest: Option<String>,
}

impl ImageRef {
    /// Parses and normalises a reference; the message says what is wrong with it.
    ///
    /// Stricter than the runtime where two readers could differ: upper case in the registry's host, and ports that are not plain
    /// numbers from 1 to 65535, are refused.
    pub fn parse(text: &str) -> Result<Self> {
        let refuse = |why: &str| Error::invalid(format!("{:?} is not a valid image: {why}", shorten(text)));
        if text.is_empty() {
            return Err(refuse("a reference such as nginx:1.25 or ghcr.io/acme/web@sha256:... is needed"));
        }
        if text.len() > MAX_REFERENCE {
            return Err(refuse("it is longer than any runtime takes"));
        }
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(check_digest(digest).map_err(refuse)?)),
            None => (text, None),
        };
        // A colon after the last slash begins the tag; one before it is a port.
        let (name, tag) = match rest.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') => (name, Some(check_tag(tag).map_err(refuse)?)),
            _ => (rest, None),
        };
        if name.len() == 64 && name.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(refuse("64 hexadecimal digits could be taken for an image's id"));
        }
        let (registry, path) = match name.split_once('/') {
            Some((first, path)) if is_host(first) => (Registry::parse(first).map_err(refuse)?.0, path),
            _ => (DEFAULT_REGISTRY.to_owned(), name),
        };
        check_path(path).map_err(refuse)?;
        let repository = if registry == DEFAULT_REGISTRY && !path.contains('/') {
            format!("library/{path}")
        } else {
            path.to_owned()
        };
        if registry.len() + 1 + repository.len() > MAX_NAME {
            return Err(refuse("registry and repository may have 255 characters"));
        }
        let tag = match (tag, digest) {
            (None, None) => Some("latest".to_owned()),
            (tag, _) => tag.map(str::to_owned),
        };
        Ok(Self { registry, repository, tag, digest: digest.map(str::to_owned) })
    }

    /// The registry's host, with its port if one is written: `docker.io`, `registry.corp:5000`.
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// The path within the registry: `library/nginx`.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The tag; `latest` where neither tag nor digest is written.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest with its algorithm; where there is one, it decides what is pulled, whatever the tag says.
    pub fn digest(&self) -> Option<&str> {
        self.digest.as_deref()
    }
}

/// Whether the first component of a name is a registry and not the beginning of the path: the rule of `distribution/reference`.
fn is_host(first: &str) -> bool {
    first == "localhost" || first.contains(['.', ':']) || first.bytes().any(|b| b.is_ascii_uppercase())
}

/// A registry's host and port in their one spelling.
struct Registry(String);

impl Registry {
    fn parse(text: &str) -> Result<Self, &'static str> {
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (address, after) = rest.split_once(']').ok_or("the registry's address lacks its ']'")?;
                let address: Ipv6Addr = address.parse().map_err(|_| "the registry is not an IPv6 address")?;
                let port = match after.strip_prefix(':') {
                    None if after.is_empty() => None,
                    None => return Err("a port is needed after the registry's ']', or nothing"),
                    Some(port) => Some(port),
                };
                (format!("[{address}]"), port)
            }
            None => match text.split_once(':') {
                Some((host, port)) => (host.to_owned(), Some(port)),
                None => (text.to_owned(), None),
            },
        };
        if !host.starts_with('[') && !host.split('.').all(is_host_label) {
            return Err("a registry is lower-case letters, digits and '-' between dots, with an optional port");
        }
        if let Some(port) = port
            && (port.starts_with('0') || !port.bytes().all(|b| b.is_ascii_digit()) || port.parse::<u16>().is_err())
        {
            return Err("the registry's port is not a number from 1 to 65535");
        }
        Ok(Self(match port {
            Some(port) => format!("{host}:{port}"),
            None if host == LEGACY_REGISTRY => DEFAULT_REGISTRY.to_owned(),
            None => host,
        }))
    }
}

fn is_host_label(label: &str) -> bool {
    !label.is_empty()
        && !label.starts_with('-')
        && !label.ends_with('-')
        && label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

/// Path components: lower-case letters and digits, separated by one `.`, one or two `_`, or any number of `-`.
fn check_path(path: &str) -> Result<(), &'static str> {
    if path.bytes().any(|b| b.is_ascii_uppercase()) {
        return Err("a repository is lower case");
    }
    if path.split('/').all(is_path_component) {
        Ok(())
    } else {
        Err("a repository is lower-case letters and digits, with '.', '_', '-' between them and '/' between its parts")
    }
}

fn is_path_component(component: &str) -> bool {
    let word = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let separators = component.split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit()).filter(|s| !s.is_empty());
    component.bytes().next().is_some_and(word)
        && component.bytes().last().is_some_and(word)
        && separators.into_iter().all(|s| matches!(s, "." | "_" | "__") || s.bytes().all(|b| b == b'-'))
}

fn check_tag(tag: &str) -> Result<&str, &'static str> {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    let ok = tag.len() <= 128
        && tag.bytes().next().is_some_and(word)
        && tag.bytes().all(|b| word(b) || b == b'.' || b == b'-');
    if ok { Ok(tag) } else { Err("a tag is 1 to 128 letters, digits, '_', '.' and '-', not beginning with '.' or '-'") }
}

/// The algorithms runtimes know (OCI image specification, descriptors: sha256 and sha512; containerd also takes sha384).
fn check_digest(digest: &str) -> Result<&str, &'static str> {
    let digits = match digest.split_once(':') {
        Some(("sha256", hex)) => Some((hex, 64)),
        Some(("sha384", hex)) => Some((hex, 96)),
        Some(("sha512", hex)) => Some((hex, 128)),
        _ => None,
    };
    match digits {
        Some((hex, length)) if hex.len() == length && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) => {
            Ok(digest)
        }
        _ => Err("a digest is sha256: and 64 lower-case hexadecimal digits"),
    }
}

impl fmt::Display for ImageRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

impl Serialize for ImageRef {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ImageRef {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests;
