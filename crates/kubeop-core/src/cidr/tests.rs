//! Tables and laws of ranges and sets.

use super::*;
use proptest::prelude::*;

fn cidr(text: &str) -> Cidr {
    Cidr::parse(text).unwrap()
}

fn set(texts: &[&str]) -> CidrSet {
    texts.iter().map(|text| cidr(text)).collect()
}

#[test]
fn canonical_ranges_are_taken_as_written() {
    for good in [
        "0.0.0.0/0",
        "10.0.0.0/8",
        "169.254.169.254/32",
        "::/0",
        "fd00::/8",
        "fd00:ec2::254/128",
        "::/96",
        "64:ff9b::/96",
    ] {
        assert_eq!(cidr(good).to_string(), good);
    }
}

#[test]
fn everything_else_is_refused_with_a_sentence() {
    for (bad, says) in [
        ("10.0.0.1/8", "write 10.0.0.0/8"),
        ("fd00::1/8", "write fd00::/8"),
        ("FD00::/8", "write fd00::/8"),
        ("fd00:0:0::/8", "write fd00::/8"),
        ("010.0.0.0/8", "leading zeros"),
        ("10.0.0.00/8", "leading zeros"),
        ("10.0.0.0/08", "leading zeros"),
        ("0.0.0.0/00", "leading zeros"),
        ("::ffff:10.0.0.0/104", "write the IPv4 range itself"),
        ("::ffff:a00:0/104", "write the IPv4 range itself"),
        ("::ffff:0.0.0.0/96", "write the IPv4 range itself"),
        ("::ffff:0:0/0", "write the IPv4 range itself"),
        ("10.0.0.0", "the length is missing"),
        ("10.0.0.0/33", "out of range"),
        ("::/129", "out of range"),
        ("::/256", "out of range"),
        ("10.0.0.0/+8", "are needed"),
        ("10.0.0.0/-8", "are needed"),
        ("10.0.0.0/", "are needed"),
        ("10.0.0.0/8/8", "are needed"),
        (" 10.0.0.0/8", "are needed"),
        ("10.0.0.0/8 ", "are needed"),
        ("10.0.0.0/8\n", "are needed"),
        ("10.0.0.0/8\0", "are needed"),
        ("10.0/8", "are needed"),
        ("10/8", "are needed"),
        ("0x0a.0.0.0/8", "are needed"),
        ("fe80::1%eth0/64", "are needed"),
        ("[::]/0", "are needed"),
        ("١٠.0.0.0/8", "are needed"),
        ("", "the length is missing"),
        ("/", "are needed"),
        (&"1".repeat(100_000), "are needed"),
    ] {
        let error = Cidr::parse(bad).unwrap_err();
        assert!(error.message().contains(says), "{bad:.40}: {error}");
        assert!(error.message().len() < 300, "{bad:.40}");
    }
}

#[test]
fn what_the_api_server_takes_is_read_as_the_range_it_may_open() {
    for (text, opens) in [
        ("10.0.0.1/8", "10.0.0.0/8"),
        ("8.8.8.8/0", "0.0.0.0/0"),
        ("FD00::1/8", "fd00::/8"),
        ("::ffff:0.0.0.0/96", "0.0.0.0/0"),
        ("::ffff:8.8.8.8/128", "8.8.8.8/32"),
        ("::ffff:8.8.8.8/97", "0.0.0.0/1"),
        ("::ffff:a9fe:a9fe/128", "169.254.169.254/32"),
        ("::1.2.3.4/128", "::102:304/128"),
        ("::/0", "::/0"),
    ] {
        assert_eq!(Cidr::parse_for_decision(text).unwrap(), cidr(opens), "{text}");
    }
    for unknown in
        ["010.0.0.0/8", "10.0.0.0/08", "::ffff:10.0.0.0/95", "::ffff:0.0.0.0/0", "10.0.0.0", "any", "", "fe80::%1/64"]
    {
        assert!(Cidr::parse_for_decision(unknown).is_err(), "{unknown}");
    }
}

#[test]
fn ranges_that_join_up_contain_what_spans_them() {
    let halves = set(&["0.0.0.0/1", "128.0.0.0/1"]);
    assert!(halves.contains(&cidr("0.0.0.0/0")));
    assert!(!halves.contains(&cidr("::/0")));
    assert_eq!(halves, set(&["0.0.0.0/0"]));
    assert_eq!(set(&["::/1", "8000::/1"]), set(&["::/0"]));
    let gap = set(&["10.0.0.0/9", "10.192.0.0/10"]);
    assert!(!gap.contains(&cidr("10.0.0.0/8")));
    assert!(gap.contains(&cidr("10.1.2.3/32")));
    assert!(!gap.contains(&cidr("10.128.0.0/32")));
    assert!(!CidrSet::default().contains(&cidr("10.0.0.0/32")));
}

#[test]
fn subtraction_is_exact_at_the_edges() {
    let metadata = set(&["169.254.169.254/32", "fd00:ec2::254/128"]);
    let rest = CidrSet::everything().without(&metadata);
    assert!(!rest.contains(&cidr("169.254.169.254/32")) && !rest.contains(&cidr("169.254.0.0/16")));
    assert!(rest.contains(&cidr("169.254.169.255/32")) && rest.contains(&cidr("169.254.169.253/32")));
    assert!(!rest.contains(&cidr("fd00:ec2::/32")) && rest.contains(&cidr("fe00::/7")));
    assert!(set(&["0.0.0.0/0"]).without(&set(&["0.0.0.0/0"])).is_empty());
    assert_eq!(
        set(&["::/0"]).without(&set(&["::/1", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff/128"])).ranges().next(),
        Some(cidr("8000::/2"))
    );
    assert_eq!(set(&["10.0.0.0/30"]).without(&set(&["10.0.0.1/32"])), set(&["10.0.0.0/32", "10.0.0.2/31"]));
}

/// Few distinct addresses, so that ranges often touch and overlap.
fn small_cidr() -> impl Strategy<Value = Cidr> {
    (0_u32..64, 26_u8..=32, any::<bool>()).prop_map(|(low, length, v6)| {
        let net = if v6 {
            IpNet::new(Ipv6Addr::from(u128::from(low)).into(), length + 96)
        } else {
            IpNet::new(std::net::Ipv4Addr::from(low).into(), length)
        };
        Cidr(net.unwrap().trunc())
    })
}

fn addresses(ranges: &[Cidr]) -> std::collections::BTreeSet<(bool, u128)> {
    ranges.iter().flat_map(|r| (r.bounds().0..=r.bounds().1).map(|a| (r.is_v6(), a))).collect()
}

proptest! {
    #[test]
    fn no_text_panics(text in ".{0,80}") {
        let _ = Cidr::parse(&text);
        let _ = Cidr::parse_for_decision(&text);
    }

    #[test]
    fn near_misses_neither_panic_nor_disagree(text in "[0-9a-f:.]{0,20}/[0-9]{0,3}") {
        if let Ok(range) = Cidr::parse(&text) {
            prop_assert_eq!(range.to_string(), text.clone());
            prop_assert_eq!(Cidr::parse_for_decision(&text).unwrap(), range);
        }
        if let Ok(range) = Cidr::parse_for_decision(&text) {
            prop_assert_eq!(Cidr::parse(&range.to_string()).unwrap(), range);
        }
    }

    #[test]
    fn sets_are_the_sets_of_their_addresses(a in proptest::collection::vec(small_cidr(), 0..6), b in proptest::collection::vec(small_cidr(), 0..6), c in small_cidr()) {
        let (left, right): (CidrSet, CidrSet) = (a.iter().copied().collect(), b.iter().copied().collect());
        let (set_a, set_b) = (addresses(&a), addresses(&b));
        prop_assert_eq!(left.contains(&c), addresses(&[c]).is_subset(&set_a));
        prop_assert_eq!(left.contains_all(&right), set_b.is_subset(&set_a));
        prop_assert_eq!(addresses(&left.without(&right).ranges().collect::<Vec<_>>()), &set_a - &set_b);
        prop_assert_eq!(addresses(&left.intersection(&right).ranges().collect::<Vec<_>>()), &set_a & &set_b);
        prop_assert_eq!(left.intersects(&right), !set_a.is_disjoint(&set_b));
        prop_assert_eq!(left.ranges().collect::<CidrSet>(), left);
    }
}
