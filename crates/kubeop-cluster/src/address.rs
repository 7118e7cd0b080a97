//! Which addresses a registered API server may have.
//!
//! Invariant: every address is judged in its canonical form at the moment of connecting, after name resolution, so that a name cannot lead
//! elsewhere later.

use ipnet::IpNet;
use kubeop_core::{Error, Result};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The policy: public addresses always, private ones all or only those listed, link-local and metadata addresses only if listed by themselves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddressPolicy {
    every_private: bool,
    ranges: Vec<IpNet>,
}

/// Every private address, nothing link-local, no metadata service.
impl Default for AddressPolicy {
    fn default() -> Self {
        Self { every_private: true, ranges: Vec::new() }
    }
}

impl AddressPolicy {
    /// Reads `all`, `none`, or ranges and addresses separated by commas (`10.0.0.0/8,fd00::/8,192.168.1.7`); `all` may stand beside ranges.
    ///
    /// # Errors
    /// `Invalid` with the entry that is none of these.
    pub fn parse(text: &str) -> Result<Self> {
        let mut policy = Self { every_private: false, ranges: Vec::new() };
        let entries: Vec<&str> = text.split(',').map(str::trim).filter(|entry| !entry.is_empty()).collect();
        for entry in &entries {
            match *entry {
                "all" => policy.every_private = true,
                "none" if entries.len() == 1 => {}
                range => policy.ranges.push(parse_range(range)?),
            }
        }
        if entries.is_empty() {
            return Err(Error::invalid("it is empty: all, none, or a list of address ranges is needed"));
        }
        Ok(policy)
    }

    fn lists(&self, address: IpAddr) -> bool {
        self.ranges.iter().any(|range| range.contains(&address))
    }

    /// Whether an entry that covers nothing but addresses of `kind` covers this one: `0.0.0.0/0` must not let metadata services in.
    fn names(&self, address: IpAddr, kind: &IpNet) -> bool {
        self.ranges.iter().any(|range| kind.contains(range) && range.contains(&address))
    }
}

fn parse_range(text: &str) -> Result<IpNet> {
    let range = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
    let range = range.map_err(|_| {
        Error::invalid(format!(
            "{:?} is not allowed: all, none, or address ranges such as 10.0.0.0/8 are needed",
            kubeop_core::id::shorten(text)
        ))
    })?;
    Ok(range.trunc())
}

/// Metadata services: AWS and most others, AWS (ECS, EKS, v6), Google (v6), Oracle (v6), Scaleway (v6), Alibaba, Oracle, Azure.
const METADATA: [IpAddr; 11] = [
    IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254)),
    IpAddr::V4(Ipv4Addr::new(169, 254, 170, 2)),
    IpAddr::V4(Ipv4Addr::new(169, 254, 170, 23)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x23)),
    IpAddr::V6(Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xc1, 0, 0, 0, 0, 0xa9fe, 0xa9fe)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0x42, 0, 0, 0, 0, 0, 0x42)),
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    IpAddr::V4(Ipv4Addr::new(192, 0, 0, 192)),
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),
];

/// What an address is for.
enum Kind {
    Public,
    Private,
    /// Within this range.
    LinkLocal(IpNet),
    /// Never a server's.
    Never(&'static str),
}

/// Refuses an address that no API server of a tenant cluster can have. An address that hides another (IPv4 inside IPv6) is judged as that one.
pub fn check_server_address(address: IpAddr, policy: &AddressPolicy) -> Result<()> {
    for reached in reached(address) {
        check_one(reached, policy)?;
    }
    Ok(())
}

fn check_one(address: IpAddr, policy: &AddressPolicy) -> Result<()> {
    let refuse = |why: &str| Err(Error::invalid(format!("server address {address} is refused: {why}")));
    if METADATA.contains(&address) {
        let allowed = policy.names(address, &IpNet::from(address));
        return if allowed { Ok(()) } else { refuse("it is a metadata service") };
    }
    match kind(address) {
        Kind::Never(what) => refuse(&format!("it is {what}")),
        Kind::LinkLocal(range) if !policy.names(address, &range) => refuse("it is link-local"),
        Kind::Private if !policy.every_private && !policy.lists(address) => {
            refuse("it is private and in none of the allowed ranges (KUBEOP_ALLOW_PRIVATE_SERVERS)")
        }
        _ => Ok(()),
    }
}

fn kind(address: IpAddr) -> Kind {
    match address {
        IpAddr::V4(v4) => {
            let [a, b, c, _] = v4.octets();
            match (a, b, c) {
                (0, ..) => Kind::Never("unspecified"),
                (169, 254, _) => Kind::LinkLocal(v4_range([169, 254, 0, 0], 16)),
                (224.., ..) => Kind::Never("multicast or reserved"),
                // Shared (RFC 6598), protocol assignments (RFC 6890), benchmarks (RFC 2544).
                (100, 64..128, _) | (192, 0, 0) | (198, 18..20, _) => Kind::Private,
                _ if v4.is_private() || v4.is_loopback() => Kind::Private,
                _ => Kind::Public,
            }
        }
        IpAddr::V6(v6) => match v6.segments()[0] {
            _ if v6.is_unspecified() => Kind::Never("unspecified"),
            _ if v6.is_multicast() => Kind::Never("multicast"),
            // Teredo (RFC 4380): the way there is a relay's to choose.
            0x2001 if v6.segments()[1] == 0 => Kind::Never("a tunnel"),
            0xfe80..0xfec0 => Kind::LinkLocal(v6_range(0xfe80, 10)),
            // Site-local (RFC 3879), unique local.
            0xfec0..0xff00 | 0xfc00..0xfe00 => Kind::Private,
            _ if v6.is_loopback() => Kind::Private,
            _ => Kind::Public,
        },
    }
}

fn v4_range(octets: [u8; 4], prefix: u8) -> IpNet {
    IpNet::new_assert(IpAddr::V4(octets.into()), prefix)
}

fn v6_range(first: u16, prefix: u8) -> IpNet {
    IpNet::new_assert(IpAddr::V6(Ipv6Addr::new(first, 0, 0, 0, 0, 0, 0, 0)), prefix)
}

/// Every address that this one may lead to: itself, or the IPv4 address it stands for.
fn reached(address: IpAddr) -> Vec<IpAddr> {
    let IpAddr::V6(v6) = address.to_canonical() else { return vec![address.to_canonical()] };
    let octets = v6.octets();
    let v4 = |at: [usize; 4]| IpAddr::V4(Ipv4Addr::from(at.map(|index| octets.get(index).copied().unwrap_or(0))));
    let last = || v4([12, 13, 14, 15]);
    match v6.segments() {
        // Compatible with IPv4 (RFC 4291 §2.5.5.1), which some systems still connect to; mapped in SIIT (RFC 2765); the well-known prefix of
        // NAT64 (RFC 6052).
        [0, 0, 0, 0, 0, 0, high, low] if high != 0 || low > 1 => vec![last()],
        [0, 0, 0, 0, 0xffff, 0, ..] | [0x64, 0xff9b, 0, 0, 0, 0, ..] => vec![last()],
        // NAT64 for local use (RFC 8215): where the address stands depends on the length of the prefix.
        [0x64, 0xff9b, 1, ..] => vec![v4([6, 7, 9, 10]), v4([7, 9, 10, 11]), v4([9, 10, 11, 12]), last()],
        // 6to4 (RFC 3056).
        [0x2002, ..] => vec![v4([2, 3, 4, 5])],
        _ => vec![IpAddr::V6(v6)],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(text: &str, policy: &str) -> bool {
        check_server_address(text.parse().unwrap(), &AddressPolicy::parse(policy).unwrap()).is_ok()
    }

    #[test]
    fn addresses() {
        for (text, by_all, by_some) in [
            ("8.8.8.8", true, true),
            ("10.1.2.3", true, true),
            ("10.2.2.3", true, false),
            ("172.31.0.1", true, false),
            ("192.168.0.1", true, false),
            ("127.0.0.1", true, false),
            ("127.255.255.254", true, false),
            ("198.18.0.1", true, false),
            ("192.0.0.8", true, false),
            ("::1", true, false),
            ("::ffff:10.2.0.1", true, false),
            ("::ffff:10.1.0.1", true, true),
            ("::10.2.0.1", true, false),
            ("::10.1.0.1", true, true),
            ("::ffff:0:10.2.0.1", true, false),
            ("100.64.0.1", true, false),
            ("100.127.255.255", true, false),
            ("100.128.0.1", true, true),
            ("fd12::1", true, false),
            ("fec0::1", true, false),
            ("2606:4700::1111", true, true),
            ("2002:0a02:0001::1", true, false),
            ("2002:0808:0808::1", true, true),
            ("64:ff9b::8.8.8.8", true, true),
            ("64:ff9b::10.2.0.1", true, false),
            ("64:ff9b:1::10.2.0.1", false, false),
            ("169.254.169.254", false, false),
            ("169.254.0.1", false, false),
            ("::ffff:169.254.169.254", false, false),
            ("::169.254.169.254", false, false),
            ("64:ff9b::a9fe:a9fe", false, false),
            ("64:ff9b:1:fe:a9:fea9:fe00::", false, false),
            ("64:ff9b:1:a9fe:a9:fe00::", false, false),
            ("2002:a9fe:a9fe::1", false, false),
            ("2001:0:a9fe:a9fe::1", false, false),
            ("fe80::1", false, false),
            ("febf::1", false, false),
            ("fd00:ec2::254", false, false),
            ("100.100.100.200", false, false),
            ("168.63.129.16", false, false),
            ("192.0.0.192", false, false),
            ("0.0.0.0", false, false),
            ("0.1.2.3", false, false),
            ("::", false, false),
            ("::ffff:0.0.0.0", false, false),
            ("224.0.0.1", false, false),
            ("240.0.0.1", false, false),
            ("255.255.255.255", false, false),
            ("ff02::1", false, false),
        ] {
            assert_eq!(allowed(text, "all"), by_all, "{text}");
            assert_eq!(allowed(text, "10.1.0.0/16"), by_some, "{text}");
            assert!(allowed(text, "none") <= by_some, "{text}");
        }
    }

    #[test]
    fn link_local_and_metadata_addresses_have_to_be_listed_by_themselves() {
        for wide in ["all,0.0.0.0/0,::/0", "169.0.0.0/8,100.0.0.0/8,fe00::/7"] {
            for text in ["169.254.169.254", "169.254.7.7", "fe80::1", "100.100.100.200"] {
                assert!(!allowed(text, wide), "{text} by {wide}");
            }
        }
        assert!(allowed("169.254.7.7", "169.254.7.0/24") && allowed("fe80::1", "fe80::/10"));
        assert!(!allowed("169.254.169.254", "169.254.0.0/16"));
        assert!(allowed("169.254.169.254", "169.254.169.254") && allowed("100.100.100.200", "100.100.100.200/32"));
        assert!(allowed("::ffff:169.254.7.7", "169.254.7.0/24"));
        assert!(!allowed("127.0.0.1", "169.254.7.0/24"));
        assert!(!allowed("0.0.0.0", "0.0.0.0/8,0.0.0.0"), "never a server's");
    }

    #[test]
    fn the_variable() {
        assert_eq!(AddressPolicy::parse("all").unwrap(), AddressPolicy::default());
        assert!(allowed("10.0.0.9", " 10.0.0.0/24 , fd00::/8 ") && allowed("fd00::1", "10.0.0.0/24,fd00::/8"));
        // The bits behind the prefix do not count.
        assert!(allowed("10.0.0.9", "10.0.0.7/24"));
        for bad in
            ["", " ", ",", "none,10.0.0.0/8", "10.0.0.0/33", "10.0.0", "ALL", "example.com", "10.0.0.0/8 fd00::/8"]
        {
            assert!(AddressPolicy::parse(bad).is_err(), "{bad:?}");
        }
    }
}
