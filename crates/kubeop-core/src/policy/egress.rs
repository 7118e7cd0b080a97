//! The outside addresses a project may reach.
//!
//! Invariant: the metadata address is in no baseline, whatever the policy lists.

use crate::cidr::{Cidr, CidrSet};
use crate::id::shorten;
use crate::{Error, Result};
use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

/// The metadata address of the clouds: who reaches it can take the node's identity. Closed for every project, always.
const METADATA: [Cidr; 2] = [
    Cidr::v4(Ipv4Addr::new(169, 254, 169, 254), 32),
    Cidr::v6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254), 128),
];

/// Link-local addresses (RFC 3927, RFC 4291 §2.5.6): services of the node itself.
const LINK_LOCAL: [Cidr; 2] =
    [Cidr::v4(Ipv4Addr::new(169, 254, 0, 0), 16), Cidr::v6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10)];

/// Entries a message names before it only counts the rest.
const NAMED: usize = 10;

/// An `ipBlock` of a NetworkPolicy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IpBlock {
    /// The range that is opened.
    pub cidr: Cidr,
    /// What stays closed within it; each strictly smaller, as the API server asks.
    pub except: Vec<Cidr>,
}

/// The outside addresses a project may reach. Empty means all but the metadata address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EgressBaseline {
    entries: Vec<Cidr>,
    /// The entries' addresses.
    listed: CidrSet,
    /// Those without the metadata address.
    allowed: CidrSet,
}

impl EgressBaseline {
    /// Parses the entries of `field`, canonical CIDRs; the message names the field and the index of the one that is wrong.
    pub fn parse<T: AsRef<str>>(field: &str, entries: &[T]) -> Result<Self> {
        let closed: CidrSet = METADATA.into_iter().chain(LINK_LOCAL).collect();
        let mut parsed = Vec::with_capacity(entries.len());
        for (index, entry) in entries.iter().enumerate() {
            let text = entry.as_ref();
            let cidr = Cidr::parse(text).map_err(|error| error.at(format!("{field}[{index}]")))?;
            if closed.contains(&cidr) {
                return Err(Error::invalid(format!(
                    "{field}[{index}]: {:?} is link-local or the metadata address, which always stay closed",
                    shorten(text)
                )));
            }
            parsed.push(cidr);
        }
        parsed.sort_unstable();
        parsed.dedup();
        Ok(Self::new(parsed))
    }

    fn new(entries: Vec<Cidr>) -> Self {
        let listed = if entries.is_empty() { CidrSet::everything() } else { entries.iter().copied().collect() };
        let allowed = listed.without(&METADATA.into_iter().collect());
        Self { entries, listed, allowed }
    }

    /// Whether every outside address but the metadata address is allowed.
    pub fn is_open(&self) -> bool {
        self.entries.is_empty()
    }

    /// The entries, sorted, each once.
    pub fn entries(&self) -> &[Cidr] {
        &self.entries
    }

    /// The `ipBlock`s that open exactly this baseline: what the platform's own NetworkPolicy in each project says.
    pub fn blocks(&self) -> Vec<IpBlock> {
        let everything = [Cidr::all(false), Cidr::all(true)];
        let ranges = if self.is_open() { &everything[..] } else { &self.entries[..] };
        let block = |cidr: &Cidr| IpBlock {
            cidr: *cidr,
            except: METADATA.into_iter().filter(|closed| cidr.contains(closed)).collect(),
        };
        ranges.iter().map(block).collect()
    }

    /// Refuses to open `cidr` without `except` where that reaches past the baseline.
    pub(super) fn check(&self, cidr: Cidr, except: &[Cidr]) -> Result<()> {
        if LINK_LOCAL.iter().any(|local| local.contains(&cidr)) {
            return Err(Error::invalid(format!("{cidr} is link-local, which always stays closed")));
        }
        if self.allowed.contains(&cidr) {
            return Ok(());
        }
        let opened = CidrSet::from(cidr).without(&except.iter().copied().collect());
        if !self.is_open()
            && let Some(outside) = opened.without(&self.listed).ranges().next()
        {
            let example = if outside == cidr { String::new() } else { format!(" (to {outside} among others)") };
            return Err(Error::invalid(format!(
                "{cidr} reaches outside the egress baseline of this platform{example}, which is {self}"
            )));
        }
        match METADATA.iter().find(|metadata| opened.contains(metadata)) {
            None => Ok(()),
            Some(metadata) => Err(Error::invalid(format!(
                "{cidr} opens the metadata address {metadata}, which always stays closed: list it under except"
            ))),
        }
    }
}

impl Default for EgressBaseline {
    fn default() -> Self {
        Self::new(Vec::new())
    }
}

impl fmt::Display for EgressBaseline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_open() {
            return f.write_str("every address but the metadata address");
        }
        for (index, cidr) in self.entries.iter().take(NAMED).enumerate() {
            write!(f, "{}{cidr}", if index == 0 { "" } else { ", " })?;
        }
        match self.entries.len().saturating_sub(NAMED) {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}
