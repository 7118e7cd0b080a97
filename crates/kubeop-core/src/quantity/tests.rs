//! What quantities are read as, written as, and refused for.

use super::*;
use proptest::prelude::*;

fn nanos(text: &str) -> i128 {
    Quantity::parse(text).unwrap_or_else(|e| panic!("{text}: {e}")).nanos()
}

#[test]
fn the_grammar() {
    for (text, expected) in [
        ("0", 0),
        ("1", NANO),
        ("+1", NANO),
        ("-1", -NANO),
        ("1.", NANO),
        (".5", NANO / 2),
        ("500m", NANO / 2),
        ("1e3", 1000 * NANO),
        ("1E3", 1000 * NANO),
        ("1E", 1_000_000_000_000_000_000 * NANO),
        ("1e-3", 1_000_000),
        ("1e+3", 1000 * NANO),
        ("1Ki", 1024 * NANO),
        ("1.5Gi", 1_610_612_736 * NANO),
        ("0.1n", 1),
        ("-0.1n", -1),
        ("1n", 1),
        ("0e99", 0),
        ("1e-99", 1),
        ("1e-03", 1_000_000),
        ("00000000000000000000000000000000000000000000000000000000001", NANO),
        // What Kubernetes makes of them (kubectl 1.36): every digit counts.
        ("0.00000000000000000001e20", NANO),
        ("0.0000000000000000001e23", 10_000 * NANO),
        ("0.0000000000000000019Ei", 2_190_550_859),
        ("0.0000000000000000019E", 1_900_000_000),
        ("0.000000000001Ki", 2),
        (".0001Ki", 102_400_000),
        ("200000000000000000000000000000000000000e-30", 200_000_000 * NANO),
        ("9223372036854775807", MAX_NANOS),
        ("0.0000000000000000000000001", 1),
    ] {
        assert_eq!(nanos(text), expected, "{text}");
    }
    for bad in [
        "",
        "+",
        "-",
        ".",
        "1.2.3",
        "1K",
        "1 Gi",
        " 1",
        "1e",
        "1Ee3",
        "1gi",
        "0x10",
        "1e2147483648",
        "1e-2147483648",
        "0e2147483648",
        "10000e-4294967296",
        "1e-100",
        "1e20",
        "1e99",
        "0.0000000000000000000000000000000000000000000000000000001e99",
        "1_000",
        "١",
        "9223372036854775808",
        "NaN",
        "8Ei ",
        "10Ei",
        "--1",
        "+-1",
        "1m1",
    ] {
        assert!(Quantity::parse(bad).is_err(), "{bad}");
    }
    assert!(Quantity::parse(&"9".repeat(100_000)).is_err());
}

#[test]
fn equal_amounts_in_other_words_are_equal() {
    assert_eq!(Quantity::parse("1000m").unwrap(), Quantity::parse("1").unwrap());
    assert_eq!(Quantity::parse("1Gi").unwrap(), Quantity::parse("1024Mi").unwrap());
    assert!(Quantity::parse("1G").unwrap() < Quantity::parse("1Gi").unwrap());
}

#[test]
fn canonical_is_what_kubernetes_writes_back() {
    for (text, canonical) in [
        ("0", "0"),
        ("0Ki", "0"),
        ("0.5", "500m"),
        ("1000m", "1"),
        ("1000", "1k"),
        ("1500", "1500"),
        ("1e3", "1k"),
        ("4000", "4k"),
        ("1024Mi", "1Gi"),
        ("1025Ki", "1025Ki"),
        ("1024", "1024"),
        ("0.5Ki", "512"),
        ("1.5Gi", "1536Mi"),
        ("2048Pi", "2Ei"),
        ("1.0001Ki", "1024102400u"),
        ("-2048Ki", "-2Mi"),
        ("9223372036854775807", "9223372036854775807"),
        ("1n", "1n"),
        ("1000000E-6", "1"),
    ] {
        assert_eq!(Quantity::parse(text).unwrap().canonical(), canonical, "{text}");
    }
}

proptest! {
    /// Against arithmetic that is slow and obvious: whole numbers of 10^-99 units.
    #[test]
    fn every_digit_counts(whole in "[0-9]{0,10}", fraction in "[0-9]{0,24}", suffix in 0usize..16) {
        prop_assume!(!whole.is_empty() || !fraction.is_empty());
        let suffixes = ["", "n", "u", "m", "k", "M", "G", "Ki", "Mi", "Gi", "Ti", "e3", "E-9", "e-15", "e5", "P"];
        let text = format!("{whole}.{fraction}{}", suffixes[suffix]);
        let (power, shift) = scale(suffixes[suffix]).unwrap();
        let number: u128 = format!("0{whole}{fraction}").parse().unwrap();
        let (n, d) = (number.checked_mul(1 << shift), power + 9 - i64::try_from(fraction.len()).unwrap());
        let expected = n.and_then(|n| if d >= 0 {
            n.checked_mul(10_u128.checked_pow(u32::try_from(d).unwrap())?)
        } else {
            Some(n.div_ceil(10_u128.pow(u32::try_from(-d).unwrap())))
        });
        if let Some(expected) = expected {
            let found = Quantity::parse(&text).ok().map(|q| q.nanos().unsigned_abs());
            prop_assert_eq!(found, Some(expected).filter(|e| *e <= MAX_NANOS.unsigned_abs()), "{}", text);
        }
    }

    #[test]
    fn canonical_reads_back(nanos in -MAX_NANOS..MAX_NANOS, binary in any::<bool>()) {
        let quantity = if binary { Quantity::from_nanos_binary(nanos) } else { Quantity::from_nanos(nanos) };
        prop_assert_eq!(Quantity::parse(&quantity.canonical()).unwrap().nanos(), nanos);
    }

    #[test]
    fn no_text_panics(text in ".{0,80}") {
        let _ = Quantity::parse(&text);
    }

    #[test]
    fn written_canonically_it_reads_back(nanos in -MAX_NANOS..MAX_NANOS) {
        prop_assert_eq!(Quantity::parse(Quantity::from_nanos(nanos).as_str()).unwrap().nanos(), nanos);
        prop_assert_eq!(Quantity::parse(Quantity::from_nanos_binary(nanos).as_str()).unwrap().nanos(), nanos);
    }
}
