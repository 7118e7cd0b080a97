//! The platform's list of allowed registries and paths.
//!
//! Invariant: an entry matches whole path segments of one registry; an empty list allows every valid reference and no other.

use super::{ImageRef, Registry, check_path, is_host};
use crate::id::shorten;
use crate::{Error, Result};
use std::fmt;

/// Entries a message names before it only counts the rest.
const NAMED: usize = 10;

/// Which images may run. Empty means any registry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImageAllowlist {
    /// Registry and path (empty: the whole registry), sorted.
    entries: Vec<(String, String)>,
}

impl ImageAllowlist {
    /// Parses the entries of `field`; the message names the field and the index of the one that is wrong.
    ///
    /// An entry is a registry's host (`docker.io`, `registry.corp:5000`) or a host and a path prefix (`ghcr.io/acme`).
    pub fn parse<T: AsRef<str>>(field: &str, entries: &[T]) -> Result<Self> {
        let mut parsed = Vec::with_capacity(entries.len());
        for (index, entry) in entries.iter().enumerate() {
            parsed.push(parse_entry(entry.as_ref()).map_err(|error| error.at(format!("{field}[{index}]")))?);
        }
        parsed.sort_unstable();
        parsed.dedup();
        Ok(Self { entries: parsed })
    }

    /// Whether every registry is allowed.
    pub fn is_open(&self) -> bool {
        self.entries.is_empty()
    }

    /// Whether `image` matches an entry.
    pub fn allows(&self, image: &ImageRef) -> bool {
        self.is_open()
            || self
                .entries
                .iter()
                .any(|(registry, path)| *registry == image.registry && is_below(&image.repository, path))
    }

    /// Refuses an image that matches no entry; the message names the image and the list.
    pub fn decide(&self, image: &ImageRef) -> Result<()> {
        if self.allows(image) {
            return Ok(());
        }
        Err(Error::invalid(format!("image \"{image}\" is not allowed: the allow-list of this platform is {self}")))
    }
}

/// Whether `repository` is `prefix` or lies below it, by whole segments.
fn is_below(repository: &str, prefix: &str) -> bool {
    prefix.is_empty() || repository.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn parse_entry(text: &str) -> Result<(String, String)> {
    let refuse = |why: &str| Error::invalid(format!("{:?} is not an allow-list entry: {why}", shorten(text)));
    let form = "a registry such as docker.io, or a registry and a path such as ghcr.io/acme, is needed";
    if text.is_empty() || text.len() > super::MAX_NAME || text.contains("://") || text.contains('*') {
        return Err(refuse(form));
    }
    let (host, path) = text.split_once('/').unwrap_or((text, ""));
    if !is_host(host) && !host.starts_with('[') {
        return Err(refuse(form));
    }
    let registry = Registry::parse(host).map_err(refuse)?.0;
    if text.len() > host.len() {
        if path.contains([':', '@']) {
            return Err(refuse("an entry has no tag and no digest"));
        }
        if path.is_empty() || path.ends_with('/') {
            return Err(refuse("leave the final '/' out"));
        }
        check_path(path).map_err(refuse)?;
    }
    Ok((registry, path.to_owned()))
}

impl fmt::Display for ImageAllowlist {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_open() {
            return f.write_str("any registry");
        }
        for (index, (registry, path)) in self.entries.iter().take(NAMED).enumerate() {
            let (comma, slash) = (if index == 0 { "" } else { ", " }, if path.is_empty() { "" } else { "/" });
            write!(f, "{comma}{registry}{slash}{path}")?;
        }
        match self.entries.len().saturating_sub(NAMED) {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}
