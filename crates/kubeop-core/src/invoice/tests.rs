//! Tests of invoice arithmetic.
//!
//! Invariant: what is claimed of rounding and of corrections is tried on random usage, against arithmetic of another kind.

use super::*;
use crate::price::{Price, parse_rate};
use proptest::prelude::*;

/// Rates that change in the middle of January 2026.
fn book(cpu: &str, mem: &str, later: Option<&str>) -> PriceBook {
    let price = |meter, from: &str, rate| Price {
        meter,
        effective_from: from.parse().unwrap(),
        rate: parse_rate(rate).unwrap(),
        currency: usd(),
    };
    let first = "1970-01-01T00:00:00Z";
    let mut entries = vec![price(Meter::CpuMilli, first, cpu), price(Meter::MemMib, first, mem)];
    entries.extend(later.map(|rate| price(Meter::CpuMilli, "2026-01-16T00:00:00Z", rate)));
    PriceBook::new(entries)
}

fn usd() -> Currency {
    Currency::parse("USD").unwrap()
}

fn january() -> Month {
    Month::parse("2026-01").unwrap()
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn span(cpu_milli: i128, mem_mib: i128) -> Usage {
    Usage { project: None, from: at("2026-01-01T00:00:00Z"), cpu_milli, mem_mib }
}

fn late_span(cpu_milli: i128) -> Usage {
    Usage { from: at("2026-01-16T00:00:00Z"), ..span(cpu_milli, 0) }
}

fn one(bill: &Bill) -> (String, String, String) {
    let line = &bill.lines[0];
    (line.quantity.to_string(), line.key.rate.to_string(), line.amount.to_string())
}

#[test]
fn half_a_cent_rounds_away_from_zero_once_per_line() {
    let bill = bill(&[span(5, 0)], &[], &book("0.001", "0", None), usd()).unwrap();
    assert_eq!(bill.lines[0].amount.to_string(), "0.01");
    assert_eq!((bill.subtotal.to_string(), bill.total.to_string()), ("0.01".into(), "0.01".into()));
    assert_eq!(amount(-5, parse_rate("0.001").unwrap(), 2).unwrap().to_string(), "-0.01");
    assert_eq!(amount(-4, parse_rate("0.001").unwrap(), 2).unwrap().to_string(), "0.00");
}

#[test]
fn the_seed_s_sample_is_exact() {
    let bill = bill(&[span(500, 1024)], &[], &book("0.000001", "0.0000002", None), usd()).unwrap();
    assert_eq!(one(&bill), ("500".into(), "0.000001".into(), "0.00".into()));
    assert_eq!(bill.subtotal.to_string(), "0.00");
}

#[test]
fn a_currency_without_minor_unit_has_whole_amounts() {
    assert_eq!(amount(5, parse_rate("0.5").unwrap(), 0).unwrap().to_string(), "3");
    assert_eq!(amount(5, parse_rate("7").unwrap(), 3).unwrap().to_string(), "35.000");
}

#[test]
fn a_rate_that_changes_within_the_month_splits_the_line_and_one_that_comes_back_does_not() {
    let usage = [span(10, 0), late_span(10)];
    let split = bill(&usage, &[], &book("1", "0", Some("2")), usd()).unwrap();
    let amounts: Vec<String> = split.lines.iter().map(|line| line.amount.to_string()).collect();
    assert_eq!(amounts, ["10.00", "20.00"]);
    let joined = bill(&usage, &[], &book("1", "0", Some("1.0")), usd()).unwrap();
    assert_eq!(joined.lines.len(), 1);
}

#[test]
fn a_correction_is_the_difference_at_the_rate_of_its_time() {
    let prices = book("1", "0", Some("2"));
    let billed = quantities(&[span(10, 0), late_span(10)], &prices, usd()).unwrap();
    let now = vec![span(7, 0), late_span(15)];
    let correction = Correction { month: january(), usage: now, billed };
    let bill = bill(&[], &[correction], &prices, usd()).unwrap();
    let shown: Vec<_> = bill.lines.iter().map(|line| (line.corrects, line.quantity, line.amount.to_string())).collect();
    assert_eq!(shown, [(Some(january()), -3, "-3.00".into()), (Some(january()), 5, "10.00".into())]);
    assert_eq!((bill.subtotal.to_string(), bill.adjustments.to_string()), ("0.00".into(), "7.00".into()));
    assert_eq!(bill.total.to_string(), "7.00");
}

/// A tenant could be sent this many units by 10,000 sources that each report the most for a whole month.
#[test]
fn the_largest_usage_at_the_largest_rate_does_not_overflow() {
    let most = 10_000 * 744 * i128::from(crate::usage::MAX_VALUE);
    let bill = bill(&[span(most, most)], &[], &book("999999.999999999999999999", "1000000", None), usd()).unwrap();
    assert_eq!(bill.lines[1].amount.to_string(), "7440000000000000000000000.00");
}

proptest! {
    #[test]
    fn order_and_splitting_never_change_an_invoice(parts in proptest::collection::vec(0i64..1_000_000_000_000, 1..20)) {
        let prices = book("0.000001", "0.0000002", None);
        let spans: Vec<Usage> = parts.iter().map(|n| span(i128::from(*n), i128::from(*n))).collect();
        let mut turned = spans.clone();
        turned.reverse();
        let whole: i128 = parts.iter().map(|n| i128::from(*n)).sum();
        let joined = bill(&[span(whole, whole)], &[], &prices, usd()).unwrap();
        prop_assert_eq!(&bill(&spans, &[], &prices, usd()).unwrap(), &joined);
        prop_assert_eq!(&bill(&turned, &[], &prices, usd()).unwrap(), &joined);
        let sum: Decimal = joined.lines.iter().map(|line| line.amount).sum();
        prop_assert_eq!(sum, joined.total);
    }

    /// Against text: the decimal point of the exact product is moved, and the digits behind it decide.
    #[test]
    fn an_amount_is_the_nearest_minor_unit(quantity in -1_000_000_000_000_000i128..1_000_000_000_000_000, mantissa in 0i64..1_000_000_000, scale in 3u32..12) {
        let exact = (quantity.abs() * i128::from(mantissa)).to_string();
        let cut = usize::try_from(scale - 2).unwrap();
        let padded = format!("{exact:0>width$}", width = cut + 1);
        let (whole, rest) = padded.split_at(padded.len() - cut);
        let up = i128::from(rest.as_bytes()[0] >= b'5');
        let minor = quantity.signum() * (whole.parse::<i128>().unwrap() + up);
        let rate = Decimal::new(mantissa, scale);
        prop_assert_eq!(amount(quantity, rate, 2).unwrap(), Decimal::from_i128_with_scale(minor, 2));
    }

    /// However usage changes between closings: what all invoices bill together is what the last state comes to, in quantities exactly,
    /// in money up to half a minor unit a line.
    #[test]
    fn corrections_add_up_to_the_usage(states in proptest::collection::vec((0i128..1_000_000, 0i128..1_000_000), 1..8)) {
        let prices = book("0.0173", "0", Some("0.0291"));
        let (mut billed, mut money, mut lines) = (Quantities::new(), Decimal::ZERO, 0_i64);
        let mut last = Vec::new();
        for (early, late) in states {
            last = vec![span(early, 0), late_span(late)];
            let correction = Correction { month: january(), usage: last.clone(), billed: billed.clone() };
            let next = bill(&[], std::slice::from_ref(&correction), &prices, usd()).unwrap();
            for line in &next.lines {
                *billed.entry(line.key).or_default() += line.quantity;
            }
            money += next.total;
            lines += i64::try_from(next.lines.len()).unwrap();
            // Once billed, nothing is left to correct.
            let again = bill(&[], &[Correction { billed: billed.clone(), ..correction }], &prices, usd()).unwrap();
            prop_assert!(again.lines.is_empty());
        }
        billed.retain(|_, quantity| *quantity != 0);
        let mut truth = quantities(&last, &prices, usd()).unwrap();
        truth.retain(|_, quantity| *quantity != 0);
        prop_assert_eq!(&billed, &truth);
        let exact: Decimal = truth.iter().map(|(key, quantity)| key.rate * Decimal::from_i128_with_scale(*quantity, 0)).sum();
        prop_assert!((money - exact).abs() <= Decimal::new(5, 3) * Decimal::from(lines));
    }
}
