//! The price book: what a unit of a meter costs from an instant on.
//!
//! Invariant: a price never changes; a new one begins at an instant of its own, so the past is never repriced.

use crate::column::{Dec, Ts, clean};
use crate::{Conn, Inserted, Result, StoreError, Taken, on, sql};
use jiff::Timestamp;
use kubeop_core::price::{self, Currency, PriceBook};
use kubeop_core::usage::Meter;
use rust_decimal::Decimal;

/// The origin of prices from the configuration.
pub const ENVIRONMENT: &str = "environment";
/// The origin of prices from callers.
pub const API: &str = "api";

/// A price.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow, serde::Serialize)]
pub struct Price {
    /// What is measured.
    pub meter: String,
    /// From when on.
    #[sqlx(try_from = "Ts")]
    pub effective_from: Timestamp,
    /// Per unit, exact.
    #[sqlx(try_from = "Dec")]
    pub rate: Decimal,
    /// ISO 4217 code.
    pub currency: String,
    /// Who set it: [`ENVIRONMENT`] or [`API`].
    pub origin: String,
}

/// Adds a price; `Taken` is [`Taken::Price`].
pub async fn insert(c: &mut Conn<'_>, row: &Price) -> Result<Inserted> {
    let q = sql!(
        "INSERT INTO price (meter, effective_from, rate, currency, origin) VALUES ($1, $2, $3, $4, $5) \
         ON CONFLICT (meter, effective_from) DO NOTHING"
    );
    let rows = on!(c, x => sqlx::query(q)
        .bind(clean(&row.meter, 200))
        .bind(Ts::from(row.effective_from))
        .bind(Dec::from(row.rate))
        .bind(clean(&row.currency, 10))
        .bind(clean(&row.origin, 20))
        .execute(x)
        .await
        .map(|done| done.rows_affected()))?;
    Ok(Inserted::from_rows(rows, Taken::Price))
}

/// The whole book, by the instant prices begin.
pub async fn list(c: &mut Conn<'_>) -> Result<Vec<Price>> {
    let q = sql!("SELECT meter, effective_from, rate, currency, origin FROM price ORDER BY effective_from");
    let mut book: Vec<Price> = on!(c, x => sqlx::query_as(q).fetch_all(x).await)?;
    // Text is ordered here: databases collate it differently.
    book.sort_by(|a, b| (a.effective_from, &a.meter).cmp(&(b.effective_from, &b.meter)));
    Ok(book)
}

/// The whole book, for arithmetic.
///
/// # Errors
/// `Defect` for a meter or currency that this version does not know.
pub async fn book(c: &mut Conn<'_>) -> Result<PriceBook> {
    let defect = |row: &Price| StoreError::Defect(format!("a price of {:?} in {:?}", row.meter, row.currency));
    let entries = list(c)
        .await?
        .into_iter()
        .map(|row| {
            let meter = Meter::parse(&row.meter).ok_or_else(|| defect(&row))?;
            let currency = Currency::parse(&row.currency).map_err(|_| defect(&row))?;
            Ok(price::Price { meter, effective_from: row.effective_from, rate: row.rate, currency })
        })
        .collect::<Result<Vec<_>>>()?;
    Ok(PriceBook::new(entries))
}
