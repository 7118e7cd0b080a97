//! Invoice arithmetic: summed usage times the rates in effect.
//!
//! Invariant: each line is rounded once, half away from zero, to the currency's minor unit; the subtotal is the sum of the rounded lines.

use crate::id::ProjectId;
use crate::price::{Currency, PriceBook};
use crate::usage::Meter;
use crate::{Error, Result};
use jiff::Timestamp;
use rust_decimal::{Decimal, RoundingStrategy};
use std::collections::BTreeMap;

/// Usage of one project (or of none) summed over a span in which no price changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Of which project.
    pub project: Option<ProjectId>,
    /// The start of the span.
    pub from: Timestamp,
    /// Millicore-hours.
    pub cpu_milli: i128,
    /// MiB-hours.
    pub mem_mib: i128,
}

/// One line of an invoice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// What is billed.
    pub meter: Meter,
    /// Of which project, if it is told.
    pub project: Option<ProjectId>,
    /// How much, in the meter's unit.
    pub quantity: Decimal,
    /// Amount per unit.
    pub rate: Decimal,
    /// `quantity * rate`, rounded to the currency's minor unit.
    pub amount: Decimal,
}

/// The money part of an invoice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bill {
    /// In which currency.
    pub currency: Currency,
    /// Its lines, by meter, project and time.
    pub lines: Vec<Line>,
    /// The sum of the lines.
    pub subtotal: Decimal,
}

/// Prices usage. Spans under the same rate join into one line, so that a rate that did not change costs no second rounding.
///
/// # Errors
/// `Internal` where no price is known or a sum leaves the range of exact decimals.
pub fn bill(usage: &[Usage], prices: &PriceBook, currency: Currency) -> Result<Bill> {
    let mut quantities: BTreeMap<(Meter, Option<ProjectId>, Decimal), i128> = BTreeMap::new();
    for span in usage {
        for meter in Meter::ALL {
            let quantity = match meter {
                Meter::CpuMilli => span.cpu_milli,
                Meter::MemMib => span.mem_mib,
            };
            let price = prices
                .at(meter, span.from)
                .ok_or_else(|| Error::internal(format!("no price of {} at {}", meter.name(), span.from)))?;
            if price.currency != currency {
                return Err(Error::internal(format!("price in {} on an invoice in {currency}", price.currency)));
            }
            let sum = quantities.entry((meter, span.project, price.rate)).or_default();
            *sum = sum.checked_add(quantity).ok_or_else(out_of_range)?;
        }
    }
    let digits = currency.minor_digits();
    let mut lines = Vec::with_capacity(quantities.len());
    let mut subtotal = Decimal::new(0, digits);
    for ((meter, project, rate), quantity) in quantities {
        if quantity == 0 {
            continue;
        }
        let (quantity, amount) = price_line(quantity, rate, digits)?;
        subtotal = subtotal.checked_add(amount).ok_or_else(out_of_range)?;
        lines.push(Line { meter, project, quantity, rate, amount });
    }
    subtotal.rescale(digits);
    Ok(Bill { currency, lines, subtotal })
}

/// The exact product in integers, rounded once: a decimal product would already be rounded to 28 digits.
fn price_line(quantity: i128, rate: Decimal, digits: u32) -> Result<(Decimal, Decimal)> {
    let exact = quantity.checked_mul(rate.mantissa()).ok_or_else(out_of_range)?;
    let cut = rate.scale().saturating_sub(digits);
    let divisor = 10_i128.checked_pow(cut).ok_or_else(out_of_range)?;
    let half = divisor / 2;
    let rounded =
        if cut == 0 { exact } else { exact.checked_add(half * exact.signum()).ok_or_else(out_of_range)? / divisor };
    let mut amount =
        Decimal::try_from_i128_with_scale(rounded, rate.scale().min(digits)).map_err(|_| out_of_range())?;
    amount.rescale(digits);
    let amount = amount.round_dp_with_strategy(digits, RoundingStrategy::MidpointAwayFromZero);
    let quantity = Decimal::try_from_i128_with_scale(quantity, 0).map_err(|_| out_of_range())?;
    Ok((quantity, amount))
}

fn out_of_range() -> Error {
    Error::internal("an invoice's sum leaves the range of exact decimals")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::price::{Price, parse_rate};
    use proptest::prelude::*;

    fn book(cpu: &str, mem: &str) -> PriceBook {
        let price = |meter, rate| Price {
            meter,
            effective_from: Timestamp::UNIX_EPOCH,
            rate: parse_rate(rate).unwrap(),
            currency: usd(),
        };
        PriceBook::new(vec![price(Meter::CpuMilli, cpu), price(Meter::MemMib, mem)])
    }

    fn usd() -> Currency {
        Currency::parse("USD").unwrap()
    }

    fn span(cpu_milli: i128, mem_mib: i128) -> Usage {
        Usage { project: None, from: "2026-01-01T00:00:00Z".parse().unwrap(), cpu_milli, mem_mib }
    }

    #[test]
    fn half_a_cent_rounds_away_from_zero_once_per_line() {
        let bill = bill(&[span(5, 0)], &book("0.001", "0"), usd()).unwrap();
        assert_eq!(bill.lines[0].amount.to_string(), "0.01");
        assert_eq!(bill.subtotal.to_string(), "0.01");
    }

    #[test]
    fn the_seed_s_sample_is_exact() {
        let bill = bill(&[span(500, 1024)], &book("0.000001", "0.0000002"), usd()).unwrap();
        let line = &bill.lines[0];
        assert_eq!(
            (line.quantity.to_string(), line.rate.to_string(), line.amount.to_string()),
            ("500".into(), "0.000001".into(), "0.00".into())
        );
        assert_eq!(bill.subtotal.to_string(), "0.00");
    }

    #[test]
    fn a_currency_without_minor_unit_has_whole_amounts() {
        let (_, amount) = price_line(5, parse_rate("0.5").unwrap(), 0).unwrap();
        assert_eq!(amount.to_string(), "3");
    }

    proptest! {
        #[test]
        fn order_and_splitting_never_change_an_invoice(parts in proptest::collection::vec(0i64..1_000_000_000_000, 1..20)) {
            let prices = book("0.000001", "0.0000002");
            let spans: Vec<Usage> = parts.iter().map(|n| span(i128::from(*n), i128::from(*n))).collect();
            let mut turned = spans.clone();
            turned.reverse();
            let whole: i128 = parts.iter().map(|n| i128::from(*n)).sum();
            let joined = bill(&[span(whole, whole)], &prices, usd()).unwrap();
            prop_assert_eq!(&bill(&spans, &prices, usd()).unwrap(), &joined);
            prop_assert_eq!(&bill(&turned, &prices, usd()).unwrap(), &joined);
            let sum: Decimal = joined.lines.iter().map(|line| line.amount).sum();
            prop_assert_eq!(sum, joined.subtotal);
        }
    }
}
