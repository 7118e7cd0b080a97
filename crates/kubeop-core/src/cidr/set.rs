//! Exact sets of addresses, as intervals.
//!
//! Invariant: the intervals of a family are sorted, disjoint and not adjacent, so equal sets are equal values.

use super::Cidr;
use ipnet::{IpNet, Ipv4Subnets, Ipv6Subnets};
use std::net::{Ipv4Addr, Ipv6Addr};

/// A set of IPv4 and IPv6 addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CidrSet {
    v4: Ranges,
    v6: Ranges,
}

impl CidrSet {
    /// Every address of both families.
    pub fn everything() -> Self {
        [Cidr::all(false), Cidr::all(true)].into_iter().collect()
    }

    /// Whether it holds no address.
    pub fn is_empty(&self) -> bool {
        self.v4.0.is_empty() && self.v6.0.is_empty()
    }

    /// Whether every address of `range` is in the set, be it through one entry or through several that join up.
    pub fn contains(&self, range: &Cidr) -> bool {
        let (first, last) = range.bounds();
        let ranges = if range.is_v6() { &self.v6 } else { &self.v4 };
        ranges.covers(first, last)
    }

    /// Whether every address of `other` is in the set.
    pub fn contains_all(&self, other: &Self) -> bool {
        other.v4.0.iter().all(|&(first, last)| self.v4.covers(first, last))
            && other.v6.0.iter().all(|&(first, last)| self.v6.covers(first, last))
    }

    /// The addresses of this set that are not in `other`.
    #[must_use]
    pub fn without(&self, other: &Self) -> Self {
        Self { v4: self.v4.without(&other.v4), v6: self.v6.without(&other.v6) }
    }

    /// The addresses in both sets.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        self.without(&self.without(other))
    }

    /// Whether some address is in both sets.
    pub fn intersects(&self, other: &Self) -> bool {
        !self.intersection(other).is_empty()
    }

    /// The fewest canonical ranges that make up the set, in order of address, IPv4 first.
    pub fn ranges(&self) -> impl Iterator<Item = Cidr> + '_ {
        let v4 = self.v4.0.iter().flat_map(|&(first, last)| {
            // An IPv4 bound always fits; the saturated value could only widen what is reported.
            let address = |bound: u128| Ipv4Addr::from(u32::try_from(bound).unwrap_or(u32::MAX));
            Ipv4Subnets::new(address(first), address(last), 0).map(IpNet::V4)
        });
        let v6 =
            self.v6.0.iter().flat_map(|&(first, last)| {
                Ipv6Subnets::new(Ipv6Addr::from(first), Ipv6Addr::from(last), 0).map(IpNet::V6)
            });
        v4.chain(v6).map(Cidr)
    }
}

impl FromIterator<Cidr> for CidrSet {
    fn from_iter<I: IntoIterator<Item = Cidr>>(ranges: I) -> Self {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for range in ranges {
            let list = if range.is_v6() { &mut v6 } else { &mut v4 };
            list.push(range.bounds());
        }
        Self { v4: Ranges::new(v4), v6: Ranges::new(v6) }
    }
}

impl From<Cidr> for CidrSet {
    fn from(range: Cidr) -> Self {
        [range].into_iter().collect()
    }
}

/// Inclusive intervals of one family.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Ranges(Vec<(u128, u128)>);

impl Ranges {
    fn new(mut raw: Vec<(u128, u128)>) -> Self {
        raw.sort_unstable();
        let mut merged: Vec<(u128, u128)> = Vec::with_capacity(raw.len());
        for (first, last) in raw {
            match merged.last_mut() {
                // Overlapping or adjacent; saturation is right, as nothing lies behind the last address.
                Some((_, end)) if first <= end.saturating_add(1) => *end = (*end).max(last),
                _ => merged.push((first, last)),
            }
        }
        Self(merged)
    }

    /// The intervals that end at `first` or later.
    fn ending_from(&self, first: u128) -> &[(u128, u128)] {
        let at = self.0.partition_point(|&(_, end)| end < first);
        self.0.get(at..).unwrap_or_default()
    }

    fn covers(&self, first: u128, last: u128) -> bool {
        self.ending_from(first).first().is_some_and(|&(start, end)| start <= first && last <= end)
    }

    fn without(&self, other: &Self) -> Self {
        let mut rest = Vec::new();
        for &(first, last) in &self.0 {
            // The first address not yet dealt with; none once the cut reached the end of the family.
            let mut open = Some(first);
            for &(cut_first, cut_last) in other.ending_from(first) {
                let Some(from) = open else { break };
                if cut_first > last {
                    break;
                }
                if let Some(before) = cut_first.checked_sub(1)
                    && from <= before
                {
                    rest.push((from, before));
                }
                open = cut_last.checked_add(1);
            }
            if let Some(from) = open
                && from <= last
            {
                rest.push((from, last));
            }
        }
        Self(rest)
    }
}
