//! Invoice arithmetic: summed usage times the rates in effect, and corrections of months that are closed.
//!
//! Invariant: each line is rounded once, half away from zero, to the currency's minor unit; totals are sums of rounded lines. A correction
//! is the difference between what a month's usage comes to now and what invoices billed of it, so that it never depends on how often or
//! in which order usage was sent.

use crate::id::ProjectId;
use crate::month::Month;
use crate::price::{Currency, PriceBook};
use crate::usage::Meter;
use crate::{Error, Result};
use jiff::Timestamp;
use rust_decimal::Decimal;
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

/// What makes a line: usage of one meter and project under one rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LineKey {
    /// What is billed.
    pub meter: Meter,
    /// Of which project, if it is told.
    pub project: Option<ProjectId>,
    /// Amount per unit.
    pub rate: Decimal,
}

/// Exact quantities by what makes a line.
pub type Quantities = BTreeMap<LineKey, i128>;

/// A closed month whose usage may have changed since it was billed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Correction {
    /// Which month.
    pub month: Month,
    /// Its usage as it is now.
    pub usage: Vec<Usage>,
    /// What invoices, its own and later ones, billed of it so far.
    pub billed: Quantities,
}

/// One line of an invoice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// The closed month that the line corrects; none: it bills the invoice's own month.
    pub corrects: Option<Month>,
    /// What is billed, of whom, at which rate.
    pub key: LineKey,
    /// How much, in the meter's unit; less than zero only in a correction.
    pub quantity: i128,
    /// `quantity * rate`, rounded to the currency's minor unit.
    pub amount: Decimal,
}

/// The money part of an invoice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bill {
    /// In which currency.
    pub currency: Currency,
    /// Its lines: the month's own by meter, project and rate, then the corrections by month.
    pub lines: Vec<Line>,
    /// The sum of the month's own lines.
    pub subtotal: Decimal,
    /// The sum of the corrections.
    pub adjustments: Decimal,
    /// Both together.
    pub total: Decimal,
}

/// Adds up usage by what makes a line. Spans under the same rate join, so that a rate that did not change costs no second rounding.
///
/// # Errors
/// `Internal` where no price is known, or one in another currency, or a sum leaves 128 bits.
pub fn quantities(usage: &[Usage], prices: &PriceBook, currency: Currency) -> Result<Quantities> {
    let mut sums = Quantities::new();
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
            let sum = sums.entry(LineKey { meter, project: span.project, rate: price.rate }).or_default();
            *sum = sum.checked_add(quantity).ok_or_else(out_of_range)?;
        }
    }
    Ok(sums)
}

/// Makes the bill of a month: its usage, and what is left to correct of closed months.
///
/// # Errors
/// `Internal` as [`quantities`], or if an amount leaves the range of exact decimals.
pub fn bill(usage: &[Usage], corrections: &[Correction], prices: &PriceBook, currency: Currency) -> Result<Bill> {
    let digits = currency.minor_digits();
    let mut lines = Vec::new();
    let subtotal = add_lines(&mut lines, None, quantities(usage, prices, currency)?, digits)?;
    let mut adjustments = zero(digits);
    for correction in corrections {
        let mut left = quantities(&correction.usage, prices, currency)?;
        for (key, billed) in &correction.billed {
            let sum = left.entry(*key).or_default();
            *sum = sum.checked_sub(*billed).ok_or_else(out_of_range)?;
        }
        let sum = add_lines(&mut lines, Some(correction.month), left, digits)?;
        adjustments = adjustments.checked_add(sum).ok_or_else(out_of_range)?;
    }
    let total = subtotal.checked_add(adjustments).ok_or_else(out_of_range)?;
    Ok(Bill { currency, lines, subtotal, adjustments, total })
}

/// Appends a line for each quantity that is not zero; the sum of their amounts.
fn add_lines(lines: &mut Vec<Line>, corrects: Option<Month>, sums: Quantities, digits: u32) -> Result<Decimal> {
    let mut sum = zero(digits);
    for (key, quantity) in sums.into_iter().filter(|(_, quantity)| *quantity != 0) {
        let amount = amount(quantity, key.rate, digits)?;
        sum = sum.checked_add(amount).ok_or_else(out_of_range)?;
        lines.push(Line { corrects, key, quantity, amount });
    }
    Ok(sum)
}

fn zero(digits: u32) -> Decimal {
    Decimal::new(0, digits)
}

/// The exact product in integers, rounded once, half away from zero (a decimal product would be rounded to 28 digits before). The rate's
/// whole minor units and the rest are multiplied apart, so that no invoice that fits a decimal overflows on the way.
fn amount(quantity: i128, rate: Decimal, digits: u32) -> Result<Decimal> {
    let rate = rate.normalize();
    let lift = 10_i128.checked_pow(digits.saturating_sub(rate.scale())).ok_or_else(out_of_range)?;
    let divisor = 10_i128.checked_pow(rate.scale().saturating_sub(digits)).ok_or_else(out_of_range)?;
    let mantissa = rate.mantissa().checked_mul(lift).ok_or_else(out_of_range)?;
    let whole = quantity.checked_mul(mantissa / divisor).ok_or_else(out_of_range)?;
    let rest = quantity.checked_mul(mantissa % divisor).ok_or_else(out_of_range)?;
    // Both have the quantity's sign, so rounding the rest alone rounds the sum.
    let rounded = (rest + rest.signum() * (divisor / 2)) / divisor;
    let minor = whole.checked_add(rounded).ok_or_else(out_of_range)?;
    Decimal::try_from_i128_with_scale(minor, digits).map_err(|_| out_of_range())
}

fn out_of_range() -> Error {
    Error::internal("an invoice's sum leaves the range of exact decimals")
}

#[cfg(test)]
mod tests;
