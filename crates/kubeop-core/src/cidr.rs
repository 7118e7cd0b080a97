//! Address ranges (CIDRs) of both families, and exact sets of them.
//!
//! Invariant: a [`Cidr`] is canonical (no host bits, never IPv4-mapped), and a [`CidrSet`] answers for every single address: it is
//! kept as sorted, disjoint, non-adjacent intervals, so that `10.0.0.0/9` + `10.128.0.0/9` is the same set as `10.0.0.0/8`.

mod set;

pub use set::CidrSet;

use crate::id::shorten;
use crate::{Error, Result};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

/// A canonical range of addresses: `10.0.0.0/8`, `fd00::/8`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Cidr(IpNet);

impl Cidr {
    /// Parses a CIDR that is written canonically; everything else is refused with what to write instead.
    ///
    /// Refused are host bits (`10.0.0.1/8`), leading zeros (`010.0.0.0/8` is 8.0.0.0 to some readers and 10.0.0.0 to others), IPv4-mapped
    /// addresses, spellings of IPv6 other than RFC 5952's, and an address without a length.
    pub fn parse(text: &str) -> Result<Self> {
        let refuse = |why: String| Error::invalid(format!("{:?} is not a canonical CIDR: {why}", shorten(text)));
        let (address, length) = split(text).map_err(|why| refuse(why.to_owned()))?;
        if let IpAddr::V6(v6) = address
            && let Some(v4) = v6.to_ipv4_mapped()
        {
            return Err(refuse(format!("write the IPv4 range itself, as in {v4}/32")));
        }
        let net = IpNet::new(address, length).map_err(|_| refuse(NEEDED.to_owned()))?.trunc();
        let canonical = Self(net).to_string();
        if canonical == text {
            Ok(Self(net))
        } else if net.addr() == address {
            Err(refuse(format!("write {canonical}")))
        } else {
            Err(refuse(format!("it has bits set behind the first {length}; write {canonical}")))
        }
    }

    /// Reads what the API server accepts in a NetworkPolicy's `ipBlock.cidr` as the range it may open.
    ///
    /// The API server takes host bits and IPv4-mapped addresses with a mere warning (KEP-4858): host bits are masked, a mapped range
    /// is the IPv4 range it means to network plugins. What two readers could take differently (leading zeros, a mapped address with a
    /// length below 96) is an error, and so is everything unknown: the caller denies.
    pub fn parse_for_decision(text: &str) -> Result<Self> {
        let refuse = |why: &str| Error::invalid(format!("{:?} cannot be judged: {why}", shorten(text)));
        let (address, length) = split(text).map_err(refuse)?;
        let (address, length) = match address {
            IpAddr::V4(_) => (address, length),
            IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
                None => (address, length),
                Some(v4) => {
                    let length = length
                        .checked_sub(96)
                        .ok_or_else(|| refuse("an IPv4-mapped range reaches past IPv4; write the IPv4 range itself"))?;
                    (IpAddr::V4(v4), length)
                }
            },
        };
        IpNet::new(address, length).map(|net| Self(net.trunc())).map_err(|_| refuse(NEEDED))
    }

    /// Whether every address of `other` is one of this range.
    pub fn contains(&self, other: &Self) -> bool {
        self.0.contains(&other.0)
    }

    /// Whether it is a range of IPv6 addresses.
    pub fn is_v6(&self) -> bool {
        matches!(self.0, IpNet::V6(_))
    }

    /// The first address and the prefix length.
    pub fn parts(&self) -> (IpAddr, u8) {
        (self.0.addr(), self.0.prefix_len())
    }

    /// First and last address as numbers of the family.
    fn bounds(&self) -> (u128, u128) {
        match self.0 {
            IpNet::V4(net) => (u32::from(net.network()).into(), u32::from(net.broadcast()).into()),
            IpNet::V6(net) => (net.network().into(), net.broadcast().into()),
        }
    }

    /// All addresses of a family.
    pub(crate) fn all(v6: bool) -> Self {
        let any: IpNet = if v6 { ipnet::Ipv6Net::default().into() } else { ipnet::Ipv4Net::default().into() };
        Self(any)
    }

    /// A range known at compile time.
    pub(crate) const fn v4(address: std::net::Ipv4Addr, length: u8) -> Self {
        Self(IpNet::V4(ipnet::Ipv4Net::new_assert(address, length)))
    }

    /// A range known at compile time.
    pub(crate) const fn v6(address: Ipv6Addr, length: u8) -> Self {
        Self(IpNet::V6(ipnet::Ipv6Net::new_assert(address, length)))
    }
}

const NEEDED: &str = "an address and a length are needed, as in 10.0.0.0/8 or fd00::/8";

/// Address and length of a text, by the strict grammar of the standard library; the length without sign or leading zero.
fn split(text: &str) -> Result<(IpAddr, u8), &'static str> {
    // The longest IPv6 text is 45 bytes, the longest length 3.
    if text.len() > 64 {
        return Err(NEEDED);
    }
    let (address, length) = text.split_once('/').ok_or("the length is missing, as in 10.0.0.1/32")?;
    let has_leading_zero =
        |part: &str| part.len() > 1 && part.starts_with('0') && part.bytes().all(|b| b.is_ascii_digit());
    let address: IpAddr = address.parse().map_err(|_| {
        if !address.contains(':') && address.split('.').any(has_leading_zero) {
            "leading zeros are not allowed"
        } else {
            NEEDED
        }
    })?;
    if has_leading_zero(length) {
        return Err("leading zeros are not allowed");
    }
    if length.is_empty() || !length.bytes().all(|b| b.is_ascii_digit()) {
        return Err(NEEDED);
    }
    let length: u8 = length.parse().map_err(|_| "the length is out of range: 32 is the most in IPv4, 128 in IPv6")?;
    let most = if address.is_ipv4() { 32 } else { 128 };
    if length > most {
        return Err("the length is out of range: 32 is the most in IPv4, 128 in IPv6");
    }
    Ok((address, length))
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<'de> Deserialize<'de> for Cidr {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests;
