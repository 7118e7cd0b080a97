//! The price book: what a unit of a meter costs from an instant on.
//!
//! Invariant: a price never changes; a new one begins at an instant of its own, so the past is never repriced.

use crate::column::{Dec, Ts, clean};
use crate::{Conn, Inserted, Result, Taken, on, sql};
use jiff::Timestamp;
use rust_decimal::Decimal;

/// A price.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
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
}

/// Adds a price; `Taken` is [`Taken::Price`].
pub async fn insert(c: &mut Conn<'_>, row: &Price) -> Result<Inserted> {
    let q = sql!(
        "INSERT INTO price (meter, effective_from, rate, currency) VALUES ($1, $2, $3, $4) \
         ON CONFLICT (meter, effective_from) DO NOTHING"
    );
    let rows = on!(c, x => sqlx::query(q)
        .bind(clean(&row.meter, 200))
        .bind(Ts::from(row.effective_from))
        .bind(Dec::from(row.rate))
        .bind(clean(&row.currency, 10))
        .execute(x)
        .await
        .map(|done| done.rows_affected()))?;
    Ok(Inserted::from_rows(rows, Taken::Price))
}

/// The whole book, by the instant prices begin.
pub async fn list(c: &mut Conn<'_>) -> Result<Vec<Price>> {
    let q = sql!("SELECT meter, effective_from, rate, currency FROM price ORDER BY effective_from");
    let mut book: Vec<Price> = on!(c, x => sqlx::query_as(q).fetch_all(x).await)?;
    // Text is ordered here: databases collate it differently.
    book.sort_by(|a, b| (a.effective_from, &a.meter).cmp(&(b.effective_from, &b.meter)));
    Ok(book)
}
