//! Which addresses a registered API server may have.
//!
//! Invariant: every address is judged in its canonical form at the moment of connecting, after name resolution, so that a name cannot lead
//! elsewhere later.

use ipnet::IpNet;
use kubeop_core::{Error, Result};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The policy: link-local and metadata addresses never; private ones all, or only those listed.
#[derive(Clone, Debug, Default)]
pub struct AddressPolicy {
    private: Option<Vec<IpNet>>,
}

impl AddressPolicy {
    /// Private addresses only from these ranges; `None` = all of them.
    pub fn new(private: Option<Vec<IpNet>>) -> Self {
        Self { private }
    }
}

/// Metadata services outside the link-local range: AWS (v6), Alibaba, Oracle, Azure.
const METADATA: [IpAddr; 4] = [
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    IpAddr::V4(Ipv4Addr::new(192, 0, 0, 192)),
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),
];

/// Refuses an address that no API server of a tenant cluster can have.
pub fn check_server_address(address: IpAddr, policy: &AddressPolicy) -> Result<()> {
    let address = canonical(address);
    let refuse = |why: &str| Err(Error::invalid(format!("server address {address} is refused: {why}")));
    if METADATA.contains(&address) {
        return refuse("it is a metadata service");
    }
    let (special, private) = match address {
        IpAddr::V4(v4) => {
            let octets = v4.octets();
            let special = if v4.is_link_local() {
                Some("link-local")
            } else if octets[0] == 0 {
                Some("unspecified")
            } else if v4.is_multicast() || octets[0] >= 240 {
                Some("multicast or reserved")
            } else {
                None
            };
            let shared = octets[0] == 100 && (64..128).contains(&octets[1]);
            (special, v4.is_private() || v4.is_loopback() || shared)
        }
        IpAddr::V6(v6) => {
            let special = if v6.is_unicast_link_local() {
                Some("link-local")
            } else if v6.is_unspecified() {
                Some("unspecified")
            } else if v6.is_multicast() {
                Some("multicast")
            } else {
                None
            };
            (special, v6.is_unique_local() || v6.is_loopback())
        }
    };
    if let Some(why) = special {
        return refuse(&format!("it is {why}"));
    }
    match &policy.private {
        Some(ranges) if private && !ranges.iter().any(|range| range.contains(&address)) => {
            refuse("it is private and in none of the allowed ranges (KUBEOP_ALLOW_PRIVATE_SERVERS)")
        }
        _ => Ok(()),
    }
}

/// IPv4 inside IPv6 (mapped; RFC 6052 NAT64) is the IPv4 address that it reaches.
fn canonical(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) if v6.segments()[..6] == [0x64, 0xff9b, 0, 0, 0, 0] => {
            let [.., a, b, c, d] = v6.octets();
            IpAddr::V4(Ipv4Addr::new(a, b, c, d))
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        let all = AddressPolicy::default();
        let some = AddressPolicy::new(Some(vec!["10.1.0.0/16".parse().unwrap()]));
        for (text, by_all, by_some) in [
            ("8.8.8.8", true, true),
            ("10.1.2.3", true, true),
            ("10.2.2.3", true, false),
            ("127.0.0.1", true, false),
            ("::1", true, false),
            ("::ffff:10.2.0.1", true, false),
            ("::ffff:10.1.0.1", true, true),
            ("100.64.0.1", true, false),
            ("fd12::1", true, false),
            ("2606:4700::1111", true, true),
            ("169.254.169.254", false, false),
            ("::ffff:169.254.169.254", false, false),
            ("64:ff9b::a9fe:a9fe", false, false),
            ("fe80::1", false, false),
            ("fd00:ec2::254", false, false),
            ("100.100.100.200", false, false),
            ("168.63.129.16", false, false),
            ("0.0.0.0", false, false),
            ("::", false, false),
            ("224.0.0.1", false, false),
            ("255.255.255.255", false, false),
            ("ff02::1", false, false),
        ] {
            let address: IpAddr = text.parse().unwrap();
            assert_eq!(check_server_address(address, &all).is_ok(), by_all, "{text}");
            assert_eq!(check_server_address(address, &some).is_ok(), by_some, "{text}");
        }
    }
}
